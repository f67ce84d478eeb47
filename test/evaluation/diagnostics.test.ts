import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { Random } from '../../base/random.js';
import { effectiveRank, embeddingDiagnostics } from '../../evaluation/diagnostics.js';
import { symmetricEigenvalues } from '../../evaluation/eigenvalues.js';
import type { Vectors } from '../../evaluation/vectors.js';
import { closeTo } from './support.js';

const rows = (...vectors: number[][]): Vectors => ({
  n: vectors.length,
  d: vectors[0].length,
  data: Float32Array.from(vectors.flat()),
});

function assertEigenvalues(matrix: number[][], expected: number[]): void {
  const found = symmetricEigenvalues(Float64Array.from(matrix.flat()), matrix.length);
  assert.equal(found.length, expected.length);
  [...expected].sort((a, b) => a - b).forEach((value, i) => closeTo(found[i], value, 1e-12));
}

describe('eigenvalues', () => {
  it('of small matrices by hand', () => {
    assertEigenvalues([[5]], [5]);
    assertEigenvalues([[2, 1], [1, 2]], [1, 3]); // prettier-ignore
    assertEigenvalues([[0, 0], [0, 0]], [0, 0]); // prettier-ignore
    assertEigenvalues([[2, 0, 0], [0, 3, 4], [0, 4, 9]], [1, 2, 11]); // prettier-ignore
  });

  it('of the second-difference matrix: 2 - 2 cos(k pi / (n + 1))', () => {
    const n = 30;
    const matrix = Array.from({ length: n }, (_, i) =>
      Array.from({ length: n }, (_, j) => (i === j ? 2 : Math.abs(i - j) === 1 ? -1 : 0)),
    );
    const expected = Array.from({ length: n }, (_, k) => 2 - 2 * Math.cos(((k + 1) * Math.PI) / (n + 1)));
    assertEigenvalues(matrix, expected);
  });

  it('do not change under a rotation of a diagonal matrix', () => {
    const n = 40;
    const random = new Random(4);
    const values = Array.from({ length: n }, (_, i) => (i < 10 ? 0 : random.normal()));
    // H = I - 2 v v', H D H
    const v = Array.from({ length: n }, () => random.normal());
    const length = Math.hypot(...v);
    const h = v.map((x, i) => v.map((y, j) => Number(i === j) - (2 * x * y) / length ** 2));
    const matrix = h.map((left) =>
      h.map((right) => left.reduce((sum, x, k) => sum + x * values[k] * right[k], 0)),
    );
    assertEigenvalues(matrix, values);
  });

  it('read the lower triangle only', () => {
    assertEigenvalues([[2, 99], [1, 2]], [1, 3]); // prettier-ignore
  });
});

describe('effective rank', () => {
  it('of k equal singular values is k', () => {
    closeTo(effectiveRank(Float64Array.of(0, 0, 0, 4, 4, 4)), 3);
  });
  it('of singular values 3 and 1 is exp of the entropy of (3/4, 1/4)', () => {
    closeTo(effectiveRank(Float64Array.of(1, 9)), Math.exp(-0.75 * Math.log(0.75) - 0.25 * Math.log(0.25)));
  });
  it('does not count what rounding left', () => {
    closeTo(effectiveRank(Float64Array.of(-1e-17, 1e-17, 2, 2)), 2);
  });
});

describe('signs of collapse', () => {
  it('of four points of the unit circle, by hand', () => {
    const {
      std,
      meanCosine,
      effectiveRank: rank,
    } = embeddingDiagnostics(rows([1, 0], [-1, 0], [0, 1], [0, -1]));
    closeTo(std, Math.sqrt(2 / 3) * Math.sqrt(2)); // unbiased variance of 1, -1, 0, 0
    closeTo(meanCosine, -2 / 6); // two of six pairs are opposite, the others orthogonal
    closeTo(rank, 2);
  });

  it('show a single point: std 0, cosine 1, rank 1', () => {
    const { std, meanCosine, effectiveRank: rank } = embeddingDiagnostics(rows(...Array(7).fill([0.6, 0.8])));
    closeTo(std, 0, 1e-6);
    closeTo(meanCosine, 1, 1e-6);
    closeTo(rank, 1);
  });

  it('show a line: rank 1 whatever the dimensions', () => {
    const line = rows([1, 0, 0], [-1, 0, 0], [1, 0, 0], [1, 0, 0], [-1, 0, 0]);
    closeTo(embeddingDiagnostics(line).effectiveRank, 1);
  });

  it('have the mean cosine of all pairs', () => {
    const random = new Random(9);
    const vectors = Array.from({ length: 21 }, () => {
      const v = Array.from({ length: 5 }, () => random.normal() + 0.4);
      return v.map((x) => x / Math.hypot(...v));
    });
    let sum = 0;
    vectors.forEach((a, i) =>
      vectors.forEach((b, j) => {
        if (i !== j) sum += a.reduce((dot, x, t) => dot + x * b[t], 0);
      }),
    );
    closeTo(embeddingDiagnostics(rows(...vectors)).meanCosine, sum / (21 * 20), 1e-6);
  });

  it('are near 1, 0 and d for directions drawn evenly', () => {
    const random = new Random(2);
    const d = 16;
    const vectors = Array.from({ length: 3000 }, () => {
      const v = Array.from({ length: d }, () => random.normal());
      return v.map((x) => x / Math.hypot(...v));
    });
    const { std, meanCosine, effectiveRank: rank } = embeddingDiagnostics(rows(...vectors));
    closeTo(std, 1, 0.01);
    closeTo(meanCosine, 0, 0.01);
    assert.ok(rank > 15.9 && rank <= 16);
  });
});
