import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { Random } from '../../base/random.js';
import { bootstrapMean, bootstrapSpearman, compareMeans, compareScores } from '../../evaluation/bootstrap.js';
import { spearman } from '../../evaluation/correlation.js';
import type { Scores } from '../../evaluation/evaluation.js';
import { closeTo } from './support.js';

function normals(n: number, mean: number, seed: number): Float64Array {
  const random = new Random(seed);
  return Float64Array.from({ length: n }, () => mean + random.normal());
}

describe('bootstrap of a mean', () => {
  it('has the width that the normal distribution gives: 1.96 standard errors each side', () => {
    const differences = normals(400, 0.3, 7);
    const mean = differences.reduce((sum, x) => sum + x, 0) / 400;
    const variance = differences.reduce((sum, x) => sum + (x - mean) ** 2, 0) / 400;
    const error = Math.sqrt(variance / 400);
    const { difference, low, high } = bootstrapMean(differences);
    closeTo(difference, mean);
    closeTo(low, mean - 1.96 * error, 0.1 * error);
    closeTo(high, mean + 1.96 * error, 0.1 * error);
  });

  it('is sure of a difference that every query shows, and of none where there is none', () => {
    const clear = bootstrapMean(new Float64Array(50).fill(0.1));
    assert.ok(clear.low > 0 && clear.p < 0.001);
    const none = bootstrapMean(new Float64Array(50));
    assert.deepEqual(none, { difference: 0, low: 0, high: 0, p: 1 });
  });

  it('has a p about that of the normal distribution: 0.0455 at two standard errors', () => {
    // 50 values of 1 + c and 50 of c - 1: standard error 0.1, c = 0.2.
    const differences = Float64Array.from({ length: 100 }, (_, i) => (i % 2 ? 1 : -1) + 0.2);
    const { p } = bootstrapMean(differences, { resamples: 40_000, seed: 3 });
    // The mean moves in steps of 0.02, and a resample that is exactly 0 counts on both sides.
    assert.ok(p > 0.04 && p < 0.07, String(p));
  });

  it('changes sign with the sides', () => {
    const differences = normals(100, 0.1, 1);
    const there = bootstrapMean(differences);
    const back = bootstrapMean(differences.map((x) => -x));
    closeTo(back.difference, -there.difference);
    closeTo(back.low, -there.high);
    closeTo(back.high, -there.low);
    closeTo(back.p, there.p);
  });

  it('repeats itself with the same seed and moves a little with another', () => {
    const differences = normals(100, 0.1, 1);
    const first = bootstrapMean(differences, { resamples: 500, seed: 5 });
    assert.deepEqual(bootstrapMean(differences, { resamples: 500, seed: 5 }), first);
    const other = bootstrapMean(differences, { resamples: 500, seed: 6 });
    assert.notEqual(other.low, first.low);
    closeTo(other.low, first.low, 0.1);
  });
});

describe('bootstrap of a difference of Spearman correlations', () => {
  const gold = normals(200, 0, 11);
  const noise = normals(200, 0, 12);
  const close = gold.map((score, i) => score + 0.3 * noise[i]);
  const far = gold.map((score, i) => score - 2 * noise[199 - i]);

  it('finds the better side, around the difference of the whole sample', () => {
    const { difference, low, high, p } = bootstrapSpearman([close], [far], gold, {
      resamples: 1000,
      seed: 1,
    });
    closeTo(difference, spearman(close, gold) - spearman(far, gold));
    assert.ok(0 < low && low < difference && difference < high);
    assert.ok(p < 0.01);
  });

  it('is that of drawing the pairs one by one', () => {
    const options = { resamples: 50, seed: 2 };
    const random = new Random(options.seed);
    const drawn = Array.from({ length: options.resamples }, () => {
      const picks = Array.from(gold, () => random.below(gold.length));
      const take = (values: Float64Array): number[] => picks.map((i) => values[i]);
      return spearman(take(close), take(gold)) - spearman(take(far), take(gold));
    }).sort((a, b) => a - b);
    const { low, high } = bootstrapSpearman([close], [far], gold, options);
    // 2.5 % of 49 steps: 1.225 from either end.
    closeTo(low, drawn[1] + 0.225 * (drawn[2] - drawn[1]));
    closeTo(high, drawn[48] - 0.225 * (drawn[48] - drawn[47]));
  });
});

describe('comparison of two encoders', () => {
  const scores = (ids: string[], values: number[]): Scores => ({
    spec: 'beir:x',
    metrics: {},
    counts: {},
    seconds: 0,
    perQuery: { metric: 'map@100', ids, values: Float64Array.from(values) },
  });

  it('is the first minus the second, on the primary metric', () => {
    const { metric, difference } = compareScores(
      scores(['a', 'b'], [1, 0.5]),
      scores(['a', 'b'], [0.5, 0.25]),
    );
    assert.equal(metric, 'map@100');
    closeTo(difference, 0.375);
  });

  it('takes the mean of several runs of a side, query by query', () => {
    const runs = [scores(['a', 'b'], [1, 0.5]), scores(['a', 'b'], [0.5, 0])];
    const base = scores(['a', 'b'], [0.5, 0.5]);
    const { difference } = compareMeans(runs, [base]);
    closeTo(difference, 0);
    // [0.75, 0.25] - [0.5, 0.5]: a resample has the mean 0.25, 0 or -0.25.
    const { low, high } = compareMeans(runs, [base]);
    assert.deepEqual([low, high], [-0.25, 0.25]);
  });

  it('takes the mean of the correlations of several runs of a side', () => {
    const gold = normals(30, 0, 5);
    const pairs = (cosine: Float64Array): Scores => ({
      ...scores([], []),
      perQuery: undefined,
      perPair: { metric: 'spearman', cosine, gold },
    });
    const [one, two, base] = [1, 2, 3].map((seed) => normals(30, 0, seed));
    const { difference } = compareMeans([pairs(one), pairs(two)], [pairs(base)]);
    closeTo(difference, (spearman(one, gold) + spearman(two, gold)) / 2 - spearman(base, gold));
  });

  it('refuses different queries, pairs or kinds', () => {
    const pairs: Scores = {
      ...scores([], []),
      perQuery: undefined,
      perPair: { metric: 'spearman', cosine: Float64Array.of(1, 2), gold: Float64Array.of(1, 2) },
    };
    const others: Scores = { ...pairs, perPair: { ...pairs.perPair!, gold: Float64Array.of(1, 3) } };
    for (const [a, b] of [
      [scores(['a'], [1]), scores(['b'], [1])],
      [scores(['a'], [1]), pairs],
      [pairs, others],
    ])
      assert.throws(() => compareScores(a, b), { kind: 'invalid', message: /same data/ });
  });
});
