import path from 'node:path';

import type pg from 'pg';

import { UserError } from '../base/errors.js';
import { mean } from '../evaluation/ranking-metrics.js';
import { queriesOn, type Row } from '../server/postgres/database.js';
import { parseVector, vectorText } from '../server/postgres/generations.js';
import {
  exactNearest,
  indexNearest,
  lookThroughIndex,
  type Nearest,
  type ThroughIndex,
} from '../server/postgres/nearest.js';
import { indexStatement, MOVED_BY } from '../server/postgres/vector-indexes.js';
import { EF_LADDER, movedALittle } from '../server/search/ef.js';
import { RECALL_K, recallOf } from '../server/search/recall.js';
import type { Scored } from '../server/search/vectors.js';
import { onConnection, startOwn, storedVectors } from './pgserver.js';
import { figure, markdownTable } from './report.js';

export interface PgvectorOptions {
  /** A database that `bench -- scale` or a server has filled; the one in `dataDir` is started without. */
  store?: string;
  pgserver?: string;
  dataDir?: string;
  /** Indexes are made over so many vectors. */
  sizes: readonly number[];
  say(line: string): void;
}

interface Searches {
  milliseconds: number;
  recallAt10: number;
}

export interface PgvectorBench {
  version: string;
  documents: number;
  dimensions: number;
  /** Of rows with what belongs to them, by document. */
  documentBytes: number;
  vectorBytes: number;
  builds: { half: boolean; vectors: number; milliseconds: number; bytes: number }[];
  exact: Searches;
  /** Through the collection's own index, when it has one. */
  index: ({ ef: number; half: boolean } & Searches)[];
  /** By the Hamming distance of signs, then by the cosines of so many candidates; not in PostgreSQL. */
  signs: { candidates: number; recallAt10: number }[];
}

const QUERIES = 200;
const EFS: readonly number[] = [EF_LADDER[0], 200, 400];
const CANDIDATES = [100, 200, 400];
/** Of this bench alone, and dropped at its end. */
const COPY = 'sentence_jepa_bench_vectors';

/**
 * What a vector costs PostgreSQL: bytes, making an index by one process, a search by one connection, alone on the machine.
 *
 * @throws UserError `empty` without a collection of at least 2 x QUERIES documents
 */
export async function benchPgvector(options: PgvectorOptions): Promise<PgvectorBench> {
  const { store, pgserver, dataDir } = options;
  if (store !== undefined) return onConnection(store, (client) => measure(client, options));
  if (dataDir === undefined)
    throw new UserError(
      'usage',
      'expected a filled PostgreSQL: --store postgres://..., or the --data-dir of "bench scale"',
    );
  const own = await startOwn(pgserver, path.resolve(dataDir));
  try {
    return await onConnection(own.url, (client) => measure(client, options));
  } finally {
    await own.stop();
  }
}

async function measure(client: pg.Client, { sizes, say }: PgvectorOptions): Promise<PgvectorBench> {
  const database = queriesOn(client);
  const all = database.query;
  const one = async <T>(sql: string): Promise<T> => Object.values((await all<Record<string, T>>(sql))[0])[0];

  const stored = await storedVectors(client);
  const documents = stored ? await one<number>('SELECT count(*) FROM documents') : 0;
  if (!stored || documents < 2 * QUERIES)
    throw new UserError(
      'empty',
      `expected a collection of ${2 * QUERIES} documents or more, found ${documents}; "bench scale" fills one`,
    );
  const { version, table, dimensions } = stored;
  const hasHalf = await one<boolean>(`SELECT to_regtype('halfvec') IS NOT NULL`);

  say('reading vectors');
  const rows = await all<{ key: number; vector: string }>(
    `SELECT key, vector::text FROM ${table} ORDER BY key`,
  );
  const vectors = rows.map(({ key, vector }) => ({ key, vector: parseVector(vector) }));
  const step = Math.floor(vectors.length / (2 * QUERIES));
  const queries = Array.from({ length: QUERIES }, (_, i) =>
    movedALittle(vectors[2 * i * step].vector, vectors[(2 * i + 1) * step].vector, MOVED_BY),
  );

  const nearest: Nearest = { table, vector: '$1::vector', limit: String(RECALL_K) };
  const ask = (sql: string, query: Float32Array): Promise<(Scored & Row)[]> => all(sql, [vectorText(query)]);
  const timed = async (sql: string): Promise<{ milliseconds: number; found: Scored[][] }> => {
    // Once before, so that all of it is in memory.
    for (const query of queries.slice(0, 20)) await ask(sql, query);
    const begin = performance.now();
    const found: Scored[][] = [];
    for (const query of queries) found.push(await ask(sql, query));
    return { milliseconds: (performance.now() - begin) / queries.length, found };
  };
  const recall = (exact: Scored[][], found: Scored[][]): number =>
    mean(exact.map((each, q) => recallOf(each, found[q])));

  say('searching');
  const exact = await timed(exactNearest(nearest));
  const index: PgvectorBench['index'] = [];
  for (const ef of stored.index ? EFS : []) {
    const { half } = stored.index!;
    const through: ThroughIndex = { ef, ...(half && { half: dimensions }) };
    await client.query('BEGIN');
    await lookThroughIndex(database, through);
    const { milliseconds, found } = await timed(indexNearest(nearest, through));
    await client.query('COMMIT');
    index.push({ ef, half, milliseconds, recallAt10: recall(exact.found, found) });
  }

  const builds: PgvectorBench['builds'] = [];
  for (const half of hasHalf ? [false, true] : [false])
    for (const size of sizes) {
      if (size > documents) continue;
      say(`making an index of ${size} vectors${half ? ' in half precision' : ''}`);
      await client.query(`DROP TABLE IF EXISTS ${COPY}`);
      try {
        await client.query(
          `CREATE UNLOGGED TABLE ${COPY} AS SELECT key, vector FROM ${table} ORDER BY md5(key::text) LIMIT ${size}`,
        );
        await client.query('SET max_parallel_maintenance_workers = 0');
        const begin = performance.now();
        await client.query(indexStatement(COPY, half ? dimensions : undefined));
        const milliseconds = (performance.now() - begin) / size;
        const bytes = (await one<number>(`SELECT pg_relation_size('${COPY}_hnsw')`)) / size;
        builds.push({ half, vectors: size, milliseconds, bytes });
      } finally {
        await client.query(`DROP TABLE IF EXISTS ${COPY}`);
      }
    }

  say('looking by signs');
  return {
    ...{ version, documents, dimensions },
    documentBytes: (await one<number>(`SELECT pg_total_relation_size('documents')`)) / documents,
    vectorBytes: (stored.vectorBytes - stored.indexBytes) / documents,
    builds,
    exact: { milliseconds: exact.milliseconds, recallAt10: 1 },
    index,
    signs: signsOf(vectors, queries, exact.found),
  };
}

/** What is found of the exact nearest among the candidates whose signs differ least. */
function signsOf(
  vectors: readonly { key: number; vector: Float32Array }[],
  queries: readonly Float32Array[],
  exact: readonly Scored[][],
): PgvectorBench['signs'] {
  const dimensions = queries[0].length;
  const words = Math.ceil(dimensions / 32);
  const pack = (vector: Float32Array, into: Uint32Array, at: number): void =>
    vector.forEach((value, j) => {
      if (value > 0) into[at + (j >> 5)] |= 1 << (j & 31);
    });
  const packed = new Uint32Array(vectors.length * words);
  vectors.forEach(({ vector }, i) => pack(vector, packed, i * words));
  const recalls = CANDIDATES.map((): number[] => []);
  for (const [q, query] of queries.entries()) {
    const signs = new Uint32Array(words);
    pack(query, signs, 0);
    const distances = new Uint16Array(vectors.length);
    for (let i = 0; i < vectors.length; i++)
      for (let w = 0; w < words; w++) distances[i] += bitsOf(packed[i * words + w] ^ signs[w]);
    const order = Uint32Array.from(vectors.keys()).sort((a, b) => distances[a] - distances[b] || a - b);
    CANDIDATES.forEach((candidates, c) => {
      const near = [...order.subarray(0, candidates)];
      const found = near.map((i) => ({ key: vectors[i].key, score: dot(vectors[i].vector, query) }));
      found.sort((a, b) => b.score - a.score);
      recalls[c].push(recallOf(exact[q], found.slice(0, RECALL_K)));
    });
  }
  return CANDIDATES.map((candidates, c) => ({ candidates, recallAt10: mean(recalls[c]) }));
}

/** Set bits of 32. */
function bitsOf(word: number): number {
  word -= (word >>> 1) & 0x55555555;
  word = (word & 0x33333333) + ((word >>> 2) & 0x33333333);
  return (((word + (word >>> 4)) & 0x0f0f0f0f) * 0x01010101) >>> 24;
}

function dot(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, value, i) => sum + value * b[i], 0);
}

export function pgvectorTable(result: PgvectorBench): string {
  const { version, documents, dimensions, documentBytes, vectorBytes, builds, exact, index, signs } = result;
  const kind = (half: boolean): string => (half ? 'half precision' : 'fp32');
  return [
    `${documents.toLocaleString('en')} documents, vectors of ${dimensions} dimensions; ${version}. Bytes a document: ${figure(documentBytes)} with its words and indexes, ${figure(vectorBytes)} its vector.`,
    markdownTable(
      ['index', 'vectors', 'ms a vector, to make', 'bytes a vector'],
      builds.map(({ half, vectors, milliseconds, bytes }) => [
        kind(half),
        vectors.toLocaleString('en'),
        figure(milliseconds),
        figure(bytes),
      ]),
    ),
    markdownTable(
      ['a search', 'ms', 'recall@10'],
      [
        ['exact', figure(exact.milliseconds), '1'],
        ...index.map(({ ef, half, milliseconds, recallAt10 }) => [
          `ef ${ef}, ${kind(half)}`,
          figure(milliseconds),
          recallAt10.toFixed(4),
        ]),
        ...signs.map(({ candidates, recallAt10 }) => [
          `signs, ${candidates} candidates`,
          '',
          recallAt10.toFixed(4),
        ]),
      ],
    ),
  ].join('\n\n');
}
