import { fingerprintMismatch } from '../search/served.js';
import type { Generation, GenerationModel } from '../search/store.js';
import type { Queries } from './database.js';

/** A generation's vectors (length 1). Its id is a number from the database, never a user's word. */
export function vectorsTable(generation: number): string {
  if (!Number.isSafeInteger(generation)) throw new Error(`generation ${String(generation)}`);
  return `vectors_${generation}`;
}

export function allGenerations(queries: Queries): Promise<Generation[]> {
  return queries.query<Generation & Record<string, unknown>>('SELECT * FROM generations ORDER BY id');
}

/** Within a transaction: none of them changes until it ends. Writers share this, and searches don't need it. */
export function sharedGenerations(queries: Queries): Promise<Generation[]> {
  return queries.query<Generation & Record<string, unknown>>(
    'SELECT * FROM generations ORDER BY id FOR SHARE',
  );
}

/** Within a transaction: until it ends nobody else writes documents or changes a generation; searches go on. */
export async function holdGenerations(queries: Queries): Promise<void> {
  await queries.query('LOCK TABLE generations IN EXCLUSIVE MODE');
}

export async function createGeneration(queries: Queries, model: GenerationModel): Promise<Generation> {
  const { name, fingerprint, dimensions, source = null, job = null } = model;
  const [generation] = await queries.query<Generation & Record<string, unknown>>(
    `INSERT INTO generations (model, fingerprint, dimensions, state, source, job, created)
     SELECT $1, $2, $3,
            CASE WHEN EXISTS (SELECT FROM generations WHERE state = 'live') THEN 'building' ELSE 'live' END,
            $4, $5, $6
     RETURNING *`,
    [name, fingerprint, dimensions, source, job, new Date().toISOString()],
  );
  await queries.query(vectorsTableSql(generation.id, dimensions));
  return generation;
}

/** Whether a database has the table of generations: one that nothing was ever migrated in has none. */
export async function hasGenerations(queries: Queries): Promise<boolean> {
  const [{ exists }] = await queries.query<{ exists: boolean }>(
    `SELECT to_regclass('generations') IS NOT NULL AS exists`,
  );
  return exists;
}

/** Makes the table of a generation's vectors. */
export function vectorsTableSql(generation: number, dimensions: number): string {
  return `CREATE TABLE ${vectorsTable(generation)} (key bigint PRIMARY KEY, vector vector(${Number(dimensions)}) NOT NULL)`;
}

/** Puts a generation live; the one that was is kept for a rollback, those retired earlier are dropped. */
export async function putLive(queries: Queries, generation: number): Promise<void> {
  for (const { id, state } of await allGenerations(queries))
    if (state === 'retired' && id !== generation) await dropGeneration(queries, id);
  await queries.query(`UPDATE generations SET state = 'retired' WHERE state = 'live' AND id <> $1`, [
    generation,
  ]);
  await queries.query(`UPDATE generations SET state = 'live' WHERE id = $1`, [generation]);
}

/** Unless it is live. */
export async function dropGeneration(queries: Queries, generation: number): Promise<void> {
  const dropped = await queries.query(
    `DELETE FROM generations WHERE id = $1 AND state <> 'live' RETURNING id`,
    [generation],
  );
  if (dropped.length === 0) return;
  const table = vectorsTable(generation);
  // An index that is being made there would be waited for, and waits for this transaction.
  await queries.query(
    'SELECT pg_cancel_backend(pid) FROM pg_stat_progress_create_index WHERE relid = $1::regclass',
    [table],
  );
  await queries.query(`DROP TABLE ${table}`);
}

/** The generation whose vectors are this model's: the live one, one to go on building, or an added one. */
export async function chooseGeneration(
  queries: Queries,
  model: GenerationModel,
  reembed: boolean,
): Promise<Generation> {
  const generations = await allGenerations(queries);
  const live = generations.find(({ state }) => state === 'live');
  const ours = generations.find(({ fingerprint }) => fingerprint === model.fingerprint);
  if (live && live.id !== ours?.id && !reembed) throw fingerprintMismatch(live, model);
  if (ours && model.source !== undefined)
    await queries.query('UPDATE generations SET source = $1 WHERE id = $2 AND job IS NULL', [
      model.source,
      ours.id,
    ]);
  return ours ?? createGeneration(queries, model);
}

/** Documents beyond a key that have no vector in a generation, in the order of their keys. */
export function missing(
  queries: Queries,
  generation: number,
  after: number,
  limit: number,
): Promise<{ key: number; text: string }[]> {
  return queries.query(
    `SELECT key, text FROM documents d
     WHERE key > $1 AND NOT EXISTS (SELECT FROM ${vectorsTable(generation)} v WHERE v.key = d.key)
     ORDER BY key LIMIT $2`,
    [after, limit],
  );
}

export async function countMissing(queries: Queries, generation: number): Promise<number> {
  const [{ count }] = await queries.query<{ count: number }>(
    `SELECT count(*) FROM documents d
     WHERE NOT EXISTS (SELECT FROM ${vectorsTable(generation)} v WHERE v.key = d.key)`,
  );
  return count;
}

/**
 * Vectors that a generation lacks. A document may have gone meanwhile, and its vector goes nowhere then: the lock on its row
 * makes whoever removes it wait, and see the vector. Rows are locked in the order of their ids, as writers do: never in a circle.
 */
export async function addVectors(
  queries: Queries,
  generation: number,
  keys: readonly number[],
  rows: readonly Float32Array[],
): Promise<void> {
  await queries.query(
    `INSERT INTO ${vectorsTable(generation)} (key, vector)
     SELECT d.key, given.vector::vector FROM unnest($1::bigint[], $2::text[]) AS given (key, vector)
     JOIN documents d ON d.key = given.key ORDER BY d.id FOR KEY SHARE OF d
     ON CONFLICT DO NOTHING`,
    [keys, rows.map(vectorText)],
  );
}

/** pgvector's text form; every float32 comes back as it went in. */
export function vectorText(vector: Float32Array): string {
  return `[${vector.join(',')}]`;
}

export function parseVector(text: string): Float32Array {
  return Float32Array.from(JSON.parse(text) as number[]);
}
