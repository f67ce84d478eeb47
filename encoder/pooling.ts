import type { Pooling } from './model-folder.js';

/**
 * One vector a text from the hidden states of its tokens.
 *
 * @param hidden [n, width, d], padded to `width` tokens
 * @param lengths how many tokens are real, for each of the n texts
 * @returns [n, d]: the mean over the real tokens, or the first token's state
 */
export function pool(
  hidden: Float32Array,
  lengths: readonly number[],
  width: number,
  d: number,
  pooling: Pooling,
): Float32Array {
  const vectors = new Float32Array(lengths.length * d);
  // A mean over 512 tokens would lose digits in 32-bit sums.
  const sum = new Float64Array(d);
  for (let text = 0; text < lengths.length; text++) {
    const first = text * width * d;
    if (pooling === 'cls') {
      vectors.set(hidden.subarray(first, first + d), text * d);
      continue;
    }
    sum.fill(0);
    for (let token = 0; token < lengths[text]; token++) {
      const at = first + token * d;
      for (let i = 0; i < d; i++) sum[i] += hidden[at + i];
    }
    for (let i = 0; i < d; i++) vectors[text * d + i] = sum[i] / lengths[text];
  }
  return vectors;
}

/** Scales each row of [n, d] to length 1, in place; a row of zeros stays. */
export function normalizeRows(vectors: Float32Array, d: number): void {
  for (let at = 0; at < vectors.length; at += d) {
    let squares = 0;
    for (let i = at; i < at + d; i++) squares += vectors[i] * vectors[i];
    // The floor of PyTorch's normalize.
    const scale = 1 / Math.max(Math.sqrt(squares), 1e-12);
    for (let i = at; i < at + d; i++) vectors[i] *= scale;
  }
}

/** The cosine of each row of `a` to the same row of `b`, n x d both. A NaN makes its row's NaN. */
export function cosines(a: Float32Array, b: Float32Array, n: number): number[] {
  const d = a.length / n;
  return Array.from({ length: n }, (_, row) => {
    let [dot, aa, bb] = [0, 0, 0];
    for (let j = row * d; j < (row + 1) * d; j++) {
      dot += a[j] * b[j];
      aa += a[j] * a[j];
      bb += b[j] * b[j];
    }
    return dot / Math.sqrt(aa * bb);
  });
}
