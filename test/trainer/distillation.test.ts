import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';

import { Random } from '../../base/random.js';
import { distillation, type DistillationWeights } from '../../trainer/tensorflow/distillation.js';
import { loadTensorFlow } from '../../trainer/tensorflow/load.js';
import { Ops } from '../../trainer/tensorflow/ops.js';
import { principalDirections } from '../../trainer/tensorflow/principal.js';
import { assertClose } from './numbers.js';
import { covarianceTerm, numericalGradient, varianceTerm } from './reference-vicreg.js';

let ops: Ops;
before(async () => {
  ops = new Ops(await loadTensorFlow());
});

const dot = (a: number[], b: number[]): number => a.reduce((sum, value, i) => sum + value * b[i], 0);
const unit = (row: number[]): number[] => row.map((value) => value / Math.sqrt(dot(row, row)));
const random = new Random(3);
const matrix = (n: number, d: number): number[][] =>
  Array.from({ length: n }, () => Array.from({ length: d }, () => random.normal()));

/** The loss in loops over doubles, as its definition reads. */
function reference(h: number[][], targets: number[][], weights: DistillationWeights): Record<string, number> {
  const u = h.map(unit);
  const n = h.length;
  const mean = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  const squares = u.flatMap((row, i) =>
    u.flatMap((other, j) => (i === j ? [] : [(dot(row, other) - dot(targets[i], targets[j])) ** 2])),
  );
  const z = u.map((row) => row.map((value) => value * Math.sqrt(row.length)));
  return {
    vector: weights.vectorWeight * mean(u.map((row, i) => 1 - dot(row, targets[i]))),
    similarity: (weights.similarityWeight * squares.reduce((a, b) => a + b)) / (n * (n - 1)),
    variance: (weights.mu / 2) * varianceTerm(z),
    covariance: weights.nu * covarianceTerm(z),
  };
}

describe('the loss of a distillation', () => {
  const none = { vectorWeight: 0, similarityWeight: 0, mu: 0, nu: 0 };
  const cases: [string, DistillationWeights][] = [
    ['of the vectors', { ...none, vectorWeight: 2 }],
    ['of the similarities', { ...none, similarityWeight: 3 }],
    ['of the variance', { ...none, mu: 5 }],
    ['of the covariance', { ...none, nu: 0.7 }],
    ['of all together', { vectorWeight: 1, similarityWeight: 10, mu: 0.3, nu: 0.2 }],
  ];
  for (const [name, weights] of cases)
    for (const [n, d] of [
      [7, 4],
      [4, 7],
    ])
      it(`and its gradient are those of the definition: ${name}, ${n} vectors of ${d} numbers`, () => {
        const h = matrix(n, d);
        const targets = matrix(n, d).map(unit);
        const found = distillation(ops, ops.tf.tensor2d(h), ops.tf.tensor2d(targets), weights);
        const expected = reference(h, targets, weights);
        for (const term of Object.keys(expected))
          assertClose([found.terms[term as never]], [expected[term]], term, 1e-5, 1);
        const loss = (moved: number[][]): number =>
          Object.values(reference(moved, targets, weights)).reduce((a, b) => a + b);
        assertClose(found.gradient.dataSync(), numericalGradient(loss, h), 'gradient', 1e-4);
      });

  it('is 0, and flat, where the student is the teacher, whatever the length of its vectors', () => {
    const targets = matrix(6, 5).map(unit);
    const h = targets.map((row, i) => row.map((value) => value * (i + 1)));
    const weights = { ...none, vectorWeight: 1, similarityWeight: 1 };
    const { terms, gradient } = distillation(ops, ops.tf.tensor2d(h), ops.tf.tensor2d(targets), weights);
    assert.ok(Math.abs(terms.vector) < 1e-6 && terms.similarity < 1e-10, JSON.stringify(terms));
    assertClose(gradient.dataSync(), new Float32Array(30), 'gradient', 1e-6, 1);
  });
});

describe('the principal directions', () => {
  it('are orthonormal, the one with most of the rows first, and no chance of their signs', () => {
    // Lengths 9, 4 and 1 along the axes of a turned frame.
    const [c, s] = [Math.cos(0.5), Math.sin(0.5)];
    const rows = [
      [9 * c, 9 * s, 0],
      [-4 * s, 4 * c, 0],
      [0, 0, 1],
    ];
    const found = principalDirections(ops, Float32Array.from(rows.flat()), 3, 2);
    assertClose(found, [c, -s, s, c, 0, 0], 'directions [3, 2]', 1e-5, 1);
    const turned = rows.map((row) => row.map((value) => -value)).reverse();
    assertClose(principalDirections(ops, Float32Array.from(turned.flat()), 3, 2), found, 'turned', 1e-5, 1);
  });
});
