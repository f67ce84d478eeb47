import type { Ops } from './ops.js';

/**
 * The k directions in which the rows lie most: eigenvectors of X^T X with the largest eigenvalues, the largest
 * first (principal components, but of the rows as they are: the mean is not taken away).
 *
 * @param rows X, [n, d]
 * @returns [d, k], orthonormal columns; each column's largest number is positive, so that the signs are no chance
 */
export function principalDirections(ops: Ops, rows: Float32Array, d: number, k: number): Float32Array {
  const { tf } = ops;
  const vectors = ops.tidy(() => {
    const x = tf.tensor2d(rows, [rows.length / d, d]);
    return ops.symmetricEigenvectors(ops.exactMatMul(x, x, true));
  });
  const all = vectors.dataSync<'float32'>();
  vectors.dispose();
  const directions = new Float32Array(d * k);
  for (let j = 0; j < k; j++) {
    // Eigenvalues come in rising order.
    const column = d - 1 - j;
    let largest = 0;
    for (let i = 0; i < d; i++)
      if (Math.abs(all[i * d + column]) > Math.abs(largest)) largest = all[i * d + column];
    const sign = Math.sign(largest) || 1;
    for (let i = 0; i < d; i++) directions[i * k + j] = sign * all[i * d + column];
  }
  return directions;
}
