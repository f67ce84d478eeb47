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
const ROUNDS = 7;

/** More workers than this would be as many copies of the model in memory. */
const MOST_WORKERS = 4;

/**
 * By how much several workers must do more than one with all cores before they are taken: a text alone gets its vector
 * sooner from all cores, and every worker has a copy of the model.
 */
const LEAST_GAIN = 1.4;

/** What int8 must be faster by to be worth what it changes. */
const LEAST_SPEEDUP = 1.5;

/** How a machine's cores are shared out. */
export interface Sharing {
  workers: number;
  threads: number;
}

/**
 * Whether the cores do more in one worker or in several, measured.
 *
 * @param start a worker with that many threads, which is closed again
 * @param now milliseconds from any moment
 */
export async function chooseSharing(
  start: (threads: number) => Promise<ModelWorker>,
  cores: number,
  now = () => performance.now(),
): Promise<Sharing> {
  const one = { workers: 1, threads: cores };
  if (cores === 1) return one;
  const workers = Math.min(cores, MOST_WORKERS);
  const several = { workers, threads: Math.floor(cores / workers) };
  const [together, apart] = await timed([() => start(one.threads), () => start(several.threads)], now);
  return together / (apart / workers) >= LEAST_GAIN ? several : one;
}

/**
 * `int8` where this processor is faster with it by enough, else `fp32`.
 *
 * @param start a worker with that precision, which is closed again
 */
export async function choosePrecision(
  start: (precision: Precision) => Promise<ModelWorker>,
  now = () => performance.now(),
): Promise<'fp32' | 'int8'> {
  const [fp32, int8] = await timed([() => start('fp32'), () => start('int8')], now);
  return fp32 / int8 >= LEAST_SPEEDUP ? 'int8' : 'fp32';
}

/** The mean cosine of some titles' vectors to those of another worker. Both are closed. */
export async function meanCosine(starts: (() => Promise<ModelWorker>)[]): Promise<number> {
  const [a, b] = await withWorkers(starts, (workers) =>
    Promise.all(workers.map(async (worker) => (await worker.run(TEXTS)).vectors)),
  );
  return cosines(a, b, TEXTS.length).reduce((sum, cosine) => sum + cosine, 0) / TEXTS.length;
}

/** Milliseconds that the texts take in each worker, which take turns. */
async function timed(starts: (() => Promise<ModelWorker>)[], now: () => number): Promise<number[]> {
  return withWorkers(starts, async (workers) => {
    const times = workers.map((): number[] => []);
    // The first round allocates.
    for (let round = 0; round <= ROUNDS; round++)
      for (const [i, worker] of workers.entries()) {
        const begin = now();
        await worker.run(TEXTS);
        if (round > 0) times[i].push(now() - begin);
      }
    // What else the machine does only adds to a time.
    return times.map((found) => Math.min(...found));
  });
}

async function withWorkers<T>(
  starts: (() => Promise<ModelWorker>)[],
  use: (workers: readonly ModelWorker[]) => Promise<T>,
): Promise<T> {
  const workers: ModelWorker[] = [];
  try {
    for (const start of starts) workers.push(await start());
    return await use(workers);
  } finally {
    await Promise.all(workers.map((worker) => worker.close()));
  }
}
