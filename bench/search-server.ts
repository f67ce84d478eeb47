import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { UserError } from '../base/errors.js';
import { Sqlite } from '../base/sqlite.js';
import { mean } from '../evaluation/ranking-metrics.js';
import type { components } from '../server/http/openapi.js';
import { RECALL_K, recallOf } from '../server/search/recall.js';
import { databaseFile } from '../server/search/store.js';
import { type Scored, VectorTable } from '../server/search/vectors.js';
import { runLoad, type Load } from './load.js';
import { BenchProcess, freePort } from './processes.js';
import { median, percentile } from './statistics.js';

const QUERIES = 500;
const DOCUMENTS_PER_REQUEST = 2000;

export interface Fill {
  /** Embedded, stored and answered. */
  documentsPerSecond: number;
  /** From the first document sent until the index holds all. */
  secondsUntilBuilt: number;
}

export interface Vectors {
  table: VectorTable;
  keyOf(id: string): number;
}

/** What is asked, spread over all texts so that it is like what is there, and the documents, which are the others. */
export function partTexts(texts: readonly string[]): { queries: string[]; documents: string[] } {
  if (texts.length < 2 * QUERIES)
    throw new UserError('invalid', `expected at least ${2 * QUERIES} different texts, found ${texts.length}`);
  const step = Math.floor(texts.length / QUERIES);
  const queries = texts.filter((_, i) => i % step === 0).slice(0, QUERIES);
  const asked = new Set(queries);
  return { queries, documents: texts.filter((text) => !asked.has(text)) };
}

/** recall@10 of what was found for each query, as ids, of the exact nearest. */
export function meanRecall(
  { table, keyOf }: Vectors,
  queryVectors: readonly Float32Array[],
  exact: readonly Scored[][],
  found: readonly (readonly string[])[],
): number {
  return mean(
    found.map((ids, q) =>
      recallOf(
        exact[q],
        ids.map((id) => ({ key: keyOf(id), score: table.score(queryVectors[q], keyOf(id)) })),
      ),
    ),
  );
}

/** A `sentence-jepa serve`. */
export interface BenchServer {
  url: string;
  port: number;
  process: BenchProcess;
  /** From the process' start until /ready answers. */
  readySeconds: number;
}

/** @param more options of `serve` */
export function startServer(
  model: string,
  dataDir: string,
  servers: Set<BenchProcess>,
  ...more: string[]
): Promise<BenchServer> {
  return startCommand('serve', model, dataDir, servers, more);
}

async function startCommand(
  command: 'serve' | 'worker',
  model: string,
  dataDir: string,
  processes: Set<BenchProcess>,
  more: readonly string[],
): Promise<BenchServer> {
  const port = await freePort();
  const script = fileURLToPath(new URL('../cli/main.js', import.meta.url));
  const begin = performance.now();
  const server = new BenchProcess(`sentence-jepa ${command}`, process.execPath, [
    ...[script, command, '--model', model, '--data-dir', dataDir],
    ...['--host', '127.0.0.1', '--port', String(port), '--log-level', 'error', ...more],
  ]);
  processes.add(server);
  const url = `http://127.0.0.1:${port}`;
  await server.answers(`${url}/ready`);
  return { url, port, process: server, readySeconds: (performance.now() - begin) / 1000 };
}

export async function stop({ process }: BenchServer, servers: Set<BenchProcess>): Promise<void> {
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

export function info(url: string): Promise<components['schemas']['Info']> {
  return json(`${url}/info`);
}

/**
 * Stores texts, and waits until the index holds them.
 *
 * @param queued they are embedded by workers, behind the answer
 * @returns nothing when the collection holds as many documents already
 * @throws UserError `exists` when it holds another number
 */
export async function fillServer(
  url: string,
  texts: readonly string[],
  say: (line: string) => void,
  queued = false,
): Promise<Fill | undefined> {
  const { documents } = await info(url);
  const begin = performance.now();
  const elapsed = (): number => (performance.now() - begin) / 1000;
  const isFilled = documents === texts.length;
  if (!isFilled && documents > 0)
    throw new UserError(
      'exists',
      `the collection holds ${documents} documents, not these ${texts.length}; name another --data-dir, or another database`,
    );
  const waiting: (() => Promise<Ingest>)[] = [];
  for (let from = 0; from < texts.length && !isFilled; from += DOCUMENTS_PER_REQUEST) {
    const to = Math.min(from + DOCUMENTS_PER_REQUEST, texts.length);
    if (queued) waiting.push(await queueDocuments(url, texts, from, to));
    else await sendDocuments(`${url}/documents`, texts, from, to);
    say(`${to} of ${texts.length} documents ${queued ? 'queued ' : ''}after ${elapsed().toFixed(0)} s`);
  }
  for (const ask of waiting) while (isUnderWay(await ask())) await sleep(200);
  const stored = elapsed();
  while ((await info(url)).index.building) await sleep(200);
  return isFilled ? undefined : { documentsPerSecond: texts.length / stored, secondsUntilBuilt: elapsed() };
}

async function sendDocuments(
  url: string,
  texts: readonly string[],
  from: number,
  to: number,
): Promise<string> {
  const lines = texts.slice(from, to).map((text, i) => JSON.stringify({ id: String(from + i), text }));
  const headers = { 'content-type': 'application/x-ndjson' };
  const answer = await fetch(url, { method: 'POST', headers, body: lines.join('\n') });
  const text = await answer.text();
  if (!answer.ok) throw new UserError('backend', `${url} answers ${answer.status}: ${text.slice(0, 300)}`);
  return text;
}

type Ingest = components['schemas']['Ingest'];

/** @throws UserError `backend` when workers have given documents up */
export function isUnderWay({ state, error }: Ingest): boolean {
  if (state === 'failed') throw new UserError('backend', `workers: ${error}`);
  return state !== 'done';
}

/** Queues texts for workers, under the ids that `fillServer` gives them. @returns what says how far they are */
export async function queueDocuments(
  url: string,
  texts: readonly string[],
  from: number,
  to: number,
): Promise<() => Promise<Ingest>> {
  const { id } = JSON.parse(await sendDocuments(`${url}/documents?async`, texts, from, to)) as Ingest;
  return () => json(`${url}/ingests/${id}`);
}

/** A `sentence-jepa worker`, once it takes batches. @param more options */
export async function startWorker(
  model: string,
  dataDir: string,
  processes: Set<BenchProcess>,
  ...more: string[]
): Promise<void> {
  await startCommand('worker', model, dataDir, processes, more);
}

/** The ids that /search gives for each query, and the vectors that it asks with; the server remembers them from here on. */
export async function ask(
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
export async function readVectors(dataDir: string, dimensions: number): Promise<Vectors> {
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

/** Searches for some seconds. */
export interface SearchLoad {
  /** A second. */
  rate: number;
  milliseconds: readonly number[];
}

/** Medians over several loads. */
export interface SearchFigures {
  queriesPerSecond: number;
  p50: number;
  p99: number;
}

/** @param load its `url` the server's @throws UserError `backend` when a search fails */
export async function searchLoad(load: Load): Promise<SearchLoad> {
  const { errors, firstError, milliseconds, seconds } = await runLoad({ ...load, url: `${load.url}/search` });
  if (errors > 0) throw new UserError('backend', `/search failed: ${firstError}`);
  return { rate: milliseconds.length / seconds, milliseconds };
}

export function figuresOf(loads: readonly SearchLoad[]): SearchFigures {
  const at = (p: number): number => median(loads.map(({ milliseconds }) => percentile(milliseconds, p)));
  return { queriesPerSecond: median(loads.map(({ rate }) => rate)), p50: at(0.5), p99: at(0.99) };
}
