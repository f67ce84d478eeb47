import type { Queries } from './database.js';

/** pgvector's bound of hnsw.ef_search. */
const MOST_EF = 1000;

/** A search through an index. */
export interface ThroughIndex {
  /** How many candidates it keeps, at least as many as are wanted. */
  ef: number;
  /** The length of vectors that the index holds in half precision. */
  half?: number;
  /**
   * The scan goes on until it has enough that satisfy a condition, which pays where more documents than `above` do, `of`
   * about so many (pgvector 0.8 and later).
   */
  filters?: { above: number; of: number };
}

export interface Nearest {
  table: string;
  /** SQL of the query's vector. */
  vector: string;
  /** SQL of how many are wanted. */
  limit: string;
  /** A condition on the documents. */
  among?: string;
}

/** Keys and cosines of the nearest by exact search, best first. It orders by an expression that no index answers. */
export function exactNearest({ table, vector, limit, among }: Nearest): string {
  return `SELECT v.key, -(v.vector <#> ${vector}) AS score FROM ${table} v
    ${among === undefined ? '' : `JOIN documents USING (key) WHERE ${among}`}
    ORDER BY score DESC, v.key LIMIT ${limit}`;
}

/**
 * The same through the index, within a transaction that has said `lookThroughIndex`: its candidates with exact cosines. The
 * condition is looked up for each: of a join PostgreSQL can't tell how many satisfy it, and would leave the index.
 */
export function indexNearest({ table, vector, limit, among }: Nearest, { ef, half }: ThroughIndex): string {
  return `SELECT key, score FROM (
      SELECT v.key, -(v.vector <#> ${vector}) AS score FROM ${table} v
      ${among === undefined ? '' : `WHERE (SELECT ${among} FROM documents WHERE documents.key = v.key)`}
      ORDER BY ${distance(vector, half)} LIMIT ${Math.min(MOST_EF, ef)}) AS candidates
    ORDER BY score DESC, key LIMIT ${limit}`;
}

/** Until the transaction ends: how widely is looked, and that the index is used. */
export async function lookThroughIndex(queries: Queries, index: ThroughIndex): Promise<void> {
  // In their order or not: all candidates are ranked again.
  const goesOn =
    index.filters === undefined ? '' : `, set_config('hnsw.iterative_scan', 'relaxed_order', true)`;
  await queries.query(
    `SELECT set_config('hnsw.ef_search', $1, true), set_config('enable_seqscan', 'off', true)${goesOn}`,
    [String(Math.min(MOST_EF, index.ef))],
  );
}

function distance(vector: string, half: number | undefined): string {
  if (half === undefined) return `v.vector <#> ${vector}`;
  return `v.vector::halfvec(${half}) <#> ${vector}::halfvec(${half})`;
}
