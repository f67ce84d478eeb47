import { cosines } from '../encoder/pooling.js';

/** Cosines of the rows of `a` to those of `b`, both n x d. NaN anywhere makes both NaN. */
export function leastAndMeanCosine(
  a: Float32Array,
  b: Float32Array,
  n: number,
): { least: number; mean: number } {
  const found = cosines(a, b, n);
  return { least: Math.min(...found), mean: found.reduce((sum, cosine) => sum + cosine, 0) / n };
}
