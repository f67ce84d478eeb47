import { setImmediate } from 'node:timers/promises';

import { applyDense } from '../encoder/dense.js';
import type { Encoder, EncodeOptions } from '../encoder/encoder.js';
import { dimensionsOf, type ModelFolder } from '../encoder/model-folder.js';
import { normalizeRows } from '../encoder/pooling.js';
import type { Tokenizer } from '../encoder/tokenizer.js';
import { batchesByWidth, pack } from './packing.js';
import type { TrainableEncoder } from './types.js';

/** Tokens of a batch: with half as many, one core waits more often for what is not computed on both. */
const BATCH_TOKENS = 4096;

/**
 * An encoder on TensorFlow: one that stands still, or one that is trained, as it stands. It has no fingerprint, for the
 * weights of the latter still change.
 *
 * @param folder what it is stored as, or will be
 */
export function tensorFlowEncoder(
  model: Pick<TrainableEncoder, 'embed'>,
  tokenizer: Tokenizer,
  folder: Pick<ModelFolder, 'name' | 'config' | 'dense' | 'normalize'>,
): Encoder {
  const { name, dense, normalize } = folder;
  const dimensions = dimensionsOf(folder);
  return {
    name,
    dimensions,
    maxTokens: tokenizer.maxTokens,
    fingerprint: '',
    async encode(
      texts: readonly string[],
      { onProgress, signal }: EncodeOptions = {},
    ): Promise<Float32Array> {
      const sequences = texts.map((text) => tokenizer.encode(text));
      const vectors = new Float32Array(texts.length * dimensions);
      let done = 0;
      for (const batch of batchesByWidth(
        sequences.map(({ length }) => length),
        BATCH_TOKENS,
      )) {
        signal?.throwIfAborted();
        const pooled = applyDense(await model.embed(pack(batch.map((i) => sequences[i]))), dense);
        if (normalize) normalizeRows(pooled, dimensions);
        batch.forEach((i, row) =>
          vectors.set(pooled.subarray(row * dimensions, (row + 1) * dimensions), i * dimensions),
        );
        done += batch.length;
        onProgress?.(done, texts.length);
        // A kernel holds the thread: let signals in between two batches.
        await setImmediate();
      }
      return vectors;
    },
    async close() {},
  };
}
