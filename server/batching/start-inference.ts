import { availableParallelism } from 'node:os';

import { UserError } from '../../base/errors.js';
import { BATCH_TOKENS } from '../../encoder/batches.js';
import type { Precision } from '../../encoder/onnx/bert-graph.js';
import { Thread, type CallContext } from '../threads.js';
import type { Inference, Token } from './inference.js';
import { InferencePool, type ModelWorker, type WorkerModel } from './pool.js';

/** What a worker needs to open the model. */
export interface ModelSpec {
  /** A model folder, or a name that `sentence-jepa model get` knows. */
  model: string;
  precision?: Precision;
  /** ONNX Runtime's threads for one batch. */
  threads: number;
}

/** The calls that server/batching/worker.ts answers. */
export type InferenceHandlers = {
  open(spec: ModelSpec): Promise<WorkerModel>;
  run(texts: readonly string[], context: CallContext): Promise<{ vectors: Float32Array; tokens: number }>;
  tokenize(texts: readonly string[]): Token[][];
  countTokens(input: { texts: readonly string[]; truncated?: boolean }): number[];
};

export interface StartInferenceOptions extends Omit<ModelSpec, 'threads'> {
  /** Threads with a copy of the model each. Default 1: cores are better used within a batch. */
  workers?: number;
  /** Cores a worker computes with. Default: the machine's, shared out among the workers. */
  threads?: number;
  /** See PoolOptions. */
  batchTokens?: number;
  maxQueuedTexts?: number;
}

/**
 * Loads the model in worker threads.
 *
 * @throws UserError as `openEncoder` does, or `invalid` for a number of workers or threads below 1
 */
export async function startInference(options: StartInferenceOptions): Promise<Inference> {
  const workers = wholeNumber(options.workers ?? 1, 'workers');
  const cores = Math.max(1, Math.floor(availableParallelism() / workers));
  const threads = wholeNumber(options.threads ?? cores, 'threads');
  const { model, precision, batchTokens = BATCH_TOKENS, maxQueuedTexts = 50_000 } = options;
  const script = new URL('./worker.js', import.meta.url);
  return InferencePool.start(() => startModelWorker(script, { model, precision, threads }), {
    workers,
    threadsPerWorker: threads,
    batchTokens: wholeNumber(batchTokens, 'batchTokens'),
    maxQueuedTexts: wholeNumber(maxQueuedTexts, 'maxQueuedTexts'),
  });
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
      countTokens: (texts, options) => thread.call('countTokens', { texts, ...options }),
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
