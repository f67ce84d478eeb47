import { availableParallelism } from 'node:os';

import { UserError } from '../../base/errors.js';
import { BATCH_TOKENS } from '../../encoder/batches.js';
import type { Precision } from '../../encoder/graph-file.js';
import type { BackendChoice } from '../../encoder/backend.js';
import { defaults } from '../config.js';
import { Thread, type CallContext } from '../threads.js';
import type { Inference, Token } from './inference.js';
import {
  InferencePool,
  type ModelWorker,
  type PoolOptions,
  type WorkerBatch,
  type WorkerModel,
} from './pool.js';
import { choosePrecision, chooseSharing, type Sharing } from './probe.js';

/**
 * Where there are several workers: a request of some dozen titles is enough for all of them, and a core is as fast with few
 * tokens as with many.
 */
const SHARED_BATCH_TOKENS = 128;

/** `auto`: what a probe finds at start. */
export type PrecisionChoice = Precision | 'auto';

/** What a worker needs to open the model. */
export interface ModelSpec {
  /** A model folder, or a name that `sentence-jepa model get` knows. */
  model: string;
  precision?: Precision;
  /** What computes; see OpenEncoderOptions. */
  backend?: BackendChoice;
  /** For one batch. */
  threads: number;
  /** Whether it gives way to all that has no such mark (see giveWay). */
  background?: boolean;
}

/** The calls that server/batching/worker.ts answers. */
export type InferenceHandlers = {
  open(spec: ModelSpec): Promise<WorkerModel>;
  run(texts: readonly string[], context: CallContext): Promise<WorkerBatch>;
  tokenize(texts: readonly string[]): Token[][];
  countTokens(texts: readonly string[]): number[];
};

export interface StartInferenceOptions extends Omit<ModelSpec, 'threads' | 'precision'> {
  /** Default fp32; `auto` for int8 where that is faster here. */
  precision?: PrecisionChoice;
  /** Threads with a copy of the model each. Default: what does more here, one or several (see probe.ts). */
  workers?: number;
  /** Cores a worker computes with. Default: the machine's, shared out among the workers. */
  threads?: number;
  /** See PoolOptions. */
  batchTokens?: number;
  maxQueueTokens?: number;
  maxQueueSeconds?: number;
  batchSeconds?: number;
  observer?: PoolOptions['observer'];
  /** What measuring waits for, so that nothing else of ours computes meanwhile; loading does not. */
  quiet?: Promise<void>;
}

/**
 * Loads the model in worker threads.
 *
 * @throws UserError as `openEncoder` does, or `invalid` for a number of workers or threads below 1
 */
export async function startInference(options: StartInferenceOptions): Promise<Inference> {
  const { model, backend, background } = options;
  const queue = {
    tokens: wholeNumber(options.maxQueueTokens ?? defaults.maxQueueTokens, 'maxQueueTokens'),
    seconds: options.maxQueueSeconds ?? defaults.maxQueueSeconds,
  };
  const script = new URL('./worker.js', import.meta.url);
  const start = (precision: Precision, threads: number): Promise<ModelWorker> =>
    startModelWorker(script, { model, precision, backend, threads, background });
  const cores = availableParallelism();
  const { precision: choice = 'fp32' } = options;
  const precision =
    choice === 'auto' ? await choosePrecision((each) => start(each, 1), { quiet: options.quiet }) : choice;
  const { workers, threads, worker } = await sharingOf(options, (each) => start(precision, each), cores);
  const pooled: PoolOptions = {
    queue,
    batchSeconds: wholeNumber(options.batchSeconds ?? defaults.batchSeconds, 'batchSeconds'),
    observer: options.observer,
    batchTokens: wholeNumber(
      options.batchTokens ?? (workers > 1 ? SHARED_BATCH_TOKENS : BATCH_TOKENS),
      'batchTokens',
    ),
    workers,
    threadsPerWorker: threads,
    precision,
  };
  const pool = new InferencePool(worker, () => start(precision, threads), pooled);
  // Whoever waits for the server waits for no figure.
  if (precision !== 'fp32' || worker.model.backend === 'kernels')
    pool.compareWith(() =>
      startModelWorker(script, {
        ...{ model, precision: 'fp32', threads: 1, background: true },
        // Of what the kernels allocate nothing is left when they are closed.
        backend: precision === 'fp32' ? 'onnxruntime' : backend,
      }),
    );
  return pool;
}

/** As the caller says; what is left open fills the cores, and where nothing is said, as measured. One worker is started. */
async function sharingOf(
  { workers, threads, quiet }: Pick<StartInferenceOptions, 'workers' | 'threads' | 'quiet'>,
  start: (threads: number) => Promise<ModelWorker>,
  cores: number,
): Promise<Sharing & { worker: ModelWorker }> {
  if (workers === undefined && threads === undefined) return chooseSharing(start, cores, { quiet });
  const count = wholeNumber(workers ?? 1, 'workers');
  const each = wholeNumber(threads ?? Math.max(1, Math.floor(cores / count)), 'threads');
  return { workers: count, threads: each, worker: await start(each) };
}

async function startModelWorker(script: URL, spec: ModelSpec): Promise<ModelWorker> {
  const thread = new Thread<InferenceHandlers>(script, 'inference');
  try {
    const model = await thread.call('open', spec);
    return {
      model,
      ended: thread.ended,
      run: (texts) => thread.call('run', texts),
      tokenize: (texts) => thread.call('tokenize', texts),
      countTokens: (texts) => thread.call('countTokens', texts),
      close: () => thread.terminate(),
    };
  } catch (error) {
    await thread.terminate();
    throw error;
  }
}

function wholeNumber(value: number, what: string): number {
  if (!Number.isSafeInteger(value) || value < 1)
    throw new UserError('invalid', `${what}: expected a whole number from 1 up, found ${value}`);
  return value;
}
