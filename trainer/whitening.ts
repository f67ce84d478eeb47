import { product } from './matrix.js';
import type { Ops } from './tensorflow/ops.js';
import { principalDirections } from './tensorflow/principal.js';

/** Of the largest variance: what is less is rounding, and would be blown up. */
const LEAST_VARIANCE = 1e-6;

/**
 * What each direction is multiplied by so that the variances in all of them come nearer to each other: a direction's
 * variance to the power of -share / 2 (Su et al. 2021, arXiv 2103.15316, eq. 5, where the share is 1), and by a number
 * for all of them, so that the mean variance stands where the share is 1.
 *
 * @param rows the vectors in these directions, [n, k]
 * @param share 0 for none, 1 for the same variance in all
 */
export function whiteningScales(rows: Float32Array, k: number, share: number): Float64Array {
  const variances = new Float64Array(k);
  const n = rows.length / k;
  rows.forEach((value, i) => (variances[i % k] += (value * value) / n));
  const least = LEAST_VARIANCE * Math.max(...variances);
  const mean = variances.reduce((sum, value) => sum + value / k, 0);
  return variances.map((value) => (mean / Math.max(value, least)) ** (share / 2));
}

/**
 * Whitens centred rows and turns them back to where they were, so that each is as near to what it was as can be
 * (ZCA; Bell and Sejnowski 1997): what learns them from the rows has the least to learn.
 *
 * @param rows [n, d], of mean 0
 * @returns [n, d]
 */
export function whitened(ops: Ops, rows: Float32Array, d: number, share: number): Float32Array {
  const n = rows.length / d;
  const directions = principalDirections(ops, rows, d, d);
  const scales = whiteningScales(product(rows, directions, n, d, d), d, share);
  const back = new Float32Array(d * d);
  for (let i = 0; i < d; i++) for (let j = 0; j < d; j++) back[j * d + i] = scales[j] * directions[i * d + j];
  return product(rows, product(directions, back, d, d, d), n, d, d);
}
