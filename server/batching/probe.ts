import { setTimeout as sleep } from 'node:timers/promises';

import { msWithoutCore } from '../../base/run-delay.js';
import type { Precision } from '../../encoder/graph-file.js';
import { cosines } from '../../encoder/pooling.js';
import type { ModelWorker } from './pool.js';

/** Of a forum's usual length: what is encoded to see how fast, and how exact, an encoder is here. */
const TEXTS = [
  'How do I mount a USB stick as a normal user?',
  'wifi drops every few minutes after suspend',
  'apt update fails with a hash sum mismatch',
  'Dual boot: clock is wrong by two hours',
  'Which package has the header files for the kernel that I run?',
  'No sound over HDMI',
  'Move /home to another partition without losing permissions',
  'External monitor is not detected on a laptop with two graphics cards',
];
const MOST_ROUNDS = 8;
/** Before several workers are measured again: what disturbed the one may be over. */
const PAUSE_MS = 500;

/** Two times that are as near to each other as this are what a worker takes, and no other program's doing. */
const REPEATED = 0.03;

/** More workers than this would be as many copies of the model in memory. */
const MOST_WORKERS = 4;

/**
 * By how much several workers must seem to do more than one with all cores before they are taken: a text alone gets its vector
 * sooner from all cores, every worker has a copy of the model, and one that is measured alone seems to do more than beside the
 * others. (Two in int8 on two cores seem to do 1.5 times as much, and do no more.)
 */
const LEAST_GAIN = 1.7;

/** What int8 must be faster by to be worth what it changes. */
const LEAST_SPEEDUP = 1.5;

/**
 * The most that our threads may have waited for a core, as a share of a round's time, for the round to count: mostly
 * below 0.05 on a machine with nothing else to do, and about 1 in two threads beside one busy program on two cores.
 */
const MOST_WAITING = 0.25;
/** The same where several threads compute, which lose more than they have waited, as they wait for each other. */
const MOST_WAITING_TOGETHER = 0.1;

export interface Stopwatch {
  /** Milliseconds from any moment. */
  now?: () => number;
  /** Milliseconds from any moment that our threads have waited for a core. */
  withoutCore?: () => number;
  /** Resolves when nothing else of ours computes. */
  quiet?: Promise<void>;
  /** Resolves after PAUSE_MS. */
  pause?: () => Promise<unknown>;
}

/** How a machine's cores are shared out. */
export interface Sharing {
  workers: number;
  threads: number;
}

/**
 * Whether the cores do more in one worker or in several, measured; in several, twice, and by the best times of both. One, where other programs leave no moment to measure in:
 * a worker with fewer threads loses less to them.
 *
 * @param start a worker with that many threads
 * @returns with the worker of so many threads that was measured: loading it took longest
 */
export async function chooseSharing(
  start: (threads: number) => Promise<ModelWorker>,
  cores: number,
  stopwatch: Stopwatch = {},
): Promise<Sharing & { worker: ModelWorker }> {
  const one = { workers: 1, threads: cores };
  if (cores === 1) return { ...one, worker: await start(1) };
  const workers = Math.min(cores, MOST_WORKERS);
  const several = { workers, threads: Math.floor(cores / workers) };
  const { pause = () => sleep(PAUSE_MS) } = stopwatch;
  const isMore = ([together, apart]: readonly number[]): boolean =>
    together / (apart / workers) >= LEAST_GAIN;
  const { chosen, worker } = await chosenOf(
    [() => start(one.threads), () => start(several.threads)],
    async (measure) => {
      const first = await measure(MOST_WAITING_TOGETHER);
      if (!first || !isMore(first)) return 0;
      await pause();
      const second = await measure(MOST_WAITING_TOGETHER);
      return second && isMore(second.map((took, i) => Math.min(took, first[i]))) ? 1 : 0;
    },
    stopwatch,
  );
  return { ...[one, several][chosen], worker };
}

/**
 * `int8` where this processor is faster with it by enough, else, and where that can't be measured, `fp32`.
 *
 * @param start a worker with that precision, which is closed again
 */
export async function choosePrecision(
  start: (precision: Precision) => Promise<ModelWorker>,
  stopwatch: Stopwatch = {},
): Promise<'fp32' | 'int8'> {
  const { chosen, worker } = await chosenOf(
    [() => start('fp32'), () => start('int8')],
    async (measure) => {
      const times = await measure(MOST_WAITING);
      return times && times[0] / times[1] >= LEAST_SPEEDUP ? 1 : 0;
    },
    stopwatch,
  );
  await worker.close();
  return chosen === 1 ? 'int8' : 'fp32';
}

/** The mean cosine of some titles' vectors to those of another worker, which is closed again. */
export async function meanCosine(
  worker: ModelWorker,
  startOther: () => Promise<ModelWorker>,
): Promise<number> {
  const other = await startOther();
  try {
    const [a, b] = await Promise.all([worker.run(TEXTS), other.run(TEXTS)]);
    return (
      cosines(a.vectors, b.vectors, TEXTS.length).reduce((sum, cosine) => sum + cosine, 0) / TEXTS.length
    );
  } finally {
    await other.close();
  }
}

/**
 * Starts workers side by side, measures them, and closes all but the one that is chosen.
 *
 * @param choose which of them, by what `measure` gives, see timed
 */
async function chosenOf(
  starts: (() => Promise<ModelWorker>)[],
  choose: (measure: (mostWaiting: number) => Promise<number[] | undefined>) => Promise<number>,
  { quiet, ...clocks }: Stopwatch,
): Promise<{ chosen: number; worker: ModelWorker }> {
  const started = await Promise.allSettled(starts.map((start) => start()));
  const workers = started.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
  let worker: ModelWorker | undefined;
  try {
    const failed = started.find((each) => each.status === 'rejected');
    if (failed) throw failed.reason;
    await quiet;
    const chosen = await choose((mostWaiting) => timed(workers, mostWaiting, clocks));
    worker = workers[chosen];
    return { chosen, worker };
  } finally {
    await Promise.all(workers.filter((each) => each !== worker).map((each) => each.close()));
  }
}

/**
 * Milliseconds that the texts take in each worker, which take turns.
 *
 * @param mostWaiting see MOST_WAITING
 * @returns undefined where one of them had no round without waiting for a core
 */
async function timed(
  workers: readonly ModelWorker[],
  mostWaiting: number,
  { now = () => performance.now(), withoutCore = msWithoutCore }: Omit<Stopwatch, 'quiet' | 'pause'>,
): Promise<number[] | undefined> {
  const times = workers.map((): number[] => []);
  for (let round = 0; round < MOST_ROUNDS && !times.every(isRepeated); round++)
    for (const [i, worker] of workers.entries()) {
      const [begin, waited] = [now(), withoutCore()];
      await worker.run(TEXTS);
      const took = now() - begin;
      // The first round allocates.
      if (round > 0 && withoutCore() - waited <= mostWaiting * took) times[i].push(took);
    }
  if (times.some((found) => found.length === 0)) return undefined;
  // What else the machine does only adds to a time.
  return times.map((found) => Math.min(...found));
}

/** Whether the two shortest times are the same but for chance. */
function isRepeated(times: readonly number[]): boolean {
  const [best, second] = times.toSorted((a, b) => a - b);
  return times.length > 1 && second <= (1 + REPEATED) * best;
}
