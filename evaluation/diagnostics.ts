import { symmetricEigenvalues } from './eigenvalues.js';
import type { EmbeddingDiagnostics } from './evaluation.js';
import type { Vectors } from './vectors.js';

/** Below this total variance the rows are the same but for rounding, and what is left has no rank. */
const NO_VARIANCE = 1e-10;

/** @param vectors rows of length 1; one row or none counts as collapsed */
export function embeddingDiagnostics(vectors: Vectors): EmbeddingDiagnostics {
  const { n, d } = vectors;
  if (n < 2) return { std: 0, meanCosine: 1, effectiveRank: 1 };
  const mean = meanRow(vectors);
  const centred = centredRows(vectors, mean);

  let std = 0;
  let meanSquares = 0;
  for (let j = 0; j < d; j++) {
    let squares = 0;
    for (let i = 0; i < n; i++) squares += centred[i * d + j] ** 2;
    std += Math.sqrt(squares / (n - 1)) / d;
    meanSquares += mean[j] * mean[j];
  }
  // X^T X and X X^T have the same eigenvalues but for zeros: the smaller one is taken.
  const scatter = n < d ? columnProducts(transposed(centred, n, d), d, n) : columnProducts(centred, n, d);
  const eigenvalues = symmetricEigenvalues(scatter, Math.min(n, d)).map((value) => value / (n - 1));
  return {
    std: std * Math.sqrt(d),
    // The sum over all pairs, i = j among them, is n^2 |mean|^2; those n have cosine 1.
    meanCosine: (n * meanSquares - 1) / (n - 1),
    effectiveRank: effectiveRank(eigenvalues),
  };
}

/** exp(entropy) of the singular values scaled to sum 1 (Roy and Vetterli 2007, eq. 4), from their squares. */
export function effectiveRank(eigenvalues: Float64Array): number {
  const variance = eigenvalues.reduce((sum, value) => sum + Math.max(value, 0), 0);
  if (variance < NO_VARIANCE) return 1;
  // Rounding leaves eigenvalues that should be 0 around this, and their roots would count.
  const noise = eigenvalues.length * Number.EPSILON * Math.max(...eigenvalues);
  const singular = eigenvalues.map((value) => (value > noise ? Math.sqrt(value) : 0));
  const total = singular.reduce((sum, value) => sum + value, 0);
  let entropy = 0;
  for (const value of singular) if (value > 0) entropy -= (value / total) * Math.log(value / total);
  return Math.exp(entropy);
}

function meanRow({ data, n, d }: Vectors): Float64Array {
  const mean = new Float64Array(d);
  for (let i = 0; i < n; i++) for (let j = 0; j < d; j++) mean[j] += data[i * d + j];
  return mean.map((sum) => sum / n);
}

function centredRows({ data, n, d }: Vectors, mean: Float64Array): Float64Array {
  const centred = new Float64Array(n * d);
  for (let i = 0; i < n; i++) for (let j = 0; j < d; j++) centred[i * d + j] = data[i * d + j] - mean[j];
  return centred;
}

/** [n x d] -> [d x n] */
function transposed(matrix: Float64Array, n: number, d: number): Float64Array {
  const result = new Float64Array(n * d);
  for (let i = 0; i < n; i++) for (let j = 0; j < d; j++) result[j * n + i] = matrix[i * d + j];
  return result;
}

/** X^T X of X [n x d]: [d x d], the lower triangle only. */
function columnProducts(x: Float64Array, n: number, d: number): Float64Array {
  const products = new Float64Array(d * d);
  const none = new Float64Array(d);
  const row = (i: number): Float64Array => (i < n ? x.subarray(i * d, (i + 1) * d) : none);
  // Four rows at a time: each entry of the matrix is then loaded and stored once for four products.
  for (let i = 0; i < n; i += 4) {
    const [r0, r1, r2, r3] = [row(i), row(i + 1), row(i + 2), row(i + 3)];
    for (let j = 0; j < d; j++) {
      const x0 = r0[j];
      const x1 = r1[j];
      const x2 = r2[j];
      const x3 = r3[j];
      for (let k = 0, at = j * d; k <= j; k++, at++)
        products[at] += x0 * r0[k] + x1 * r1[k] + x2 * r2[k] + x3 * r3[k];
    }
  }
  return products;
}
