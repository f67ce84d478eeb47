import type { BertConfig } from '../encoder/bert.js';

/** Weights that each token is multiplied by on its way through the dense layers of an encoder. */
export function weightsPerToken({ layers, hiddenSize: d, intermediateSize }: BertConfig): number {
  return layers * (4 * d * d + 2 * d * intermediateSize);
}

/** Of the square matrices that a machine's peak is measured with. */
export const PEAK_SIZE = 1024;
const ROUNDS = 20;

/** What a machine multiplies at most, in GFLOP/s: the best of some products. @param multiply two fp32 matrices, PEAK_SIZE x PEAK_SIZE */
export async function peakOf(multiply: () => unknown): Promise<number> {
  let best = Infinity;
  for (let round = 0; round < ROUNDS; round++) {
    const begun = performance.now();
    await multiply();
    best = Math.min(best, performance.now() - begun);
  }
  return (2 * PEAK_SIZE ** 3) / best / 1e6;
}
