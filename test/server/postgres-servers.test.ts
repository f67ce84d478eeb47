import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import type pg from 'pg';

import { UserError } from '../../base/errors.js';
import { queriesOn } from '../../server/postgres/database.js';
import { openPostgresCollection, type PostgresOptions } from '../../server/postgres/open-collection.js';
import { lockAlone } from '../../server/postgres/open-lock.js';
import type { Filter, Metadata, TrainableCollection } from '../../server/search/collection.js';
import { compileFilter } from '../../server/search/filter.js';
import { eventually } from '../support/eventually.js';
import { isUserError } from './collection-suite.js';
import { fakeInference } from './fake-inference.js';
import { onConnection, startPostgres, withoutPostgres, type PostgresServer } from './postgres-server.js';

const documents = Array.from({ length: 60 }, (_, i) => ({ id: `d${i}`, text: `question number${i}` }));

/** Until a statement that begins so waits for a lock. */
async function untilWaiting(url: string, beginning: string): Promise<void> {
  const waiting = `SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
    AND starts_with(query, $1)`;
  await onConnection(url, (client) =>
    eventually(
      async () => (await client.query(waiting, [beginning])).rows.length > 0,
      `a lock for ${beginning}`,
    ),
  );
}

describe('servers on one PostgreSQL', { skip: withoutPostgres }, () => {
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
    const openModel = async ({ model }: { model: string }) =>
      fakeInference({ seed: model.replace('fake-', '') });
    const collection = await openPostgresCollection({
      ...{ url, inference: fakeInference(), openModel, pollMs: 50 },
      ...options,
    });
    opened.push(collection);
    return collection;
  }

  it('find at once what another one has stored, and nothing that it has deleted', async () => {
    const url = await server.freshDatabase();
    const [a, b] = await Promise.all([open(url), open(url)]);
    await a.upsert(documents);
    const [hit] = await b.search({ query: 'question number7', k: 1, mode: 'dense' });
    assert.equal(hit.id, 'd7');
    await b.delete('d7');
    assert.equal(await a.get('d7'), undefined);
    assert.ok(!(await a.search({ query: 'number7', k: 60, mode: 'lexical' })).some(({ id }) => id === 'd7'));
    while (a.info().documents !== 59) await sleep(10);
  });

  it('follow an activation, and answer each request from one generation', async () => {
    const url = await server.freshDatabase();
    const [a, b] = await Promise.all([open(url), open(url)]);
    await a.upsert(documents);
    let isOver = false;
    let searches = 0;
    // A query that is a document's text has cosine 1 to it, unless its vector is of another model.
    const ask = async (collection: TrainableCollection): Promise<void> => {
      for (; !isOver; searches++) {
        const text = `question number${searches % 60}`;
        const [hit] = await collection.search({ query: text, k: 1, mode: 'dense' });
        assert.equal(hit.text, text);
        assert.ok(Math.abs(hit.score - 1) < 1e-5, `score ${hit.score}`);
      }
    };
    const write = async (): Promise<string[]> => {
      const written: string[] = [];
      for (let i = 0; !isOver; i++) {
        await b.upsert([{ id: `new${i}`, text: `written meanwhile${i}` }]);
        written.push(`new${i}`);
      }
      return written;
    };
    const asking = [ask(a), ask(b)];
    const writing = write();
    const next = await a.prepare({ inference: fakeInference({ seed: 'b' }), job: 1 });
    await a.activate(next);
    while (b.served().model !== 'fake-b') await sleep(10);
    isOver = true;
    await Promise.all(asking);
    assert.ok(searches > 0);
    for (const id of await writing) {
      const { text } = (await a.get(id))!;
      const [hit] = await a.search({ query: text, k: 1, mode: 'dense' });
      assert.equal(hit.id, id, 'what was stored during the switch has a vector of the live generation');
    }
    assert.equal(b.info().generation.model, 'fake-b');
    assert.deepEqual(
      b.generations().map(({ state }) => state),
      ['retired', 'live'],
    );
  });

  it('go on with the earlier model, and say why, where the live one can not be loaded', async () => {
    const url = await server.freshDatabase();
    const log: string[] = [];
    const openModel = async () => fakeInference({ seed: 'another' });
    const a = await open(url, { openModel, log: (line) => log.push(line) });
    const b = await open(url);
    await a.upsert(documents.slice(0, 3));
    await b.activate(await b.prepare({ inference: fakeInference({ seed: 'b' }) }));
    while (log.length === 0) await sleep(10);
    assert.match(log[0], /^fake-b is live with .* this server finds/);
    const [hit] = await a.search({ query: 'question number1', k: 1, mode: 'dense' });
    assert.equal(hit.id, 'd1');
    await assert.rejects(a.upsert([{ id: 'x', text: 'x' }]), isUserError('fingerprint-mismatch'));
  });

  it('do not know a generation again that was discarded while they were looking', async () => {
    const url = await server.freshDatabase();
    let isLooking = false;
    let load = (): void => undefined;
    const openModel = async (): ReturnType<NonNullable<PostgresOptions['openModel']>> => {
      isLooking = true;
      await new Promise<void>((resolve) => (load = resolve));
      return fakeInference({ seed: 'b' });
    };
    // Its next look would put right what this one leaves.
    const a = await open(url, { openModel, pollMs: 1_000 });
    const b = await open(url);
    const { id } = await b.prepare({ inference: fakeInference({ seed: 'c' }) });
    await b.activate(await b.prepare({ inference: fakeInference({ seed: 'b' }) }));
    // It has read the generations, and is loading the live one.
    while (!isLooking) await sleep(10);
    await a.discard(id);
    const models = (): string[] => a.generations().map(({ model }) => model);
    assert.deepEqual(models(), ['fake-a', 'fake-b']);
    load();
    while (a.served().model !== 'fake-b') await sleep(10);
    assert.deepEqual(models(), ['fake-a', 'fake-b']);
  });

  it('know what they have stored, and the vectors they have made, when they were counting and looking', async () => {
    const url = await server.freshDatabase();
    const a = await open(url, { pollMs: 10 });
    await a.upsert(documents.slice(0, 3));
    const building = await a.prepare({ inference: fakeInference({ seed: 'b' }) });
    /** Keeps the vectors of a generation from being counted. */
    const whileLocked = (generation: number, work: () => Promise<void>): Promise<void> =>
      onConnection(url, async (client) => {
        await client.query(`BEGIN; LOCK TABLE vectors_${generation} IN ACCESS EXCLUSIVE MODE`);
        await work();
        await client.query('ROLLBACK');
      });
    let counting: Promise<void> | undefined;
    await whileLocked(building.id, async () => {
      counting = a.discard(99);
      await untilWaiting(url, 'SELECT count');
      await a.upsert(documents.slice(3, 5));
      assert.equal(a.info().documents, 5);
    });
    await counting;
    assert.equal(a.info().documents, 5);

    await whileLocked(a.served().id, async () => {
      counting = a.embedMissing(building);
      await untilWaiting(url, 'SELECT count');
      // Meanwhile it looks again and again.
      await sleep(100);
    });
    await counting;
    assert.deepEqual(
      a.generations().map(({ vectors }) => vectors),
      [5, 5],
    );
  });

  it('never wait in a circle for documents that are replaced while another model embeds them', async () => {
    const url = await server.freshDatabase();
    const a = await open(url);
    // Their keys are not in the order of their ids.
    for (const id of ['b', 'a']) await a.upsert([{ id, text: id }]);
    const building = await a.prepare({ inference: fakeInference({ seed: 'b' }) });
    const both = await onConnection(url, async (client) => {
      await client.query(`BEGIN; SELECT FROM documents WHERE id = 'a' FOR UPDATE`);
      const writing = a.upsert(['a', 'b'].map((id) => ({ id, text: `another ${id}` })));
      await untilWaiting(url, 'INSERT INTO documents');
      const embedding = a.embedMissing(building);
      await untilWaiting(url, `INSERT INTO vectors_${building.id}`);
      await client.query('ROLLBACK');
      return Promise.all([writing, embedding]);
    });
    assert.deepEqual(both[0], { inserted: 0, replaced: 2 });
  });

  it('drop what was retired before, and a generation that is discarded', async () => {
    const url = await server.freshDatabase();
    const a = await open(url);
    await a.upsert(documents.slice(0, 3));
    for (const seed of ['b', 'c']) await a.activate(await a.prepare({ inference: fakeInference({ seed }) }));
    const { id } = await a.prepare({ inference: fakeInference({ seed: 'd' }) });
    const dropped = a.served('fake-d');
    await a.discard(id);
    await assert.rejects(
      a.search({ query: 'x', k: 1, mode: 'dense', generation: dropped }),
      isUserError('unavailable', 'dropped meanwhile'),
    );
    assert.deepEqual(
      a.generations().map(({ model, state, vectors }) => [model, state, vectors]),
      [
        ['fake-b', 'retired', 3],
        ['fake-c', 'live', 3],
      ],
    );
    const tables = await onConnection(url, (client) =>
      client.query(`SELECT FROM pg_tables WHERE tablename LIKE 'vectors\\_%'`),
    );
    assert.equal(tables.rowCount, 2);
    assert.equal((await a.sample(a.served(), 2)).length, 2 * 16);
    await assert.rejects(a.prepare({ inference: fakeInference({ seed: 'c' }) }), isUserError('exists'));
  });

  it('keep what they acknowledged when connections are cut, and say of the rest that it may be sent again', async () => {
    const url = await server.freshDatabase();
    const a = await open(url);
    let isOver = false;
    const acknowledged: string[] = [];
    let refused = 0;
    const write = async (writer: number): Promise<void> => {
      for (let i = 0; !isOver; i++) {
        const id = `w${writer}-${i}`;
        try {
          await a.upsert([{ id, text: `written by${writer} as${i}` }]);
          acknowledged.push(id);
        } catch (error) {
          assert.ok(error instanceof UserError && error.kind === 'unavailable', String(error));
          assert.ok(error.retryAfter! > 0);
          refused++;
        }
      }
    };
    const writing = [write(0), write(1), write(2)];
    const cut = `SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid()
                 AND ($1 OR (state LIKE '%transaction%' OR state = 'active'))`;
    await onConnection(url, async (client) => {
      const told = new Set<number>();
      for (let i = 0; refused < 5; i++) {
        const { rows } = await client.query<{ pid: number }>(cut, [i % 10 === 0]);
        for (const { pid } of rows) told.add(pid);
        await sleep(5);
      }
      // One that was idle may not have had the time to end, and would with what is asked next.
      const ending = 'SELECT FROM pg_stat_activity WHERE pid = ANY ($1::integer[])';
      while ((await client.query(ending, [[...told]])).rowCount) await sleep(5);
    });
    isOver = true;
    await Promise.all(writing);
    for (const id of acknowledged) assert.ok(await a.get(id), id);
    const lacking = await onConnection(url, (client) =>
      client.query('SELECT FROM documents d WHERE NOT EXISTS (SELECT FROM vectors_1 v WHERE v.key = d.key)'),
    );
    assert.equal(lacking.rowCount, 0, 'a document and its vector are stored together, or not at all');
  });

  it('answer again, with all they acknowledged, when PostgreSQL was away', async (test) => {
    if (!server.restart) return test.skip('the PostgreSQL that was given is not stopped');
    const url = await server.freshDatabase();
    const a = await open(url);
    await a.upsert(documents);
    await server.restart.stop();
    const away = isUserError('unavailable', 'PostgreSQL does not answer');
    await assert.rejects(a.upsert([{ id: 'x', text: 'x' }]), away);
    await assert.rejects(a.search({ query: 'x', k: 1, mode: 'dense' }), away);
    await assert.rejects(a.get('d1'), away);
    await server.restart.start();
    assert.equal((await a.list({ limit: 100 })).length, 60);
    await a.upsert([{ id: 'x', text: 'x' }]);
    // The connection that listens comes back as well.
    const b = await open(url);
    await b.activate(await b.prepare({ inference: fakeInference({ seed: 'b' }) }));
    while (a.served().model !== 'fake-b') await sleep(10);
  });

  /** As it is when a server's connection that says that it has the collection open is cut, and a migration comes first. */
  async function withMigration(url: string, work: (client: pg.Client) => Promise<void>): Promise<void> {
    await onConnection(url, async (client) => {
      for (let isLocked = false; !isLocked;) {
        await client.query(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
           WHERE datname = current_database() AND application_name = 'sentence-jepa listener'`,
        );
        isLocked = await lockAlone(queriesOn(client));
      }
      await work(client);
      await client.query('SELECT pg_advisory_unlock_all()');
    });
  }

  it('write nothing while a migration has the collection, and are searched', async () => {
    const url = await server.freshDatabase();
    const a = await open(url);
    await a.upsert(documents);
    const job = await a.addJob({});
    const next = await a.prepare({ inference: fakeInference({ seed: 'b' }) });
    await withMigration(url, async () => {
      const refused = isUserError('unavailable', 'a migration is at work on it');
      for (const write of [
        () => a.upsert([{ id: 'x', text: 'x' }]),
        () => a.delete('d1'),
        () => a.ingests!.queue([[{ id: 'x', text: 'x' }]]),
        () => a.addFeedback([{ query: 'x', id: 'd1', relevant: true }]),
        () => a.addJob({}),
        () => a.changeJob(job, { state: 'failed' }),
        () => a.activate(next),
        () => a.discard(next.id),
        () => open(url),
      ])
        await assert.rejects(write, refused);
      const [hit] = await a.search({ query: 'question number7', k: 1, mode: 'hybrid' });
      assert.equal(hit.id, 'd7');
    });
    await a.upsert([{ id: 'x', text: 'x' }]);
    await a.activate(next);
  });

  it('look at the generations when they can not say that they have the collection open', async () => {
    const url = await server.freshDatabase();
    const a = await open(url);
    const { id } = await a.prepare({ inference: fakeInference({ seed: 'b' }) });
    await withMigration(url, async (client) => {
      await client.query(`UPDATE generations SET state = 'retired' WHERE state = 'live'`);
      await client.query(`UPDATE generations SET state = 'live' WHERE id = $1`, [id]);
      while (a.served().model !== 'fake-b') await sleep(10);
    });
  });

  it('keep migrations off while they begin, however long they embed', async () => {
    const url = await server.freshDatabase();
    const before = await open(url);
    await before.upsert(documents);
    await before.close();
    const inference = fakeInference({ seed: 'b' });
    const got: boolean[] = [];
    await open(url, {
      reembed: true,
      inference: {
        ...inference,
        encode: async (...texts) => {
          got.push(await onConnection(url, (client) => lockAlone(queriesOn(client))));
          return inference.encode(...texts);
        },
      },
    });
    assert.deepEqual(got, [false]);
  });

  it('begin together on an empty database', async () => {
    const url = await server.freshDatabase();
    const all = await Promise.all(Array.from({ length: 4 }, () => open(url)));
    await Promise.all(all.map((each, i) => each.upsert([{ id: String(i), text: `text ${i}` }])));
    assert.equal((await all[0].list({ limit: 9 })).length, 4);
  });

  it('say what is wrong with a database, and never the password', async () => {
    const url = new URL(await server.freshDatabase());
    url.password = 'hunter2';
    const fails = async (change: (url: URL) => void, kind: string, ...words: string[]): Promise<void> => {
      const other = new URL(url);
      change(other);
      await assert.rejects(open(other.href), (error: unknown) => {
        assert.ok(!String(error).includes('hunter2'));
        return isUserError(kind, ...words)(error);
      });
    };
    await fails((other) => (other.pathname = '/nowhere'), 'not-found', 'no such database');
    await fails((other) => (other.port = '1'), 'unavailable', 'ECONNREFUSED', '127.0.0.1:1');
    await assert.rejects(open('mysql://root:hunter2@localhost'), (error: unknown) => {
      assert.ok(!String(error).includes('hunter2'));
      return isUserError('usage', 'postgres://')(error);
    });
    await (await open(url.href)).close();
    await onConnection(url.href, (client) =>
      client.query(`INSERT INTO migrations (name, run_on) VALUES ('9999_later', now())`),
    );
    await fails(() => undefined, 'invalid', '9999_later', 'later version');
  });

  it('refuse characters that PostgreSQL can not hold', async () => {
    const a = await open(await server.freshDatabase());
    const nul = isUserError('invalid', 'U\\+0000');
    await assert.rejects(a.upsert([{ id: 'a', text: 'b\u0000' }]), nul);
    await assert.rejects(a.upsert([{ id: 'a\u0000', text: 'b' }]), nul);
    await assert.rejects(a.upsert([{ id: 'a', text: 'b', metadata: { c: ['\u0000'] } }]), nul);
    await assert.rejects(a.upsert([{ id: 'a', text: 'b', metadata: { c: '\ud800' } }]), nul);
    await assert.rejects(a.addFeedback([{ query: '\u0000', id: 'a', relevant: true }]), nul);
    await a.upsert([{ id: 'a', text: `half \ud800 a pair, 'quoted' \\ café` }]);
    assert.equal((await a.get('a'))!.text, `half \ufffd a pair, 'quoted' \\ café`);
    assert.equal((await a.search({ query: '\u0000 CAFE', k: 1, mode: 'lexical' }))[0].id, 'a');
    assert.equal(await a.get('a\u0000'), undefined);
    assert.equal(await a.delete('a\u0000'), false);
    assert.deepEqual(await a.list({ after: 'a\u0000b', limit: 5 }), []);
  });

  it('filter as the embedded store does', async () => {
    const a = await open(await server.freshDatabase());
    const values = [0, -1.5, 1e21, 0.1, '', '0', 'b', 'ä', true, false, null, [], ['b', '0'], ['']];
    const all = [undefined, {}, ...values.map((value) => ({ f: value }))] as (Metadata | undefined)[];
    await a.upsert(all.map((metadata, i) => ({ id: String(i), text: 'text', metadata })));
    const bounds = ['', '0', 'b', 'b\u0000', 0, 0.1, 1e21];
    const filters = [
      ...values.filter((value) => !Array.isArray(value)).map((value) => ({ f: value })),
      ...['gt', 'gte', 'lt', 'lte', 'eq', 'ne'].flatMap((sign) =>
        bounds.map((it) => ({ f: { [sign]: it } })),
      ),
      ...[{ f: { in: [] } }, { f: { in: ['b', 0, true] } }, { f: { ne: true, lt: 5 } }],
    ] as Filter[];
    for (const filter of filters) {
      const hits = await a.search({ query: 'text', k: 99, mode: 'dense', filter });
      const matches = compileFilter(filter);
      assert.deepEqual(
        hits.map(({ id }) => Number(id)).sort((x, y) => x - y),
        all.flatMap((metadata, i) => (matches(metadata) ? [i] : [])),
        JSON.stringify(filter),
      );
    }
  });

  it('keep feedback and jobs', async () => {
    const url = await server.freshDatabase();
    const [a, b] = [await open(url), await open(url)];
    await a.upsert(documents.slice(0, 5));
    assert.equal(await b.changesSinceLastJob(), 5);
    await a.addFeedback([
      { query: 'q', id: 'd1', relevant: false },
      { query: 'q', id: 'd1', relevant: true },
      { query: 'q', id: 'gone', relevant: true },
    ]);
    const counts = await b.feedbackCounts();
    assert.deepEqual([counts.total, counts.relevant], [2, 2]);
    const parts = await Promise.all((['train', 'dev', 'test'] as const).map((part) => b.relevant(part)));
    assert.deepEqual(parts.flat(), [{ query: 'q', id: 'd1', text: 'question number1' }]);
    const job = await a.addJob({ preset: 'context' });
    await b.changeJob(job, { state: 'done', verdict: { better: true } });
    const [found] = await a.jobs();
    assert.deepEqual(found, { ...job, state: 'done', verdict: { better: true } });
    assert.equal(await a.changesSinceLastJob(), 0);
  });
});
