/** Products of row-major matrices that are made once, or are small: what is hot belongs to TensorFlow. */

/** [n, k] x [k, m] -> [n, m]. */
export function product(a: Float32Array, b: Float32Array, n: number, k: number, m: number): Float32Array {
  const result = new Float32Array(n * m);
  for (let i = 0; i < n; i++)
    for (let l = 0; l < k; l++) {
      const factor = a[i * k + l];
      for (let j = 0; j < m; j++) result[i * m + j] += factor * b[l * m + j];
    }
  return result;
}

/** [k, n]^T x [k, m] -> [n, m]. */
export function transposedProduct(
  a: Float32Array,
  b: Float32Array,
  k: number,
  n: number,
  m: number,
): Float32Array {
  const result = new Float32Array(n * m);
  for (let l = 0; l < k; l++)
    for (let i = 0; i < n; i++) {
      const factor = a[l * n + i];
      for (let j = 0; j < m; j++) result[i * m + j] += factor * b[l * m + j];
    }
  return result;
}

/** The mean of rows [n, d]: [d]. */
export function meanRow(rows: Float32Array, d: number): Float64Array {
  const n = rows.length / d;
  const mean = new Float64Array(d);
  rows.forEach((value, i) => (mean[i % d] += value / n));
  return mean;
}
