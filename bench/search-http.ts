import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import hnswlib from 'hnswlib-node';

import { UserError } from '../base/errors.js';
import { mean } from '../evaluation/ranking-metrics.js';
import type { components } from '../server/http/openapi.js';
import { RECALL_K, recallOf } from '../server/search/recall.js';
import { Sqlite } from '../server/search/sqlite.js';
import { indexFolder } from '../server/search/engine.js';
import { databaseFile } from '../server/search/store.js';
import { VectorTable } from '../server/search/vectors.js';
import { runLoad } from './load.js';
import { BenchProcess, freePort } from './processes.js';
import { figure, markdownTable } from './report.js';
import { median, percentile } from './statistics.js';

export interface SearchHttpOptions {
  /** A model folder, or the name of a model. */
  model: string;
  texts: readonly string[];
  /** Filled once and kept, so that another run finds it filled; a folder of the run's own without it. */
  dataDir?: string;
  /** Of each load, in each round. */
  seconds: number;
  rounds: number;
  say(line: string): void;
}

export interface SearchHttpBench {
  documents: number;
  dimensions: number;
  index: components['schemas']['Info']['index'];
  /** Missing when the folder was filled before. */
  fill?: {
    /** Embedded, stored and answered. */
    documentsPerSecond: number;
    /** From the first document sent until the graph holds all. */
    secondsUntilBuilt: number;
  };
  /** Resident memory of the server beyond that of one without documents, by document. */
  bytesPerDocument?: number;
  /** From the process' start until /ready answers: with these documents, and with none. */
  readySeconds: number;
  readySecondsEmpty: number;
  /** What /search finds of the exact ten nearest. */
  recallAt10: number;
  loads: { concurrency: number; queriesPerSecond: number; p50: number; p99: number; ofBareLoop?: number }[];
  /** hnswlib-node alone, on the server's graph at the server's ef; missing where search is exact. */
  bareLoop?: { ef: number; queriesPerSecond: number; recallAt10: number };
}

const QUERIES = 500;
const CONCURRENCIES = [1, 8];
const DOCUMENTS_PER_REQUEST = 2000;

/**
 * A server filled with texts, asked for others of the same file: its recall, and what it takes beside hnswlib-node called in
 * a bare loop. The vectors of queries are remembered by the server, so that encoding is left out.
 */
export async function benchSearchHttp(options: SearchHttpOptions): Promise<SearchHttpBench> {
  const { texts, seconds, rounds, say } = options;
  if (texts.length < 2 * QUERIES)
    throw new UserError('invalid', `expected at least ${2 * QUERIES} different texts, found ${texts.length}`);
  // Spread over all files: what is asked is like what is there.
  const step = Math.floor(texts.length / QUERIES);
  const queries = texts.filter((_, i) => i % step === 0).slice(0, QUERIES);
  const asked = new Set(queries);
  const documents = texts.filter((text) => !asked.has(text));

  const scratch = await mkdtemp(path.join(tmpdir(), 'bench-search-'));
  const dataDir = options.dataDir ?? path.join(scratch, 'filled');
  const servers = new Set<BenchProcess>();
  const start = async (folder: string): Promise<Server> => {
    const server = await startServer(options.model, folder, servers);
    say(`${folder}: ready after ${server.readySeconds.toFixed(2)} s`);
    return server;
  };
  try {
    await mkdir(dataDir, { recursive: true });
    const empty = await start(path.join(scratch, 'empty'));
    const emptyMiB = empty.process.usage()?.memoryMiB;
    await stop(empty, servers);

    const filling = await start(dataDir);
    const fill = await fillServer(filling.url, documents, say);
    await stop(filling, servers);

    const server = await start(dataDir);
    const { index, dimensions } = await info(server.url);
    const vectors = await readVectors(dataDir, dimensions);
    const { found, queryVectors } = await ask(server.url, queries);
    const exact = queryVectors.map((vector) => vectors.table.search(vector, RECALL_K));
    const recallAt10 = mean(
      found.map((ids, q) =>
        recallOf(
          exact[q],
          ids.map((id) => ({
            key: vectors.keyOf(id),
            score: vectors.table.score(queryVectors[q], vectors.keyOf(id)),
          })),
        ),
      ),
    );
    const memoryMiB = server.process.usage()?.memoryMiB;

    const bare = index.kind === 'hnsw' ? await openBareGraph(dataDir, dimensions) : undefined;
    const points = queryVectors.map((vector) => Array.from(vector));
    const bareRates: number[] = [];
    const results = CONCURRENCIES.map((): { rate: number; milliseconds: number[] }[] => []);
    const bodies = queries.map((query) => JSON.stringify({ query, k: RECALL_K }));
    for (let round = 0; round < rounds; round++) {
      say(`round ${round + 1} of ${rounds}`);
      if (bare) bareRates.push(bareRate(bare.graph, points, seconds));
      for (const [c, concurrency] of CONCURRENCIES.entries()) {
        const load = await runLoad({ url: `${server.url}/search`, bodies, concurrency, seconds });
        if (load.errors > 0) throw new UserError('backend', `/search failed: ${load.firstError}`);
        results[c].push({ rate: load.milliseconds.length / load.seconds, milliseconds: load.milliseconds });
      }
    }
    await stop(server, servers);

    return {
      documents: documents.length,
      dimensions,
      index,
      fill,
      ...(emptyMiB !== undefined &&
        memoryMiB !== undefined && {
          bytesPerDocument: ((memoryMiB - emptyMiB) * 2 ** 20) / documents.length,
        }),
      readySeconds: server.readySeconds,
      readySecondsEmpty: empty.readySeconds,
      recallAt10,
      loads: CONCURRENCIES.map((concurrency, c) => {
        const queriesPerSecond = median(results[c].map(({ rate }) => rate));
        const at = (p: number): number =>
          median(results[c].map(({ milliseconds }) => percentile(milliseconds, p)));
        return {
          concurrency,
          queriesPerSecond,
          p50: at(0.5),
          p99: at(0.99),
          ...(bare && { ofBareLoop: queriesPerSecond / median(bareRates) }),
        };
      }),
      ...(bare && {
        bareLoop: {
          ef: bare.ef,
          queriesPerSecond: median(bareRates),
          recallAt10: mean(
            points.map((point, q) => {
              const { neighbors, distances } = bare.graph.searchKnn(point, RECALL_K);
              return recallOf(
                exact[q],
                neighbors.map((key, i) => ({ key, score: 1 - distances[i] })),
              );
            }),
          ),
        },
      }),
    };
  } finally {
    await Promise.all([...servers].map((process) => process.stop()));
    await rm(scratch, { recursive: true, force: true });
  }
}

export function searchHttpTable(result: SearchHttpBench): string {
  const { documents, index, fill, bytesPerDocument, readySeconds, readySecondsEmpty, recallAt10 } = result;
  const { loads, bareLoop } = result;
  const rows = [
    ...(fill
      ? [
          ['documents stored a second', figure(fill.documentsPerSecond)],
          ['seconds until the graph holds them', figure(fill.secondsUntilBuilt)],
        ]
      : []),
    ...(bytesPerDocument === undefined ? [] : [['bytes of memory a document', figure(bytesPerDocument)]]),
    [
      'seconds from start to ready',
      `${figure(readySeconds)} (${figure(readySecondsEmpty)} without documents)`,
    ],
    ['recall@10 of /search', recallAt10.toFixed(4)],
  ];
  const searches = [
    ...loads.map(({ concurrency, queriesPerSecond, p50, p99, ofBareLoop }) => [
      `/search, ${concurrency} at a time`,
      figure(queriesPerSecond),
      ofBareLoop === undefined ? '' : figure(ofBareLoop),
      figure(p50),
      figure(p99),
    ]),
    ...(bareLoop
      ? [
          [
            `hnswlib-node in a loop, ef ${bareLoop.ef}, recall ${bareLoop.recallAt10.toFixed(4)}`,
            figure(bareLoop.queriesPerSecond),
            '',
            '',
            '',
          ],
        ]
      : []),
  ];
  return [
    `${documents.toLocaleString('en')} documents, index ${index.kind}.`,
    markdownTable(['', 'measured'], rows),
    markdownTable(['', 'queries/s', 'of the loop', 'p50 ms', 'p99 ms'], searches),
  ].join('\n\n');
}

interface Server {
  url: string;
  process: BenchProcess;
  readySeconds: number;
}

async function startServer(model: string, dataDir: string, servers: Set<BenchProcess>): Promise<Server> {
  const port = await freePort();
  const script = fileURLToPath(new URL('../cli/main.js', import.meta.url));
  const begin = performance.now();
  const server = new BenchProcess('sentence-jepa', process.execPath, [
    ...[script, 'serve', '--model', model, '--data-dir', dataDir],
    ...['--host', '127.0.0.1', '--port', String(port), '--log-level', 'error'],
  ]);
  servers.add(server);
  const url = `http://127.0.0.1:${port}`;
  await server.answers(`${url}/ready`);
  return { url, process: server, readySeconds: (performance.now() - begin) / 1000 };
}

async function stop({ process }: Server, servers: Set<BenchProcess>): Promise<void> {
  await process.stop();
  servers.delete(process);
}

async function json<T>(url: string, body?: unknown): Promise<T> {
  const answer = await fetch(url, {
    ...(body !== undefined && {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    }),
  });
  const text = await answer.text();
  if (!answer.ok) throw new UserError('backend', `${url} answers ${answer.status}: ${text.slice(0, 300)}`);
  return JSON.parse(text) as T;
}

function info(url: string): Promise<components['schemas']['Info']> {
  return json(`${url}/info`);
}

/** @returns nothing when the collection holds as many documents already */
async function fillServer(
  url: string,
  texts: readonly string[],
  say: (line: string) => void,
): Promise<SearchHttpBench['fill']> {
  const { documents } = await info(url);
  const begin = performance.now();
  const elapsed = (): number => (performance.now() - begin) / 1000;
  const isFilled = documents === texts.length;
  if (!isFilled && documents > 0)
    throw new UserError(
      'exists',
      `--data-dir: holds ${documents} documents, not these ${texts.length}; name another folder`,
    );
  for (let from = 0; from < texts.length && !isFilled; from += DOCUMENTS_PER_REQUEST) {
    const documents = texts
      .slice(from, from + DOCUMENTS_PER_REQUEST)
      .map((text, i) => JSON.stringify({ id: String(from + i), text }));
    const headers = { 'content-type': 'application/x-ndjson' };
    const answer = await fetch(`${url}/documents`, { method: 'POST', headers, body: documents.join('\n') });
    const text = await answer.text();
    if (!answer.ok)
      throw new UserError('backend', `/documents answers ${answer.status}: ${text.slice(0, 300)}`);
    say(`${from + documents.length} of ${texts.length} documents after ${elapsed().toFixed(0)} s`);
  }
  const stored = elapsed();
  while ((await info(url)).index.building) await sleep(200);
  return isFilled ? undefined : { documentsPerSecond: texts.length / stored, secondsUntilBuilt: elapsed() };
}

/** The ids that /search gives for each query, and the vectors that it asks with; the server remembers them from here on. */
async function ask(
  url: string,
  queries: readonly string[],
): Promise<{ found: string[][]; queryVectors: Float32Array[] }> {
  const found: string[][] = [];
  for (const query of queries) {
    const { hits } = await json<components['schemas']['SearchResponse']>(`${url}/search`, {
      query,
      k: RECALL_K,
    });
    found.push(hits.map(({ id }) => id));
  }
  const rows = await json<number[][]>(`${url}/embed`, { inputs: queries });
  return { found, queryVectors: rows.map((row) => Float32Array.from(row)) };
}

/** The vectors of a folder, beside the server that has it open. */
async function readVectors(
  dataDir: string,
  dimensions: number,
): Promise<{ table: VectorTable; keyOf(id: string): number }> {
  const db = new Sqlite(databaseFile(dataDir), { readonly: true });
  try {
    const generation = db.prepare("SELECT id FROM generations WHERE state = 'live'").pluck().get() as number;
    const rows = db
      .prepare(`SELECT key, id, vector FROM documents JOIN vectors_${generation} USING (key)`)
      .iterate() as Iterable<{ key: number; id: string; vector: Buffer }>;
    const table = new VectorTable(dimensions);
    const keys = new Map<string, number>();
    for (const { key, id, vector } of rows) {
      table.add(
        key,
        new Float32Array(vector.buffer.slice(vector.byteOffset, vector.byteOffset + vector.byteLength)),
      );
      keys.set(id, key);
    }
    return { table, keyOf: (id) => keys.get(id)! };
  } finally {
    db.close();
  }
}

/** The graph that the server wrote, and the ef that it chose. */
async function openBareGraph(
  dataDir: string,
  dimensions: number,
): Promise<{ graph: hnswlib.HierarchicalNSW; ef: number }> {
  // One model, one generation.
  const folder = indexFolder(dataDir, 1);
  const manifest = JSON.parse(await readFile(path.join(folder, 'index.json'), 'utf8')) as {
    file: string;
    chosen: { ef: number };
  };
  const graph = new hnswlib.HierarchicalNSW('ip', dimensions);
  graph.readIndexSync(path.join(folder, manifest.file));
  graph.setEf(manifest.chosen.ef);
  return { graph, ef: manifest.chosen.ef };
}

function bareRate(graph: hnswlib.HierarchicalNSW, points: readonly number[][], seconds: number): number {
  const begin = performance.now();
  let n = 0;
  for (; performance.now() - begin < seconds * 1000; n++)
    graph.searchKnn(points[n % points.length], RECALL_K);
  return n / ((performance.now() - begin) / 1000);
}
