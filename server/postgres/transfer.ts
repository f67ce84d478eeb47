import type pg from 'pg';

import { UserError } from '../../base/errors.js';
import type { Feedback } from '../search/feedback-table.js';
import type { Generation } from '../search/store.js';
import type { KeyedVector } from '../search/vectors.js';
import {
  tableOf,
  type Keyed,
  type KeptFeedback,
  type KeptJob,
  type KeyedDocument,
  type LastKeys,
  type StoreReader,
  type StoreWriter,
  type TransferSource,
  type TransferTarget,
} from '../transfer/stores.js';
import { checkTarget } from '../transfer/transfer.js';
import { checkCharacters } from './characters.js';
import { Database, queriesOn, type Queries, type Row } from './database.js';
import { columnsOf, toDocument, type DocumentRow } from './documents.js';
import { addVectors, allGenerations, hasGenerations, vectorsTableSql } from './generations.js';
import { lockAlone } from './open-lock.js';
import { migrate } from './schema.js';

/**
 * The collection in a database, for as long as `use` runs.
 *
 * @throws UserError `not-found` where there is none
 */
export async function withPostgresSource<T>(
  url: string,
  use: (source: TransferSource) => Promise<T>,
): Promise<T> {
  return onOwnConnection(url, '--from', async (client, database) => {
    const queries = queriesOn(client);
    if (!(await hasCollection(queries)))
      throw new UserError('not-found', `${database.name}: expected a collection, found none`);
    await migrate(database);
    let isHeld = false;
    return use({
      name: database.name,
      async hold() {
        isHeld ||= await lockAlone(queries);
        return isHeld;
      },
      async snapshot(look) {
        await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
        const result = await look(new PostgresReader(queries));
        await client.query('COMMIT');
        return result;
      },
    });
  });
}

/**
 * A database that becomes the collection of `source`; no other migration and no server has it open while `use` runs, and no
 * server opens it before it is finished.
 *
 * @throws UserError `exists` when it holds a collection, or an unfinished one from elsewhere; `unavailable` when a server or
 *   another migration has it open
 */
export async function withPostgresTarget<T>(
  url: string,
  source: string,
  use: (target: TransferTarget) => Promise<T>,
): Promise<T> {
  return onOwnConnection(url, '--to', async (client, database) => {
    const queries = queriesOn(client);
    // All is written on the connection that has the lock: without the one there is not the other.
    if (!(await lockAlone(queries)))
      throw new UserError(
        'unavailable',
        `${database.name}: another migration is at work on it, or servers have it open. Wait for that, stop those, or name another database`,
      );
    await migrate(database);
    const [record] = await queries.query<{ source: string; finished: string | null }>(
      'SELECT source, finished FROM migrated_from',
    );
    checkTarget(database.name, source, {
      holdsCollection: await hasCollection(queries),
      ...(record && { record: { source: record.source, isFinished: record.finished !== null } }),
      wayOut: 'name an empty database (createdb makes one)',
    });
    if (!record)
      await queries.query('INSERT INTO migrated_from (source, begun) VALUES ($1, $2)', [
        source,
        new Date().toISOString(),
      ]);
    return use({
      name: database.name,
      store: new PostgresWriter(queries, client),
      async finish() {
        // Until PostgreSQL looks by itself it would plan the first searches for empty tables.
        await queries.query('ANALYZE');
        await queries.query('UPDATE migrated_from SET finished = $1', [new Date().toISOString()]);
      },
    });
  });
}

async function onOwnConnection<T>(
  url: string,
  option: string,
  use: (client: pg.Client, database: Database) => Promise<T>,
): Promise<T> {
  const database = new Database(url, option);
  try {
    return await database.saying(() =>
      database.withOwnClient(new AbortController().signal, (client) => use(client, database), 'migration'),
    );
  } finally {
    await database.close();
  }
}

async function hasCollection(queries: Queries): Promise<boolean> {
  return (await hasGenerations(queries)) && (await allGenerations(queries)).length > 0;
}

class PostgresReader implements StoreReader {
  constructor(protected readonly queries: Queries) {}

  generations(): Promise<Generation[]> {
    return allGenerations(this.queries);
  }

  async count(of: Keyed): Promise<number> {
    const [{ count }] = await this.queries.query<{ count: number }>(`SELECT count(*) FROM ${tableOf(of)}`);
    return count;
  }

  async keys(of: Keyed, after: number, limit: number): Promise<number[]> {
    const sql = `SELECT key FROM ${tableOf(of)} WHERE key > $1 ORDER BY key LIMIT $2`;
    return (await this.queries.query<{ key: number }>(sql, [after, limit])).map(({ key }) => key);
  }

  async present(of: Keyed, keys: readonly number[]): Promise<number[]> {
    return (await this.ofKeys<{ key: number }>(`SELECT key FROM ${tableOf(of)}`, keys)).map(({ key }) => key);
  }

  async documents(keys: readonly number[]): Promise<KeyedDocument[]> {
    const rows = await this.ofKeys<DocumentRow & { key: number }>(
      'SELECT key, id, text, metadata FROM documents',
      keys,
    );
    return rows.map((row) => ({ key: row.key, ...toDocument(row) }));
  }

  async vectors({ id }: Generation, keys: readonly number[]): Promise<KeyedVector[]> {
    const rows = await this.ofKeys<{ key: number; bytes: Buffer }>(
      `SELECT key, vector_send(vector) AS bytes FROM ${tableOf({ vectorsOf: id })}`,
      keys,
    );
    return rows.map(({ key, bytes }) => ({ key, vector: fromBinary(bytes) }));
  }

  feedback(after: Pick<Feedback, 'query' | 'id'>, limit: number): Promise<KeptFeedback[]> {
    return this.queries.query<KeptFeedback & Row>(
      `SELECT query, document AS id, relevant, part, created FROM feedback
       WHERE (query, document) > ($1, $2) ORDER BY query, document LIMIT $3`,
      [after.query, after.id, limit],
    );
  }

  jobs(): Promise<KeptJob[]> {
    return this.queries.query<KeptJob>('SELECT * FROM jobs ORDER BY id');
  }

  async lastKeys(): Promise<LastKeys> {
    const [keys] = await this.queries.query<LastKeys & Row>(
      `SELECT ${SEQUENCES.map(([table, column]) => `coalesce(pg_sequence_last_value(${sequence(table, column)}), 0) AS ${table}`).join(', ')}`,
    );
    return keys;
  }

  async waiting(): Promise<number> {
    const [{ count }] = await this.queries.query<{ count: number }>('SELECT count(*) FROM ingest_documents');
    return count;
  }

  private ofKeys<R extends Row>(select: string, keys: readonly number[]): Promise<R[]> {
    return this.queries.query<R>(`${select} WHERE key = ANY ($1::bigint[]) ORDER BY key`, [keys]);
  }
}

class PostgresWriter extends PostgresReader implements StoreWriter {
  constructor(
    queries: Queries,
    private readonly client: pg.Client,
  ) {
    super(queries);
  }

  /** PostgreSQL holds any number. */
  checkRoom(): void {}

  async setGenerations(generations: readonly Generation[]): Promise<void> {
    const there = new Set((await this.generations()).map(({ id }) => id));
    const wanted = new Set(generations.map(({ id }) => id));
    await this.transaction(async () => {
      for (const id of there)
        if (!wanted.has(id)) {
          await this.queries.query('DELETE FROM generations WHERE id = $1', [id]);
          await this.queries.query(`DROP TABLE ${tableOf({ vectorsOf: id })}`);
        }
      // There is never more than one live.
      await this.queries.query(`UPDATE generations SET state = 'retired'`);
      for (const { id, model, fingerprint, dimensions, state, source, job, created } of generations) {
        if (!there.has(id)) await this.queries.query(vectorsTableSql(id, dimensions));
        await this.queries.query(
          `INSERT INTO generations (id, model, fingerprint, dimensions, state, source, job, created)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
           ON CONFLICT (id) DO UPDATE SET model = $2, fingerprint = $3, state = $5, source = $6, job = $7`,
          [id, model, fingerprint, dimensions, state, source, job, created],
        );
      }
    });
  }

  async addDocuments(documents: readonly KeyedDocument[]): Promise<void> {
    documents.forEach(checkCharacters);
    await this.queries.query(
      `INSERT INTO documents (key, id, text, metadata, words)
       SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::jsonb[], $5::tsvector[])`,
      [documents.map(({ key }) => key), ...columnsOf(documents)],
    );
  }

  async removeDocuments(keys: readonly number[]): Promise<void> {
    const generations = await this.generations();
    await this.transaction(async () => {
      for (const of of ['documents', ...generations.map(({ id }) => ({ vectorsOf: id }))] as Keyed[])
        await this.queries.query(`DELETE FROM ${tableOf(of)} WHERE key = ANY ($1::bigint[])`, [keys]);
    });
  }

  async addVectors({ id }: Generation, vectors: readonly KeyedVector[]): Promise<void> {
    await addVectors(
      this.queries,
      id,
      vectors.map(({ key }) => key),
      vectors.map(({ vector }) => vector),
    );
  }

  async replaceFeedback(pages: AsyncIterable<readonly KeptFeedback[]>): Promise<void> {
    await this.transaction(async () => {
      await this.queries.query('DELETE FROM feedback');
      for await (const page of pages) {
        for (const { id, query } of page) checkCharacters({ id, text: query });
        await this.queries.query(
          `INSERT INTO feedback (query, document, relevant, part, created)
           SELECT * FROM unnest($1::text[], $2::text[], $3::boolean[], $4::text[], $5::text[])`,
          [
            page.map(({ query }) => query),
            page.map(({ id }) => id),
            page.map(({ relevant }) => relevant),
            page.map(({ part }) => part),
            page.map(({ created }) => created),
          ],
        );
      }
    });
  }

  async replaceJobs(jobs: readonly KeptJob[]): Promise<void> {
    await this.transaction(async () => {
      await this.queries.query('DELETE FROM jobs');
      for (const { id, request, changes, state, created, started, ended, error, verdict } of jobs)
        await this.queries.query(
          `INSERT INTO jobs (id, request, changes, state, created, started, ended, error, verdict)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
          [id, request, changes, state, created, started, ended, error, verdict],
        );
    });
  }

  async setLastKeys(keys: LastKeys): Promise<void> {
    for (const [table, column] of SEQUENCES)
      // One that gave none yet begins at 1.
      if (keys[table] > 0)
        await this.queries.query(`SELECT setval(${sequence(table, column)}, $1)`, [keys[table]]);
  }

  private async transaction(work: () => Promise<void>): Promise<void> {
    await this.client.query('BEGIN');
    await work();
    // Where something throws the connection ends, and the transaction with it.
    await this.client.query('COMMIT');
  }
}

const SEQUENCES = [
  ['documents', 'key'],
  ['generations', 'id'],
  ['jobs', 'id'],
] as const;

function sequence(table: string, column: string): string {
  return `pg_get_serial_sequence('${table}', '${column}')::regclass`;
}

/** pgvector's binary form: dimensions and a 0, two bytes each, then float32, all big-endian. */
function fromBinary(bytes: Buffer): Float32Array {
  const vector = new Float32Array(bytes.readUInt16BE(0));
  for (let i = 0; i < vector.length; i++) vector[i] = bytes.readFloatBE(4 + 4 * i);
  return vector;
}
