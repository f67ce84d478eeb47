import { randomUUID } from 'node:crypto';

import type { Document } from '../search/collection.js';
import type { Ingest } from '../search/ingests.js';
import type { Generation } from '../search/store.js';
import type { Queries } from './database.js';
import { columnsOf, putVectors, type WrittenRow } from './documents.js';

const DAY_MS = 86_400_000;
/** How long what came of an ingest is kept, and what a client left unfinished. */
const KEPT_MS = 7 * DAY_MS;
const UNFINISHED_MS = DAY_MS;

/** A document that waits: `key` is its version. */
export interface QueuedDocument extends Record<string, unknown> {
  key: number;
  id: string;
  text: string;
}

/** Begins an ingest that nobody sees until it is complete, and forgets those of long ago. */
export async function addIngest(queries: Queries): Promise<number> {
  await queries.query(
    `DELETE FROM ingests WHERE ended < $1 OR (error IS NOT NULL AND created < $1) OR (NOT complete AND created < $2)`,
    [before(KEPT_MS), before(UNFINISHED_MS)],
  );
  const [{ id }] = await queries.query<{ id: number }>(
    'INSERT INTO ingests (created) VALUES ($1) RETURNING id',
    [now()],
  );
  return id;
}

/** Documents of an ingest, which are embedded together; versions in the order given. @returns the name of the batch */
export async function addBatch(
  queries: Queries,
  ingest: number,
  documents: readonly Document[],
): Promise<string> {
  const batch = randomUUID();
  await queries.query(
    `WITH added AS (
       INSERT INTO ingest_documents (key, ingest, batch, id, text, metadata, words)
       SELECT nextval(pg_get_serial_sequence('documents', 'key')), $1, $2, id, text, metadata, words
       FROM (SELECT * FROM unnest($3::text[], $4::text[], $5::jsonb[], $6::tsvector[])
             WITH ORDINALITY AS given (id, text, metadata, words, place) ORDER BY place) AS given)
     UPDATE ingests SET total = total + $7 WHERE id = $1`,
    [ingest, batch, ...columnsOf(documents), documents.length],
  );
  return batch;
}

export async function completeIngest(queries: Queries, ingest: number): Promise<void> {
  await queries.query('UPDATE ingests SET complete = true WHERE id = $1', [ingest]);
  await endIfEmpty(queries, ingest);
}

export async function removeIngest(queries: Queries, ingest: number): Promise<void> {
  await queries.query('DELETE FROM ingests WHERE id = $1', [ingest]);
}

/** What of a batch still waits. */
export async function beginBatch(queries: Queries, ingest: number, batch: string): Promise<QueuedDocument[]> {
  await queries.query('UPDATE ingests SET started = $2 WHERE id = $1 AND started IS NULL', [ingest, now()]);
  return queries.query<QueuedDocument>(
    'SELECT key, id, text FROM ingest_documents WHERE batch = $1 ORDER BY key',
    [batch],
  );
}

/**
 * Moves documents with their vectors (length 1) to the collection, within a transaction that holds `generations`. Those
 * that were deleted meanwhile, or that another worker has moved, are passed over; and so are those of which there is a later
 * version.
 *
 * @returns how many were stored, and how many of these replaced another version
 */
export async function moveDocuments(
  queries: Queries,
  generations: readonly Generation[],
  live: number,
  ingest: number,
  documents: readonly QueuedDocument[],
  vectors: readonly Float32Array[],
): Promise<{ stored: number; replaced: number }> {
  const waiting = await queries.query<{ key: number }>(
    'SELECT key FROM ingest_documents WHERE key = ANY ($1::bigint[]) ORDER BY key FOR UPDATE',
    [documents.map(({ key }) => key)],
  );
  const keys = waiting.map(({ key }) => key);
  // In the order of their ids, as putDocuments writes.
  const rows = await queries.query<WrittenRow>(
    `INSERT INTO documents AS d (key, id, text, metadata, words)
     SELECT key, id, text, metadata, words FROM ingest_documents WHERE key = ANY ($1::bigint[]) ORDER BY id
     ON CONFLICT (id) DO UPDATE SET replaced = d.key, key = excluded.key, text = excluded.text,
       metadata = excluded.metadata, words = excluded.words
     WHERE d.key < excluded.key
     RETURNING id, key, replaced`,
    [keys],
  );
  const vectorOf = new Map(documents.map(({ key }, i) => [key, vectors[i]]));
  const replaced = await putVectors(queries, generations, live, rows, ({ key }) => vectorOf.get(key)!);
  await queries.query('DELETE FROM ingest_documents WHERE key = ANY ($1::bigint[])', [keys]);
  await endIfEmpty(queries, ingest);
  return { stored: rows.length, replaced };
}

/** Takes a document back that waits. @returns whether it did */
export async function unqueue(queries: Queries, id: string): Promise<boolean> {
  const rows = await queries.query<{ ingest: number }>(
    `DELETE FROM ingest_documents
     WHERE key IN (SELECT key FROM ingest_documents WHERE id = $1 ORDER BY key FOR UPDATE) RETURNING ingest`,
    [id],
  );
  const ingests = new Set(rows.map(({ ingest }) => ingest));
  for (const ingest of [...ingests].sort((a, b) => a - b)) await endIfEmpty(queries, ingest);
  return rows.length > 0;
}

/** Notes why a batch was given up; of several the first. */
export async function giveUpBatch(
  queries: Queries,
  ingest: number,
  batch: string,
  reason: string,
): Promise<void> {
  await queries.query(
    `UPDATE ingests SET error = 'documents given up: ' || (SELECT count(*) FROM ingest_documents WHERE batch = $2)
       || ' (send them again): ' || $3
     WHERE id = $1 AND error IS NULL`,
    [ingest, batch, reason],
  );
}

/** The latest first. */
export async function completeIngests(
  queries: Queries,
  which: { id: number } | { limit: number },
): Promise<Ingest[]> {
  const rows = await queries.query<IngestRow>(
    `SELECT i.*, (SELECT count(*) FROM ingest_documents d WHERE d.ingest = i.id) AS waiting FROM ingests i
     WHERE complete AND ($1::integer IS NULL OR id = $1) ORDER BY id DESC LIMIT $2`,
    'id' in which ? [which.id, 1] : [null, which.limit],
  );
  return rows.map(({ id, total, waiting, created, started, ended, error }) => ({
    id,
    state: error !== null ? 'failed' : ended !== null ? 'done' : started !== null ? 'active' : 'queued',
    created,
    ...(started !== null && { started }),
    ...(ended !== null && { ended }),
    documents: { done: total - waiting, total },
    ...(error !== null && { error }),
  }));
}

interface IngestRow extends Record<string, unknown> {
  id: number;
  total: number;
  waiting: number;
  created: string;
  started: string | null;
  ended: string | null;
  error: string | null;
}

/** Whoever removes the last document sees that it was the last: the lock makes those wait who remove others just now. */
async function endIfEmpty(queries: Queries, ingest: number): Promise<void> {
  await queries.query('SELECT FROM ingests WHERE id = $1 FOR NO KEY UPDATE', [ingest]);
  await queries.query(
    `UPDATE ingests SET ended = $2 WHERE id = $1 AND complete AND ended IS NULL
     AND NOT EXISTS (SELECT FROM ingest_documents WHERE ingest = $1)`,
    [ingest, now()],
  );
}

function now(): string {
  return before(0);
}

function before(ms: number): string {
  return new Date(Date.now() - ms).toISOString();
}
