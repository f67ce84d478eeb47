import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { openPostgresCollection, type PostgresOptions } from '../../server/postgres/open-collection.js';
import { Database } from '../../server/postgres/database.js';
import { indexStatement, VectorIndexes } from '../../server/postgres/vector-indexes.js';
import type { Filter, Hit, SearchRequest, TrainableCollection } from '../../server/search/collection.js';
import { eventually } from '../support/eventually.js';
import { clusters } from './clusters.js';
import { fakeInference } from './fake-inference.js';
import { onConnection, startPostgres, withoutPostgres, type PostgresServer } from './postgres-server.js';

const DIMENSIONS = 32;
const STORED = 1500;
const QUERIES = 50;
const vectors = clusters(STORED + 2 * QUERIES, DIMENSIONS, 5).map(({ vector }) => vector);
/** The text "17" has vector 17. */
const inference = {
  ...fakeInference({ dimensions: DIMENSIONS }),
  async encode(texts: readonly string[]) {
    const rows = new Float32Array(texts.length * DIMENSIONS);
    texts.forEach((text, i) => rows.set(vectors[Number(text)], i * DIMENSIONS));
    return rows;
  },
};
const stored = Array.from({ length: STORED }, (_, i) => ({ id: `d${i}`, text: String(i) }));
const queries = Array.from({ length: QUERIES }, (_, i) => String(STORED + i));

describe('the index on PostgreSQL', { skip: withoutPostgres }, () => {
  let server: PostgresServer;
  const opened: TrainableCollection[] = [];
  before(async () => {
    server = await startPostgres();
  });
  after(async () => {
    await Promise.all(opened.map((collection) => collection.close()));
    await server?.close();
  });

  async function open(url: string, options: Partial<PostgresOptions> = {}): Promise<TrainableCollection> {
    const collection = await openPostgresCollection({
      url,
      inference,
      exactUpTo: 500,
      pollMs: 20,
      ...options,
    });
    opened.push(collection);
    return collection;
  }

  const usesIndex = async (collection: TrainableCollection): Promise<void> => {
    await eventually(() => collection.info().index.kind === 'hnsw', 'the index');
    assert.equal(collection.info().index.building, false);
  };

  const ask = (collection: TrainableCollection, query: string, k = 10): Promise<Hit[]> =>
    collection.search({ query, k, mode: 'dense' });

  async function meanRecall(collection: TrainableCollection, exact: TrainableCollection): Promise<number> {
    let found = 0;
    for (const query of queries) {
      const byId = new Map((await ask(exact, query)).map((hit) => [hit.id, hit]));
      for (const hit of await ask(collection, query)) {
        if (!byId.has(hit.id)) continue;
        found++;
        assert.deepEqual(hit, byId.get(hit.id), 'with the score of exact search');
      }
    }
    return found / (10 * QUERIES);
  }

  const indexOf = (url: string): Promise<{ scans: number; valid: boolean }[]> =>
    onConnection(url, async (client) => {
      const { rows } = await client.query<{ scans: number; valid: boolean }>(
        `SELECT idx_scan AS scans, indisvalid AS valid
         FROM pg_stat_user_indexes JOIN pg_index USING (indexrelid) WHERE indexrelname LIKE '%hnsw'`,
      );
      return rows;
    });

  /** How often the index is scanned while `use` runs: a connection has said so when it has ended. */
  async function scansOf(
    url: string,
    options: Partial<PostgresOptions>,
    use: (collection: TrainableCollection) => Promise<void>,
  ): Promise<number> {
    const before = Number((await indexOf(url)).at(0)?.scans ?? 0);
    const collection = await open(url, options);
    await use(collection);
    await collection.close();
    await onConnection(url, async (client) => {
      const others = `SELECT FROM pg_stat_activity
                      WHERE datname = current_database() AND application_name LIKE 'sentence-jepa%'`;
      while ((await client.query(others)).rowCount! > 0) await sleep(10);
    });
    return Number((await indexOf(url))[0].scans) - before;
  }

  it('is made when what waits in the queue is embedded, unless that is little', async () => {
    const url = await server.freshDatabase();
    const a = await open(url);
    const queue = async (from: number, to: number): Promise<void> =>
      void (await a.ingests!.queue([stored.slice(from, to)]));
    await queue(1000, STORED);
    await a.upsert(stored.slice(0, 1000));
    // Looked for many times.
    await sleep(300);
    assert.deepEqual([await indexOf(url), a.info().index.building], [[], true]);
    const worker = await a.ingests!.work();
    await usesIndex(a);
    assert.equal(a.info().documents, STORED);
    await worker.close(60);

    const other = await server.freshDatabase();
    const b = await open(other);
    await b.ingests!.queue([stored.slice(0, 50)]);
    await b.upsert(stored.slice(500));
    await usesIndex(b);
  });

  it('finds what exact search finds, through deletes and replacements', async () => {
    const url = await server.freshDatabase();
    const [a, exact] = await Promise.all([open(url), open(url, { recall: 1 })]);
    await a.upsert(stored.slice(0, 500));
    assert.deepEqual(a.info().index, { kind: 'exact', vectors: 500, building: false });
    await a.upsert(stored.slice(500));
    assert.deepEqual(a.info().index, { kind: 'exact', vectors: STORED, building: true });
    await usesIndex(a);
    assert.ok((await meanRecall(a, exact)) >= 0.98);
    assert.equal(exact.info().index.kind, 'exact');

    for (let i = 0; i < 200; i++) assert.ok(await a.delete(`d${i}`));
    const others = stored
      .slice(200, 400)
      .map(({ id }, i) => ({ id, text: String(STORED + QUERIES + (i % QUERIES)) }));
    await a.upsert(others);
    const [hit] = await ask(a, others[7].text, 1);
    assert.equal(hit.text, others[7].text, 'found at once');
    assert.ok((await meanRecall(a, exact)) >= 0.98);
    for (const { id } of await ask(a, '3')) assert.ok(Number(id.slice(1)) >= 200, 'deleted');
    assert.deepEqual(
      (await a.search({ query: '900', k: 5, mode: 'dense', exclude: ['d900'] })).map(({ id }) => id),
      (await exact.search({ query: '900', k: 5, mode: 'dense', exclude: ['d900'] })).map(({ id }) => id),
    );
    const hybrid = { query: '900', k: 3, mode: 'hybrid' as const };
    assert.deepEqual(await a.search(hybrid), await exact.search(hybrid));
    assert.equal((await ask(a, '900', 1300)).length, 1300, 'more than an index gives');
  });

  it('is scanned by searches, and not by exact ones', async () => {
    const url = await server.freshDatabase();
    // Where PostgreSQL avoids to scan the table, as it does of itself when that is large.
    await onConnection(url, (client) =>
      client.query(`ALTER DATABASE ${new URL(url).pathname.slice(1)} SET enable_seqscan = off`),
    );
    const all = async (collection: TrainableCollection): Promise<void> => {
      for (const query of queries) await ask(collection, query);
    };
    await scansOf(url, {}, async (collection) => {
      await collection.upsert(stored);
      await usesIndex(collection);
    });
    const through = async (collection: TrainableCollection): Promise<void> => {
      await usesIndex(collection);
      await all(collection);
    };
    assert.equal(await scansOf(url, {}, through), QUERIES);
    assert.equal(await scansOf(url, { recall: 1 }, all), 0);
  });

  it('is scanned with a filter that many documents satisfy, where pgvector can go on, and finds what exact search finds', async () => {
    const url = await server.freshDatabase();
    const [a, exact] = await Promise.all([open(url), open(url, { recall: 1 })]);
    await a.upsert(stored.map((each, i) => ({ ...each, metadata: { half: i % 2, tenth: i % 10 } })));
    await usesIndex(a);
    const find = async (of: TrainableCollection, query: string, more: Partial<SearchRequest>) =>
      (await of.search({ query, k: 10, mode: 'dense', ...more })).map(({ id }) => id);
    const requests: Partial<SearchRequest>[] = [
      { filter: { half: 1 } },
      { filter: { tenth: 3 } },
      { exclude: ['d3', 'd900'] },
    ];
    for (const more of requests) {
      let found = 0;
      for (const query of queries) {
        const ids = await find(exact, query, more);
        found += (await find(a, query, more)).filter((id) => ids.includes(id)).length;
      }
      assert.ok(found / (10 * QUERIES) >= 0.98, `${JSON.stringify(more)}: recall ${found / (10 * QUERIES)}`);
    }
    await Promise.all([a.close(), exact.close()]);
    const canGoOn = await onConnection(url, async (client) => {
      const sql = `SELECT extversion FROM pg_extension WHERE extname = 'vector'`;
      const [major, minor] = (await client.query<{ extversion: string }>(sql)).rows[0].extversion.split('.');
      return Number(major) > 0 || Number(minor) >= 8;
    });
    const scans = (filter: Filter): Promise<number> =>
      scansOf(url, {}, async (collection) => {
        await usesIndex(collection);
        for (const query of queries) await find(collection, query, { filter });
      });
    await scans({});
    assert.equal(await scans({ half: 1 }), canGoOn ? QUERIES : 0);
    assert.equal(await scans({ tenth: 3 }), 0, 'few satisfy it');
  });

  it('answers with as many as there are when most of its candidates were deleted', async () => {
    const url = await server.freshDatabase();
    const a = await open(url, { exactUpTo: 300 });
    await onConnection(url, (client) =>
      client.query('ALTER TABLE vectors_1 SET (autovacuum_enabled = false)'),
    );
    await a.upsert(stored);
    await usesIndex(a);
    const near = await ask(a, '700', 1100);
    for (const { id } of near) await a.delete(id);
    assert.equal(a.info().index.kind, 'hnsw');
    assert.equal((await ask(a, '700', 100)).length, 100);
  });

  it('is made by one of two servers and used by both', async () => {
    const url = await server.freshDatabase();
    const log: string[] = [];
    const options = { log: (line: string) => log.push(line) };
    const [a, b] = await Promise.all([open(url, options), open(url, options)]);
    await a.upsert(stored);
    await Promise.all([usesIndex(a), usesIndex(b)]);
    assert.equal((await indexOf(url)).length, 1);
    const { rows } = await onConnection(url, (client) => client.query('SELECT vectors FROM chosen_efs'));
    assert.deepEqual(rows, [{ vectors: STORED }]);
    assert.deepEqual(log, []);
  });

  it('is made again when making it was interrupted', async () => {
    const url = await server.freshDatabase();
    const log: string[] = [];
    const a = await open(url, { log: (line) => log.push(line) });
    await onConnection(url, async (client) => {
      // A transaction that has written keeps the index from being finished.
      await client.query('BEGIN; LOCK TABLE vectors_1 IN ROW EXCLUSIVE MODE');
      await a.upsert(stored);
      while ((await indexOf(url)).length === 0) await sleep(10);
      assert.deepEqual(a.info().index, { kind: 'exact', vectors: STORED, building: true });
      assert.equal((await ask(a, '7', 1))[0].id, 'd7');
      await onConnection(url, (other) =>
        other.query(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
           WHERE datname = current_database() AND query LIKE 'CREATE INDEX%'`,
        ),
      );
      while (log.length === 0) await sleep(10);
      assert.match(log[0], /searching exactly: .*terminat/);
      assert.equal((await indexOf(url))[0].valid, false);
      await client.query('ROLLBACK');
    });
    await usesIndex(a);
    assert.deepEqual(
      (await indexOf(url)).map(({ valid }) => valid),
      [true],
    );
    assert.equal(log.length, 1);
  });

  it('is looked at while another server drops it and makes it again', async () => {
    const url = await server.freshDatabase();
    await open(url);
    const database = new Database(url);
    const indexes = new VectorIndexes(database, { recall: 0.95, exactUpTo: 0 });
    let isMaking = true;
    const look = async (): Promise<void> => {
      while (isMaking) await indexes.follow([], 1);
    };
    try {
      const looking = Promise.all([look(), look(), look()]);
      await onConnection(url, async (client) => {
        for (let i = 0; i < 100; i++) {
          await client.query(indexStatement('vectors_1'));
          await client.query('DROP INDEX CONCURRENTLY vectors_1_hnsw');
        }
      }).finally(() => (isMaking = false));
      await looking;
    } finally {
      await database.close();
    }
  });

  it('does not keep a generation from being dropped while it is made', async () => {
    const url = await server.freshDatabase();
    const log: string[] = [];
    const a = await open(url, { log: (line) => log.push(line) });
    await onConnection(url, async (client) => {
      await client.query('BEGIN; LOCK TABLE vectors_1 IN ROW EXCLUSIVE MODE');
      await a.upsert(stored);
      while ((await indexOf(url)).length === 0) await sleep(10);
      const other = { ...inference, fingerprint: 'f'.repeat(64), name: 'fake-b' };
      await a.activate(await a.prepare({ inference: other }));
      const dropping = a.discard(1);
      while (log.length === 0) await sleep(10);
      assert.match(log[0], /canceling/);
      await client.query('ROLLBACK');
      await dropping;
    });
    assert.deepEqual(
      a.generations().map(({ model }) => model),
      ['fake-b'],
    );
    await usesIndex(a);
  });

  it('has its ef chosen again when the collection has grown by a quarter', async () => {
    const url = await server.freshDatabase();
    const a = await open(url);
    await a.upsert(stored.slice(0, 1000));
    await usesIndex(a);
    const chosenOver = async (): Promise<number> => {
      const { rows } = await onConnection(url, (client) =>
        client.query<{ vectors: number }>('SELECT vectors FROM chosen_efs'),
      );
      return rows[0].vectors;
    };
    assert.equal(await chosenOver(), 1000);
    await a.upsert(stored.slice(1000));
    while ((await chosenOver()) !== STORED) await sleep(10);
  });
});
