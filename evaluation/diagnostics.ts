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
  const covariance = covarianceMatrix(vectors, mean);

  let std = 0;
  let meanSquares = 0;
  for (let j = 0; j < d; j++) {
    std += Math.sqrt(covariance[j * d + j]) / d;
    meanSquares += mean[j] * mean[j];
  }
  return {
    std: std * Math.sqrt(d),
    // The sum over all pairs, i = j among them, is n^2 |mean|^2; those n have cosine 1.
    meanCosine: (n * meanSquares - 1) / (n - 1),
    effectiveRank: effectiveRank(symmetricEigenvalues(covariance, d)),
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

/** Unbiased, [d x d], the lower triangle only. */
function covarianceMatrix({ data, n, d }: Vectors, mean: Float64Array): Float64Array {
  const covariance = new Float64Array(d * d);
  // Four rows at a time: each entry of the matrix is then loaded and stored once for four products.
  const centred = new Float64Array(4 * d);
  for (let i = 0; i < n; i += 4) {
    for (let r = 0; r < 4; r++)
      for (let j = 0; j < d; j++) centred[r * d + j] = i + r < n ? data[(i + r) * d + j] - mean[j] : 0;
    for (let j = 0; j < d; j++) {
      const x0 = centred[j];
      const x1 = centred[d + j];
      const x2 = centred[2 * d + j];
      const x3 = centred[3 * d + j];
      for (let k = 0, at = j * d; k <= j; k++, at++)
        covariance[at] +=
          x0 * centred[k] + x1 * centred[d + k] + x2 * centred[2 * d + k] + x3 * centred[3 * d + k];
    }
  }
  return covariance.map((sum) => sum / (n - 1));
}
