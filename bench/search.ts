import { Random } from '../base/random.js';
import { mean } from '../evaluation/ranking-metrics.js';
import { defaults } from '../server/config.js';
import { EF_LADDER, EfChoice } from '../server/search/ef.js';
import { HnswGraph, HNSW_PARAMETERS } from '../server/search/hnsw.js';
import { recallOf } from '../server/search/recall.js';
import { VectorTable } from '../server/search/vectors.js';

export interface SearchBenchRow {
  vectors: number;
  /** Milliseconds a query, k = 10. */
  exactMs: number;
  graphMs: number;
  /** The least that holds defaults.recall, or the highest there is. */
  ef: number;
  /** Share of the exact ten nearest that the graph finds with it. */
  recallAt10: number;
  graphInsertsPerSecond: number;
}

const QUERIES = 200;
const K = 10;

/**
 * Exact search against the HNSW graph, on one thread. The vectors are points around random centres,
 * twenty to a centre, with a cosine of about 0.5 between neighbours, as texts gather around topics.
 */
export function* benchSearch(
  sizes: readonly number[] = [5_000, 20_000, 50_000, 100_000],
  dimensions = 384,
): Generator<SearchBenchRow> {
  for (const vectors of sizes) {
    const draw = clusteredPoints(vectors, dimensions);
    const table = new VectorTable(dimensions);
    const graph = HnswGraph.empty(dimensions, vectors);
    let inserting = 0;
    for (let key = 1; key <= vectors; key++) {
      const vector = draw();
      table.add(key, vector);
      const begin = performance.now();
      graph.add(key, vector);
      inserting += performance.now() - begin;
    }
    const queries = Array.from({ length: QUERIES }, draw);
    for (const query of queries.slice(0, 20)) table.search(query, K);
    const exact = timed(() => queries.map((query) => table.search(query, K)));
    const choice = new EfChoice();
    queries.forEach((query, q) => choice.add((ef) => recallOf(exact.result[q], graph.search(query, K, ef))));
    const ef = choice.least(defaults.recall)?.ef ?? EF_LADDER[EF_LADDER.length - 1];
    const approximate = timed(() => queries.map((query) => graph.search(query, K, ef)));
    const recalls = exact.result.map((hits, q) => recallOf(hits, approximate.result[q]));
    yield {
      vectors,
      exactMs: exact.ms / QUERIES,
      graphMs: approximate.ms / QUERIES,
      ef,
      recallAt10: mean(recalls),
      graphInsertsPerSecond: vectors / (inserting / 1000),
    };
  }
}

/** The rows as a table for people. */
export function searchBenchTable(rows: Iterable<SearchBenchRow>): string {
  const { m, efConstruction } = HNSW_PARAMETERS;
  const lines = [
    `| vectors | exact, ms | graph, ms | ef | recall@10 | inserts/s |`,
    `|---|---|---|---|---|---|`,
  ];
  for (const row of rows)
    lines.push(
      `| ${row.vectors} | ${row.exactMs.toFixed(2)} | ${row.graphMs.toFixed(2)} | ${row.ef} | ${row.recallAt10.toFixed(4)} | ${row.graphInsertsPerSecond.toFixed(0)} |`,
    );
  return [
    ...lines,
    `HNSW: M ${m}, efConstruction ${efConstruction}; ef is the least that holds recall@10 of ${defaults.recall}.`,
  ].join('\n');
}

function clusteredPoints(n: number, d: number): () => Float32Array {
  const random = new Random(1);
  const normal = (): Float32Array => Float32Array.from({ length: d }, () => random.normal());
  const centres = Array.from({ length: Math.ceil(n / 20) }, () => unit(normal()));
  return () => {
    const centre = centres[random.below(centres.length)];
    const noise = normal();
    return unit(centre.map((x, i) => x + noise[i] / Math.sqrt(d)));
  };
}

function unit(vector: Float32Array): Float32Array {
  let squares = 0;
  for (const x of vector) squares += x * x;
  return vector.map((x) => x / Math.sqrt(squares));
}

function timed<T>(work: () => T): { result: T; ms: number } {
  const begin = performance.now();
  const result = work();
  return { result, ms: performance.now() - begin };
}
