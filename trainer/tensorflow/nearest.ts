import type { Random } from '../../base/random.js';
import type { Ops, Tensor } from './ops.js';

/** Vectors among which neighbours are looked for: with more, the search would take longer than the step. */
export const POOL_SIZE = 65_536;

/** Some rows of a matrix, and their vectors [rows, d]. */
export interface Pool {
  rows: number[];
  vectors: Tensor;
}

/**
 * The vectors among which neighbours are looked for: all, or of many a sample.
 *
 * @param vectors [n, d]
 * @param random draws the sample
 */
export function poolOf({ tf }: Ops, vectors: Float32Array, d: number, random: Random): Pool {
  const all = Array.from({ length: vectors.length / d }, (_, row) => row);
  const rows = random.shuffle(all).slice(0, POOL_SIZE);
  return { rows, vectors: tf.tensor2d(gatherRows(vectors, d, rows), [rows.length, d]) };
}

/** Some rows of vectors [n, d], as they are asked for. */
export function gatherRows(vectors: Float32Array, d: number, rows: ArrayLike<number>): Float32Array {
  const found = new Float32Array(rows.length * d);
  for (let i = 0; i < rows.length; i++) found.set(vectors.subarray(rows[i] * d, (rows[i] + 1) * d), i * d);
  return found;
}

/**
 * The k vectors of the pool, or all where there are fewer, with the largest inner products with each query. The search
 * is exact.
 *
 * @param queries [n, d]
 * @returns places in the pool and products, [n, k] each, the nearest first
 */
export function nearest(
  ops: Ops,
  queries: Float32Array,
  { rows, vectors }: Pool,
  most: number,
): { k: number; places: Int32Array; products: Float32Array } {
  const { tf } = ops;
  const d = vectors.shape[1]!;
  const k = Math.min(most, rows.length);
  const [values, indices] = ops.tidy(() => {
    const x = tf.tensor2d(queries, [queries.length / d, d]);
    const top = tf.topk(ops.exactMatMul(x, vectors, false, true), k);
    return [top.values, top.indices];
  });
  const products = values.dataSync<'float32'>();
  const places = indices.dataSync<'int32'>();
  ops.free(values, indices);
  return { k, places, products };
}
