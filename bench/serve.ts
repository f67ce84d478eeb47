import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { UserError } from '../base/errors.js';
import { projectRoot } from '../base/paths.js';
import type { ModelFolder } from '../encoder/model-folder.js';
import { loadTokenizer } from '../encoder/tokenizer.js';
import { mean } from '../evaluation/ranking-metrics.js';
import { completeFolder } from './complete-folder.js';
import { leastAndMeanCosine } from './cosine.js';
import { runLoad, type LoadResult } from './load.js';
import { peakOfOnnxRuntime } from './onnx-peak.js';
import { weightsPerToken } from './peak.js';
import { BenchProcess, freePort } from './processes.js';
import { figure, markdownTable } from './report.js';
import { median, percentile } from './statistics.js';

/** How a server wants its texts: text-embeddings-inference's form, or OpenAI's. */
export type Api = 'tei' | 'openai';

/** A server that somebody else started; `url` without a path. */
export interface RunningPeer {
  name: string;
  url: string;
  api: Api;
}

export interface ServeBenchOptions {
  model: ModelFolder;
  texts: readonly string[];
  /** Of each cell, in each round. */
  seconds: number;
  rounds: number;
  /** A Python with sentence-transformers, fastapi and uvicorn. */
  python?: string;
  peers: readonly RunningPeer[];
  say(line: string): void;
}

export interface ServeBenchRow {
  textsPerRequest: number;
  concurrency: number;
  server: string;
  /** Median of the rounds, as all that follow. */
  textsPerSecond: number;
  /** Our texts/s over its. */
  ratio: number;
  p50: number;
  p95: number;
  p99: number;
  /** What its dense layers multiply for real tokens, of the most that this machine does. */
  ofPeak: number;
  /** Of the server's process alone. */
  cpuMillisecondsPerText?: number;
  memoryMiB?: number;
  /** Of all rounds. */
  errors: number;
  textsPerSecondOfRounds: number[];
}

export interface ServeBench {
  rows: ServeBenchRow[];
  /** Of a text, as the model counts them: [CLS] and [SEP] too. */
  tokensPerText: number;
  /** See peakOfOnnxRuntime: the best of the rounds. */
  peakGigaflops: number;
  /** Least cosine of a peer's vector to ours, on the first texts: that they do the same work. */
  cosines: Record<string, number>;
}

interface Server extends RunningPeer {
  process?: BenchProcess;
}

interface Measurement extends LoadResult {
  cpuSeconds?: number;
  memoryMiB?: number;
}

const CELLS = [
  { textsPerRequest: 1, concurrency: 1 },
  { textsPerRequest: 1, concurrency: 8 },
  { textsPerRequest: 1, concurrency: 64 },
  { textsPerRequest: 32, concurrency: 1 },
  { textsPerRequest: 32, concurrency: 4 },
];
const OURS = 'sentence-jepa';
const ROUTES = { tei: '/embed', openai: '/v1/embeddings' };
const COMPARED_TEXTS = 16;

/**
 * Serves the same model by this program and its peers, and loads each in turn: within a cell the servers
 * alternate, so that a slow minute of the machine is everybody's.
 *
 * @throws UserError `unavailable` when a server doesn't start, with what it said; `backend` for other vectors
 */
export async function benchServe(options: ServeBenchOptions): Promise<ServeBench> {
  const { seconds, rounds, say } = options;
  const scratch = await mkdtemp(path.join(tmpdir(), 'bench-serve-'));
  const started: BenchProcess[] = [];
  try {
    const servers = await startServers(options, scratch, started);
    const cosines = await compareVectors(servers, options.texts);
    const bodies = bodiesOf(options);
    for (const server of servers)
      await measure(server, bodies(server.api, 1), { concurrency: 2, seconds: Math.min(2, seconds) });

    const measured = CELLS.map(() => servers.map((): Measurement[] => []));
    let peakGigaflops = 0;
    for (let round = 0; round < rounds; round++) {
      peakGigaflops = Math.max(peakGigaflops, await peakOfOnnxRuntime());
      for (const [c, { textsPerRequest, concurrency }] of CELLS.entries()) {
        say(
          `round ${round + 1} of ${rounds}: ${textsPerRequest} texts a request, concurrency ${concurrency}`,
        );
        // Who comes first changes by the round.
        for (let i = 0; i < servers.length; i++) {
          const s = (i + round) % servers.length;
          const load = { concurrency, seconds };
          measured[c][s].push(await measure(servers[s], bodies(servers[s].api, textsPerRequest), load));
        }
      }
    }
    const tokenizer = loadTokenizer(options.model);
    const tokensPerText = mean(options.texts.map((text) => tokenizer.encode(text).length));
    const textsAtPeak = (1e9 * peakGigaflops) / (2 * weightsPerToken(options.model.config) * tokensPerText);
    const rows = CELLS.flatMap((cell, c) => rowsOf(cell, servers, measured[c], textsAtPeak));
    return { rows, tokensPerText, peakGigaflops, cosines };
  } finally {
    await Promise.all(started.map((process) => process.stop()));
    await rm(scratch, { recursive: true, force: true });
  }
}

export function serveBenchTable({ rows, tokensPerText, peakGigaflops, cosines }: ServeBench): string {
  const table = markdownTable(
    [
      ...['texts a request', 'concurrency', 'server', 'texts/s', 'ours / it', 'p50 ms', 'p95 ms', 'p99 ms'],
      ...['of the peak', 'CPU ms a text', 'memory MiB', 'errors', 'texts/s of the rounds'],
    ],
    rows.map((row) => [
      String(row.textsPerRequest),
      String(row.concurrency),
      row.server,
      figure(row.textsPerSecond),
      row.server === OURS ? '' : figure(row.ratio),
      figure(row.p50),
      figure(row.p95),
      figure(row.p99),
      `${(100 * row.ofPeak).toFixed(0)} %`,
      figure(row.cpuMillisecondsPerText ?? NaN),
      figure(Math.round(row.memoryMiB ?? NaN)),
      String(row.errors),
      row.textsPerSecondOfRounds.map(figure).join(', '),
    ]),
  );
  const same = Object.entries(cosines).map(([name, cosine]) => `${name} ${cosine.toFixed(6)}`);
  return [
    table,
    `Of the peak: what the dense layers multiply for real tokens, ${figure(tokensPerText)} a text, of ${figure(peakGigaflops)} GFLOP/s, ` +
      `the best that ONNX Runtime did with 1024 x 1024 fp32 matrices on all cores, once a round.`,
    ...(same.length > 0 ? [`Least cosine to our vectors: ${same.join(', ')}.`] : []),
  ].join('\n\n');
}

async function startServers(
  { model, python, peers }: ServeBenchOptions,
  scratch: string,
  started: BenchProcess[],
): Promise<Server[]> {
  const servers: Server[] = [];
  const start = async (
    name: string,
    ready: string,
    command: string,
    args: (port: number) => string[],
  ): Promise<void> => {
    const port = await freePort();
    const process = new BenchProcess(name, command, args(port));
    started.push(process);
    const url = `http://127.0.0.1:${port}`;
    await process.answers(url + ready);
    servers.push({ name, url, api: 'tei', process });
  };
  const script = (file: string): string => fileURLToPath(new URL(file, import.meta.url));
  const folder = await completeFolder(model, scratch);

  await start(OURS, '/ready', process.execPath, (port) => [
    script('../cli/main.js'),
    ...['serve', '--model', folder, '--data-dir', path.join(scratch, 'data')],
    ...['--host', '127.0.0.1', '--port', String(port)],
    // The same titles come round: without this, what is measured would be a lookup.
    ...['--cache-mib', '0'],
  ]);
  await start('express + transformers.js', '/health', process.execPath, (port) => [
    script('./peers/express-server.js'),
    ...[folder, String(port), model.pooling],
  ]);
  if (python)
    await start('FastAPI + sentence-transformers', '/health', python, (port) => [
      path.join(projectRoot, 'bench/peers/fastapi_server.py'),
      ...[folder, String(port)],
    ]);
  return [...servers, ...peers];
}

/** The same texts for every server, in the same order. */
function bodiesOf({ texts, model }: ServeBenchOptions): (api: Api, textsPerRequest: number) => string[] {
  const made = new Map<string, string[]>();
  return (api, n) => {
    const key = `${api} ${n}`;
    let bodies = made.get(key);
    if (!bodies) {
      const requests = Math.ceil(texts.length / n);
      bodies = Array.from({ length: requests }, (_, r) =>
        body(
          api,
          model.name,
          Array.from({ length: n }, (_, i) => texts[(r * n + i) % texts.length]),
        ),
      );
      made.set(key, bodies);
    }
    return bodies;
  };
}

function body(api: Api, model: string, texts: string[]): string {
  const input = texts.length === 1 ? texts[0] : texts;
  return JSON.stringify(api === 'tei' ? { inputs: input } : { input, model });
}

async function measure(
  { url, api, process }: Server,
  bodies: string[],
  load: { concurrency: number; seconds: number },
): Promise<Measurement> {
  const before = process?.usage();
  const result = await runLoad({ url: url + ROUTES[api], bodies, ...load });
  const after = process?.usage();
  return {
    ...result,
    cpuSeconds: before && after && after.cpuSeconds - before.cpuSeconds,
    memoryMiB: after?.memoryMiB,
  };
}

function rowsOf(
  cell: { textsPerRequest: number; concurrency: number },
  servers: readonly Server[],
  measured: readonly Measurement[][],
  textsAtPeak: number,
): ServeBenchRow[] {
  const rates = measured.map((rounds) =>
    rounds.map(({ milliseconds, seconds }) => (milliseconds.length * cell.textsPerRequest) / seconds),
  );
  return servers.map(({ name }, s) => {
    const rounds = measured[s];
    const latency = (p: number): number =>
      median(rounds.map(({ milliseconds }) => percentile(milliseconds, p)));
    const known = rounds.filter(({ cpuSeconds }) => cpuSeconds !== undefined);
    return {
      ...cell,
      server: name,
      textsPerSecond: median(rates[s]),
      ratio: median(rates[0]) / median(rates[s]),
      p50: latency(0.5),
      p95: latency(0.95),
      p99: latency(0.99),
      ofPeak: median(rates[s]) / textsAtPeak,
      ...(known.length > 0 && {
        cpuMillisecondsPerText: median(
          known.map(
            ({ cpuSeconds, milliseconds }) =>
              (cpuSeconds! * 1000) / (milliseconds.length * cell.textsPerRequest),
          ),
        ),
        memoryMiB: median(known.map(({ memoryMiB }) => memoryMiB!)),
      }),
      errors: rounds.reduce((sum, { errors }) => sum + errors, 0),
      textsPerSecondOfRounds: rates[s],
    };
  });
}

async function compareVectors(
  servers: readonly Server[],
  texts: readonly string[],
): Promise<Record<string, number>> {
  const compared = texts.slice(0, COMPARED_TEXTS);
  const [ours, ...theirs] = await Promise.all(servers.map((server) => vectorsOf(server, compared)));
  const cosines: Record<string, number> = {};
  theirs.forEach((vectors, i) => {
    cosines[servers[i + 1].name] = leastAndMeanCosine(ours, vectors, compared.length).least;
  });
  return cosines;
}

async function vectorsOf({ name, url, api }: Server, texts: readonly string[]): Promise<Float32Array> {
  const answer = await fetch(url + ROUTES[api], {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: body(api, name, [...texts]),
  });
  const text = await answer.text();
  if (!answer.ok)
    throw new UserError('backend', `${name}: expected vectors, came ${answer.status}: ${text.slice(0, 300)}`);
  const json = JSON.parse(text) as number[][] | { data: { embedding: number[] }[] };
  return Float32Array.from((Array.isArray(json) ? json : json.data.map(({ embedding }) => embedding)).flat());
}
