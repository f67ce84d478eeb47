import { UserError } from '../../base/errors.js';
import { BATCH_TOKENS, batchByLength } from '../../encoder/batches.js';
import { openEncoder, type OpenedEncoder } from '../../encoder/open-encoder.js';
import { answerCalls, giveWay, type CallContext } from '../threads.js';
import type { Token } from './inference.js';
import type { WorkerModel } from './pool.js';
import type { InferenceHandlers, ModelSpec } from './start-inference.js';

let encoder: OpenedEncoder | undefined;

function opened(): OpenedEncoder {
  if (!encoder) throw new UserError('not-ready', 'the model is not loaded');
  return encoder;
}

const handlers: InferenceHandlers = {
  async open({ model, precision, backend, threads, background }: ModelSpec): Promise<WorkerModel> {
    // Before what computes starts its threads, which take after this one.
    if (background) giveWay();
    encoder = await openEncoder(model, { precision, backend, threads });
    const { name, dimensions, maxTokens, fingerprint, folder } = encoder;
    const { dir, pooling, normalize } = folder;
    return {
      ...{ name, dimensions, maxTokens, fingerprint, folder: dir, pooling, normalizes: normalize },
      backend: encoder.backend,
    };
  },

  async run(texts: readonly string[], { transfer }: CallContext) {
    const { tokenizer, session, dimensions } = opened();
    const start = performance.now();
    const sequences = texts.map((text) => tokenizer.encode(text));
    const tokenizeMs = performance.now() - start;
    const lengths = sequences.map(({ length }) => length);
    const vectors = new Float32Array(texts.length * dimensions);
    for (const batch of batchByLength(lengths, BATCH_TOKENS)) {
      // As pooled: whether a vector gets length 1 is for each request to say, and requests share a batch.
      const pooled = await session.encodeTokens(
        batch.map((i) => sequences[i]),
        false,
      );
      batch.forEach((i, at) =>
        vectors.set(pooled.subarray(at * dimensions, (at + 1) * dimensions), i * dimensions),
      );
    }
    transfer.push(vectors.buffer);
    return { vectors, lengths, tokenizeMs, totalMs: performance.now() - start };
  },

  tokenize(texts: readonly string[]): Token[][] {
    const { tokenizer } = opened();
    return texts.map((text) => tokenizer.tokens(text));
  },

  countTokens(texts: readonly string[]): number[] {
    const { tokenizer } = opened();
    return texts.map((text) => tokenizer.count(text));
  },
};

answerCalls(handlers);
