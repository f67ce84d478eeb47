import type { Document, Metadata } from '../search/collection.js';
import type { Generation } from '../search/store.js';
import type { Queries } from './database.js';
import { addVectors, vectorsTable } from './generations.js';
import { tsvectorOf } from './words.js';

export interface DocumentRow extends Record<string, unknown> {
  id: string;
  text: string;
  metadata: Metadata | null;
}

export function toDocument({ id, text, metadata }: DocumentRow): Document {
  return { id, text, ...(metadata !== null && { metadata }) };
}

/**
 * Stores documents with their vectors (length 1) in the live generation, within a transaction that holds `generations`.
 * Rows are written in the order of their ids: two calls with the same ids wait for each other, and never in a circle.
 *
 * @returns how many were there before
 */
export async function putDocuments(
  queries: Queries,
  generations: readonly Generation[],
  live: number,
  documents: readonly Document[],
  vectors: readonly Float32Array[],
): Promise<number> {
  const rows = await queries.query<WrittenRow>(
    `INSERT INTO documents AS d (id, text, metadata, words)
     SELECT * FROM unnest($1::text[], $2::text[], $3::jsonb[], $4::tsvector[]) AS given (id, text, metadata, words)
     ORDER BY id COLLATE "C"
     ON CONFLICT (id) DO UPDATE SET replaced = d.key, key = excluded.key, text = excluded.text,
       metadata = excluded.metadata, words = excluded.words
     RETURNING id, key, replaced`,
    columnsOf(documents),
  );
  const vectorOf = new Map(documents.map(({ id }, i) => [id, vectors[i]]));
  return putVectors(queries, generations, live, rows, ({ id }) => vectorOf.get(id)!);
}

/** For unnest: ids, texts, metadata and words. */
export function columnsOf(documents: readonly Document[]): [string[], string[], (string | null)[], string[]] {
  return [
    documents.map(({ id }) => id),
    documents.map(({ text }) => text),
    documents.map(({ metadata }) => (metadata === undefined ? null : JSON.stringify(metadata))),
    documents.map(({ text }) => tsvectorOf(text)),
  ];
}

/** A version of a document as it was written, and the one that it replaced. */
export interface WrittenRow extends Record<string, unknown> {
  id: string;
  key: number;
  replaced: number | null;
}

/** Gives versions just written their vectors, and removes those of the versions before. @returns how many there were before */
export async function putVectors(
  queries: Queries,
  generations: readonly Generation[],
  live: number,
  rows: readonly WrittenRow[],
  vectorOf: (row: WrittenRow) => Float32Array,
): Promise<number> {
  const gone = rows.flatMap(({ replaced }) => (replaced === null ? [] : [replaced]));
  await removeVectors(queries, generations, gone);
  await addVectors(
    queries,
    live,
    rows.map(({ key }) => key),
    rows.map(vectorOf),
  );
  return gone.length;
}

/** @returns whether there was such a document */
export async function removeDocument(
  queries: Queries,
  generations: readonly Generation[],
  id: string,
): Promise<boolean> {
  const rows = await queries.query<{ key: number }>('DELETE FROM documents WHERE id = $1 RETURNING key', [
    id,
  ]);
  await removeVectors(
    queries,
    generations,
    rows.map(({ key }) => key),
  );
  return rows.length > 0;
}

async function removeVectors(
  queries: Queries,
  generations: readonly Generation[],
  keys: readonly number[],
): Promise<void> {
  if (keys.length === 0) return;
  for (const { id } of generations)
    await queries.query(`DELETE FROM ${vectorsTable(id)} WHERE key = ANY ($1::bigint[])`, [keys]);
}
