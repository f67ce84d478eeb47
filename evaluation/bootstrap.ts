import { UserError } from '../base/errors.js';
import { Random } from '../base/random.js';
import { averageRanks, pearson, sortedOrder } from './correlation.js';
import type { Scores } from './evaluation.js';
import { mean } from './ranking-metrics.js';

/** How the primary metric of one encoder differs from another's on the same queries or pairs. */
export interface Comparison {
  metric: string;
  /** a - b, as a fraction. */
  difference: number;
  /** 95 % percentile interval of the difference. */
  low: number;
  high: number;
  /** Two-sided: how often a resample's difference lies on the other side of 0, doubled. */
  p: number;
}

export interface BootstrapOptions {
  resamples: number;
  seed: number;
}

export const bootstrapDefaults: Readonly<BootstrapOptions> = Object.freeze({ resamples: 10_000, seed: 1 });

/**
 * Paired bootstrap (Efron and Tibshirani 1993; for rankings Sakai 2006): queries, or sentence pairs, are
 * drawn with replacement, the same ones for both sides.
 *
 * @throws UserError `invalid` when both were not measured on the same queries or pairs
 */
export function compareScores(a: Scores, b: Scores, options = bootstrapDefaults): Comparison {
  if (a.perQuery && b.perQuery) {
    if (a.perQuery.metric !== b.perQuery.metric || a.perQuery.ids.join('\n') !== b.perQuery.ids.join('\n'))
      throw notTheSame(a, b);
    const values = b.perQuery.values;
    const differences = a.perQuery.values.map((value, i) => value - values[i]);
    return { metric: a.perQuery.metric, ...bootstrapMean(differences, options) };
  }
  if (a.perPair && b.perPair) {
    const gold = b.perPair.gold;
    if (a.perPair.gold.length !== gold.length || a.perPair.gold.some((score, i) => score !== gold[i]))
      throw notTheSame(a, b);
    return {
      metric: a.perPair.metric,
      ...bootstrapSpearman(a.perPair.cosine, b.perPair.cosine, gold, options),
    };
  }
  throw notTheSame(a, b);
}

function notTheSame(a: Scores, b: Scores): UserError {
  return new UserError(
    'invalid',
    `a comparison needs both sides measured on the same data: ${a.spec} and ${b.spec} differ`,
  );
}

type Interval = Pick<Comparison, 'difference' | 'low' | 'high' | 'p'>;

/** Of the mean of paired differences. */
export function bootstrapMean(differences: Float64Array, options = bootstrapDefaults): Interval {
  const n = differences.length;
  const random = new Random(options.seed);
  const resampled = new Float64Array(options.resamples);
  for (let r = 0; r < resampled.length; r++) {
    let sum = 0;
    for (let i = 0; i < n; i++) sum += differences[random.below(n)];
    resampled[r] = sum / n;
  }
  return interval(mean(differences), resampled);
}

/** Of spearman(a, gold) - spearman(b, gold). Each resample costs O(n): the order is that of the whole sample. */
export function bootstrapSpearman(
  a: Float64Array,
  b: Float64Array,
  gold: Float64Array,
  options = bootstrapDefaults,
): Interval {
  const n = gold.length;
  const orders = [a, b, gold].map(sortedOrder);
  const difference = (weights: ArrayLike<number>): number => {
    const goldRanks = averageRanks(gold, orders[2], weights);
    return (
      pearson(averageRanks(a, orders[0], weights), goldRanks, weights) -
      pearson(averageRanks(b, orders[1], weights), goldRanks, weights)
    );
  };
  const random = new Random(options.seed);
  const weights = new Uint32Array(n);
  const resampled = new Float64Array(options.resamples);
  for (let r = 0; r < resampled.length; r++) {
    weights.fill(0);
    for (let i = 0; i < n; i++) weights[random.below(n)]++;
    resampled[r] = difference(weights);
  }
  return interval(difference(weights.fill(1)), resampled);
}

function interval(difference: number, resampled: Float64Array): Interval {
  resampled.sort();
  const resamples = resampled.length;
  const notAbove = resampled.filter((value) => value <= 0).length;
  const notBelow = resampled.filter((value) => value >= 0).length;
  return {
    difference,
    low: quantile(resampled, 0.025),
    high: quantile(resampled, 0.975),
    // One more than counted: a p of 0 can't be had from finitely many resamples (Davison and Hinkley 1997).
    p: Math.min(1, (2 * (Math.min(notAbove, notBelow) + 1)) / (resamples + 1)),
  };
}

/** Between the two nearest of the sorted values. */
function quantile(sorted: Float64Array, share: number): number {
  const at = share * (sorted.length - 1);
  const below = Math.floor(at);
  const above = Math.ceil(at);
  return sorted[below] + (at - below) * (sorted[above] - sorted[below]);
}
