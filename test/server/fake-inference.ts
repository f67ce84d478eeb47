import { createHash } from 'node:crypto';

import type { Inference } from '../../server/batching/inference.js';

/** A vector that depends on the text's words alone: texts that share words are near each other. */
export function wordVector(text: string, dimensions: number, seed = ''): Float32Array {
  const sum = new Float32Array(dimensions);
  for (const word of text.toLowerCase().split(/\s+/).filter(Boolean))
    for (let block = 0; block * 8 < dimensions; block++) {
      const digest = createHash('sha256').update(`${seed}|${word}|${block}`).digest();
      for (let i = 0; i < 8 && block * 8 + i < dimensions; i++)
        sum[block * 8 + i] += digest.readInt32LE(4 * i) / 2 ** 31;
    }
  let norm = 0;
  for (const x of sum) norm += x * x;
  return sum.map((x) => x / Math.sqrt(norm));
}

/** An encoder without a model. `seed` makes another encoder of it, with another fingerprint. */
export function fakeInference(
  options: { dimensions?: number; seed?: string; onEncode?: (texts: readonly string[]) => void } = {},
): Inference {
  const { dimensions = 16, seed = 'a', onEncode } = options;
  return {
    name: `fake-${seed}`,
    dimensions,
    maxTokens: 128,
    fingerprint: createHash('sha256').update(`${seed}/${dimensions}`).digest('hex'),
    folder: '/nowhere',
    pooling: 'mean',
    precision: 'fp32',
    backend: 'onnxruntime',
    async encode(texts, encodeOptions) {
      encodeOptions?.signal?.throwIfAborted();
      onEncode?.(texts);
      const rows = new Float32Array(texts.length * dimensions);
      texts.forEach((text, i) => rows.set(wordVector(text, dimensions, seed), i * dimensions));
      return rows;
    },
    async encodeWithLengths(texts, encodeOptions) {
      const vectors = await this.encode(texts, encodeOptions);
      return { vectors, lengths: Uint32Array.from(await this.countTokens(texts)) };
    },
    async tokenize(texts) {
      return texts.map((text) => text.split(' ').map((word, id) => ({ id, text: word, special: false })));
    },
    async countTokens(texts) {
      return texts.map((text) => text.split(' ').length);
    },
    stats() {
      return {
        workers: 1,
        workersWanted: 1,
        threadsPerWorker: 1,
        queuedTexts: 0,
        queuedTokens: { interactive: 0, bulk: 0 },
        tokensPerSecond: 0,
        texts: 0,
        tokens: 0,
        batches: 0,
      };
    },
    async close() {},
  };
}
