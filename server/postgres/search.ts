import type { DuplicatePair, Filter, Hit, SearchMode } from '../search/collection.js';
import { fuse, HYBRID_CANDIDATES } from '../search/hybrid.js';
import type { Queries } from './database.js';
import { toDocument, type DocumentRow } from './documents.js';
import { filterSql, type Bind } from './filter.js';
import { vectorsTable, vectorText } from './generations.js';
import { tsqueryOf } from './words.js';

export interface StoreSearch {
  generation: number;
  query: string;
  /** Length 1; lexical search needs none. */
  vector?: Float32Array;
  k: number;
  mode: SearchMode;
  lexicalWeight: number;
  filter?: Filter;
  exclude?: readonly string[];
}

/** PostgreSQL's LIMIT is a bigint; a k beyond this is all there are. */
const MOST = 2 ** 31;

interface Ranked extends DocumentRow {
  key: number;
  dense: number | null;
  lexical: number | null;
  cosine: number;
}

/** One statement, and so one state of the collection and one generation. Best first, equal scores by key. */
export async function search(queries: Queries, search: StoreSearch): Promise<Hit[]> {
  const { mode, k, lexicalWeight } = search;
  const values: unknown[] = [];
  const bind: Bind = (value) => `$${values.push(value)}`;
  const among = conditionOf(search, bind);
  const words = mode === 'dense' ? undefined : tsqueryOf(search.query);
  if (mode === 'lexical') {
    if (words === undefined) return [];
    const rows = await queries.query<DocumentRow & { score: number }>(
      `${lexicalSql(words, among, k, bind)} SELECT id, text, metadata, score FROM lexical JOIN documents USING (key)
       ORDER BY score DESC, key`,
      values,
    );
    return rows.map(toHit);
  }
  if (!search.vector) throw new Error(`${mode} search needs the query's vector`);
  const table = vectorsTable(search.generation);
  const vector = `${bind(vectorText(search.vector))}::vector`;
  const dense = (limit: number): string =>
    `dense AS MATERIALIZED (
       SELECT v.key, -(v.vector <#> ${vector}) AS score FROM ${table} v
       ${among === undefined ? '' : `JOIN documents USING (key) WHERE ${among}`}
       ORDER BY v.vector <#> ${vector}, v.key LIMIT ${bind(Math.min(limit, MOST))})`;
  if (mode === 'dense') {
    const rows = await queries.query<DocumentRow & { score: number }>(
      `WITH ${dense(k)} SELECT id, text, metadata, score FROM dense JOIN documents USING (key)
       ORDER BY score DESC, key`,
      values,
    );
    return rows.map(toHit);
  }
  const candidates = Math.max(k, HYBRID_CANDIDATES);
  const lexical =
    words === undefined
      ? 'WITH lexical AS (SELECT 0::bigint AS key, 0::float8 AS score WHERE false)'
      : lexicalSql(words, among, candidates, bind);
  const rows = await queries.query<Ranked>(
    `${lexical}, ${dense(candidates)}
     SELECT key, id, text, metadata, dense.score AS dense, lexical.score AS lexical, -(v.vector <#> ${vector}) AS cosine
     FROM dense FULL JOIN lexical USING (key) JOIN documents USING (key) JOIN ${table} v USING (key)`,
    values,
  );
  return fuseRows(rows, lexicalWeight, k);
}

function fuseRows(rows: readonly Ranked[], lexicalWeight: number, k: number): Hit[] {
  const byKey = new Map(rows.map((row) => [row.key, row]));
  const ranking = (of: 'dense' | 'lexical'): { key: number; score: number }[] =>
    rows
      .flatMap(({ key, [of]: score }) => (score === null ? [] : [{ key, score }]))
      .sort((a, b) => b.score - a.score || a.key - b.key);
  const fused = fuse(ranking('dense'), ranking('lexical'), (key) => byKey.get(key)!.cosine, lexicalWeight);
  return fused.slice(0, k).map(({ key, score }) => toHit({ ...byKey.get(key)!, score }));
}

/**
 * The best by ts_rank_cd, divided by 1 + log(length): how often and how near together the words stand. Unlike BM25 it does
 * not know which of them are rare.
 */
function lexicalSql(words: string, among: string | undefined, limit: number, bind: Bind): string {
  const query = `${bind(words)}::tsquery`;
  return `WITH lexical AS MATERIALIZED (
    SELECT key, ts_rank_cd(words, ${query}, 1)::float8 AS score FROM documents
    WHERE words @@ ${query} ${among === undefined ? '' : `AND ${among}`}
    ORDER BY score DESC, key LIMIT ${bind(Math.min(limit, MOST))})`;
}

function conditionOf({ filter, exclude = [] }: StoreSearch, bind: Bind): string | undefined {
  const conditions = [
    ...(filter ? [filterSql(filter, bind)] : []),
    ...(exclude.length > 0 ? [`id <> ALL (${bind(exclude)}::text[])`] : []),
  ];
  return conditions.length > 0 ? conditions.join(' AND ') : undefined;
}

function toHit({ score, ...row }: DocumentRow & { score: number }): Hit {
  return { ...toDocument(row), score };
}

/** Every pair is compared: n² / 2 products of vectors. */
export async function pairs(
  queries: Queries,
  generation: number,
  threshold: number,
  limit: number,
): Promise<DuplicatePair[]> {
  const table = vectorsTable(generation);
  const rows = await queries.query<Record<'id_a' | 'text_a' | 'id_b' | 'text_b', string> & PairRest>(
    `WITH pairs AS MATERIALIZED (
       SELECT a.key AS a, b.key AS b, -(a.vector <#> b.vector) AS score FROM ${table} a JOIN ${table} b ON a.key < b.key
       WHERE -(a.vector <#> b.vector) >= $1 ORDER BY score DESC, a, b LIMIT $2)
     SELECT a.id AS id_a, a.text AS text_a, a.metadata AS metadata_a,
            b.id AS id_b, b.text AS text_b, b.metadata AS metadata_b, score
     FROM pairs JOIN documents a ON a.key = pairs.a JOIN documents b ON b.key = pairs.b
     ORDER BY score DESC, pairs.a, pairs.b`,
    [threshold, Math.min(limit, MOST)],
  );
  return rows.map((row) => ({
    a: toDocument({ id: row.id_a, text: row.text_a, metadata: row.metadata_a }),
    b: toDocument({ id: row.id_b, text: row.text_b, metadata: row.metadata_b }),
    score: row.score,
  }));
}

interface PairRest extends Record<string, unknown> {
  metadata_a: DocumentRow['metadata'];
  metadata_b: DocumentRow['metadata'];
  score: number;
}
