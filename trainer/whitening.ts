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
  const { tf } = ops;
  const directions = principalDirections(ops, rows, d, d);
  const white = ops.tidy(() => {
    const V = tf.tensor2d(directions, [d, d]);
    const turned = ops.exactMatMul(tf.tensor2d(rows, [rows.length / d, d]), V);
    const scales = whiteningScales(turned.dataSync<'float32'>(), d, share);
    return ops.exactMatMul(ops.mul(turned, tf.tensor1d(Float32Array.from(scales))), V, false, true);
  });
  const result = white.dataSync<'float32'>().slice();
  white.dispose();
  return result;
}
