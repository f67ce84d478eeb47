import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { UserError } from '../base/errors.js';
import type { ModelFolder } from '../encoder/model-folder.js';
import { completeFolder } from './complete-folder.js';
import { runLoad } from './load.js';
import { BenchProcess, freePort } from './processes.js';
import { figure, markdownTable } from './report.js';
import { median, percentile, slope } from './statistics.js';

export interface OverloadBenchOptions {
  model: ModelFolder;
  texts: readonly string[];
  minutes: number;
  /** Offered, by what the server was measured to do. */
  factor: number;
  maxQueueSeconds: number;
  say(line: string): void;
}

/** Requests at a rate, whatever is answered. */
export interface Overload {
  url: string;
  bodies: string[];
  requestsPerSecond: number;
  seconds: number;
}

export interface OverloadAnswers {
  /** Milliseconds of each answer with 200. */
  accepted: number[];
  /** Answers with 429. */
  refused: number;
  errors: number;
  firstError?: string;
}

export interface OverloadBench {
  /** Requests of TEXTS_PER_REQUEST texts a second, one client after the other's answer. */
  capacity: number;
  offered: number;
  acceptedPerSecond: number;
  refusedShare: number;
  errors: number;
  firstError?: string;
  p50: number;
  p99: number;
  /** Of a lone text before; recovery is when three in a row take no more than twice that. */
  normalMilliseconds: number;
  recoverySeconds: number;
  /** Resident memory; nothing where the system has no /proc. The first minute is left out, or half of a shorter run. */
  memory?: { firstMiB: number; lastMiB: number; mostMiB: number; slopeMiBPerMinute: number };
}

const TEXTS_PER_REQUEST = 8;
const CAPACITY_CONCURRENCY = 8;
const SAMPLE_MS = 1000;
const RECOVERY_LIMIT_SECONDS = 120;

/**
 * Offers a server more than it can do, for minutes, and looks what becomes of the requests, of its memory, and of the
 * first requests afterwards.
 *
 * @throws UserError `unavailable` when the server doesn't start, or ends
 */
export async function benchOverload(options: OverloadBenchOptions): Promise<OverloadBench> {
  const { model, texts, minutes, factor, say } = options;
  const scratch = await mkdtemp(path.join(tmpdir(), 'bench-load-'));
  let server: BenchProcess | undefined;
  try {
    const port = await freePort();
    server = new BenchProcess('sentence-jepa', process.execPath, [
      fileURLToPath(new URL('../cli/main.js', import.meta.url)),
      ...['serve', '--model', await completeFolder(model, scratch), '--data-dir', path.join(scratch, 'data')],
      ...['--host', '127.0.0.1', '--port', String(port), '--log-level', 'silent'],
      // The same titles come round: without this, what is measured would be a lookup.
      ...['--cache-mib', '0', '--max-queue-seconds', String(options.maxQueueSeconds)],
    ]);
    const base = `http://127.0.0.1:${port}`;
    const url = `${base}/embed`;
    await server.answers(`${base}/ready`);

    const lone = texts.slice(0, 100).map((text) => JSON.stringify({ inputs: text }));
    const bodies = Array.from({ length: Math.ceil(texts.length / TEXTS_PER_REQUEST) }, (_, r) =>
      JSON.stringify({
        inputs: Array.from(
          { length: TEXTS_PER_REQUEST },
          (_, i) => texts[(r * TEXTS_PER_REQUEST + i) % texts.length],
        ),
      }),
    );
    const normalMilliseconds = await normalOf(url, lone);
    const most = await runLoad({ url, bodies, concurrency: CAPACITY_CONCURRENCY, seconds: 5 });
    const capacity = most.milliseconds.length / most.seconds;
    say(
      `capacity ${figure(capacity)} requests/s of ${TEXTS_PER_REQUEST} texts, a lone text ${figure(normalMilliseconds)} ms`,
    );

    const offered = factor * capacity;
    const seconds = minutes * 60;
    const samples: { second: number; mib: number }[] = [];
    const begin = performance.now();
    const sampling = setInterval(() => {
      const second = (performance.now() - begin) / 1000;
      const usage = server?.usage();
      if (usage) samples.push({ second, mib: usage.memoryMiB });
      if (samples.length % 60 === 0)
        say(`${Math.round(second)} s of ${seconds}: ${figure(usage?.memoryMiB ?? NaN)} MiB`);
    }, SAMPLE_MS);
    const load = { url, bodies, requestsPerSecond: offered, seconds };
    const { answers, afterwards: recoverySeconds } = await runOverload(load, () => {
      clearInterval(sampling);
      return recovery(url, lone, normalMilliseconds);
    }).finally(() => clearInterval(sampling));
    const { accepted, refused, errors, firstError } = answers;
    return {
      capacity,
      offered,
      acceptedPerSecond: accepted.length / seconds,
      refusedShare: refused / (accepted.length + refused + errors),
      errors,
      firstError,
      p50: percentile(accepted, 0.5),
      p99: percentile(accepted, 0.99),
      normalMilliseconds,
      recoverySeconds,
      memory: memoryOf(samples, Math.min(60, seconds / 2)),
    };
  } finally {
    await server?.stop();
    await rm(scratch, { recursive: true, force: true });
  }
}

export function overloadBenchTable(result: OverloadBench): string {
  const { memory, firstError } = result;
  const rows: [string, string][] = [
    ['capacity, requests/s', figure(result.capacity)],
    ['offered, requests/s', figure(result.offered)],
    ['accepted, requests/s', figure(result.acceptedPerSecond)],
    ['answered with 429, %', figure(100 * result.refusedShare)],
    ['errors', String(result.errors)],
    ['accepted, p50 ms', figure(result.p50)],
    ['accepted, p99 ms', figure(result.p99)],
    ['a lone text before, p50 ms', figure(result.normalMilliseconds)],
    ['as fast again after, s', figure(result.recoverySeconds)],
  ];
  if (memory)
    rows.push(
      ['resident after the first minute, MiB', figure(memory.firstMiB)],
      ['at the end, MiB', figure(memory.lastMiB)],
      ['at most, MiB', figure(memory.mostMiB)],
      ['slope after the first minute, MiB/min', figure(memory.slopeMiBPerMinute)],
    );
  const table = markdownTable(['', 'measured'], rows);
  return firstError ? `${table}\n\nThe first error: ${firstError}.` : table;
}

/**
 * Runs a load in a process of its own, so that this one's event loop is not in the figures.
 *
 * @param whenSent is called when the last request is sent; earlier ones may still wait
 */
export async function runOverload<T>(
  load: Overload,
  whenSent: () => Promise<T>,
): Promise<{ answers: OverloadAnswers; afterwards: T }> {
  const child = fork(new URL('./overload-worker.js', import.meta.url));
  const kill = (): void => void child.kill('SIGKILL');
  process.once('exit', kill);
  const next = async (): Promise<unknown> => {
    const [message] = (await Promise.race([once(child, 'message'), once(child, 'exit').then(() => [])])) as [
      unknown,
    ];
    if (!message) throw new UserError('backend', 'the load generator ended without a result');
    return message;
  };
  try {
    child.send(load);
    await next();
    const [answers, afterwards] = await Promise.all([next(), whenSent()]);
    return { answers: answers as OverloadAnswers, afterwards };
  } finally {
    process.off('exit', kill);
    kill();
  }
}

/** Seconds until three lone texts in a row take no more than twice what they took before. NaN when they never do. */
async function recovery(url: string, bodies: readonly string[], normal: number): Promise<number> {
  const begin = performance.now();
  let inARow = 0;
  for (let i = 0; performance.now() - begin < RECOVERY_LIMIT_SECONDS * 1000; i++) {
    const start = performance.now();
    const { status, milliseconds } = await askOnce(url, bodies[i % bodies.length]);
    inARow = status === 200 && milliseconds <= 2 * normal ? inARow + 1 : 0;
    if (inARow === 3) return (start - begin) / 1000;
  }
  return NaN;
}

/** As {@link recovery} asks: a client that goes on at once is answered sooner than one that comes now and then. */
async function normalOf(url: string, bodies: readonly string[]): Promise<number> {
  const milliseconds: number[] = [];
  for (const body of bodies) milliseconds.push((await askOnce(url, body)).milliseconds);
  return median(milliseconds);
}

/** One request, and a pause behind it. */
async function askOnce(url: string, body: string): Promise<{ status: number; milliseconds: number }> {
  const start = performance.now();
  const answer = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
  await answer.arrayBuffer();
  const milliseconds = performance.now() - start;
  await sleep(20);
  return { status: answer.status, milliseconds };
}

function memoryOf(
  samples: readonly { second: number; mib: number }[],
  from: number,
): OverloadBench['memory'] {
  const later = samples.filter(({ second }) => second >= from);
  if (later.length < 2) return undefined;
  return {
    firstMiB: later[0].mib,
    lastMiB: later[later.length - 1].mib,
    mostMiB: Math.max(...samples.map(({ mib }) => mib)),
    slopeMiBPerMinute: 60 * slope(later.map(({ second, mib }) => [second, mib])),
  };
}
