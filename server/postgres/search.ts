import type { DuplicatePair, Filter, Hit, SearchMode } from '../search/collection.js';
import { fuse, HYBRID_CANDIDATES } from '../search/hybrid.js';
import type { Database, Queries } from './database.js';
import { toDocument, type DocumentRow } from './documents.js';
import { filterSql, type Bind } from './filter.js';
import { vectorsTable, vectorText } from './generations.js';
import { exactNearest, indexNearest, lookThroughIndex, type ThroughIndex } from './nearest.js';
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
  /** Instead of exactly, where there is nothing to filter by, or it can. */
  through?: ThroughIndex;
}

/** Of which it is estimated how many satisfy a filter. */
const SAMPLED_DOCUMENTS = 2000;
/** PostgreSQL's LIMIT is a bigint; a k beyond this is all there are. */
const MOST = 2 ** 31;

interface Ranked extends DocumentRow {
  key: number;
  dense: number | null;
  lexical: number | null;
  cosine: number;
}

/**
 * Best first, equal scores by key. Searched exactly where a condition leaves few documents or an index can't go on behind its
 * first candidates, or where so many were deleted or replaced of late, and not vacuumed yet, that too few are left.
 */
export async function search(database: Database, search: StoreSearch): Promise<Hit[]> {
  const { through, filter, exclude = [], mode } = search;
  const isFiltered = filter !== undefined || exclude.length > 0;
  if (through && mode !== 'lexical' && (!isFiltered || through.filters !== undefined)) {
    const hits = await database.transaction(async (queries) => {
      if (filter && !(await satisfyMany(queries, filter, through.filters!))) return undefined;
      await lookThroughIndex(queries, through);
      return rank(queries, search, through);
    });
    if (hits) return hits;
  }
  return (await rank(database, search))!;
}

/** Whether more documents than `above` seem to satisfy a filter, by a sample of all: to count them takes as long as to search. */
async function satisfyMany(
  queries: Queries,
  filter: Filter,
  { above, of }: NonNullable<ThroughIndex['filters']>,
): Promise<boolean> {
  const values: unknown[] = [];
  const condition = filterSql(filter, (value) => `$${values.push(value)}`);
  const percent = Math.min(100, (100 * SAMPLED_DOCUMENTS) / of);
  const [{ sampled, found }] = await queries.query<{ sampled: number; found: number }>(
    `SELECT count(*) AS sampled, count(*) FILTER (WHERE ${condition}) AS found
     FROM documents TABLESAMPLE SYSTEM (${percent})`,
    values,
  );
  return sampled > 0 && (found / sampled) * of > above;
}

/** How many by cosine a search needs. */
export function denseWanted({ mode, k }: { mode: SearchMode; k: number }): number {
  return mode === 'hybrid' ? Math.max(k, HYBRID_CANDIDATES) : k;
}

/**
 * One statement, and so one state of the collection and one generation.
 *
 * @returns undefined where fewer came through the index than were wanted
 */
async function rank(
  queries: Queries,
  search: StoreSearch,
  through?: ThroughIndex,
): Promise<Hit[] | undefined> {
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
  const candidates = denseWanted(search);
  const nearest = { table, vector, among, limit: bind(Math.min(candidates, MOST)) };
  const dense = `dense AS MATERIALIZED (${through ? indexNearest(nearest, through) : exactNearest(nearest)})`;
  if (mode === 'dense') {
    const rows = await queries.query<DocumentRow & { score: number }>(
      `WITH ${dense} SELECT id, text, metadata, score FROM dense JOIN documents USING (key)
       ORDER BY score DESC, key`,
      values,
    );
    return through && rows.length < candidates ? undefined : rows.map(toHit);
  }
  const lexical =
    words === undefined
      ? 'WITH lexical AS (SELECT 0::bigint AS key, 0::float8 AS score WHERE false)'
      : lexicalSql(words, among, candidates, bind);
  const rows = await queries.query<Ranked>(
    `${lexical}, ${dense}
     SELECT key, id, text, metadata, dense.score AS dense, lexical.score AS lexical, -(v.vector <#> ${vector}) AS cosine
     FROM dense FULL JOIN lexical USING (key) JOIN documents USING (key) JOIN ${table} v USING (key)`,
    values,
  );
  if (through && rows.filter(({ dense }) => dense !== null).length < candidates) return undefined;
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
