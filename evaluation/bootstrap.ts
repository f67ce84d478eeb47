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
  return compareMeans([a], [b], options);
}

/**
 * The same for the mean of several encoders on either side, as runs that differ by their seed: a query's value is
 * the mean of the encoders' values. That they might have been other seeds is not in the interval.
 *
 * @throws UserError as compareScores
 */
export function compareMeans(
  a: readonly Scores[],
  b: readonly Scores[],
  options = bootstrapDefaults,
): Comparison {
  const other = [...a, ...b].find((scores) => dataOf(scores) !== dataOf(a[0]));
  if (other) throw notTheSame(a[0], other);
  const { perQuery, perPair } = a[0];
  if (perQuery) {
    const [ofA, ofB] = [a, b].map((side) => meanOfRows(side.map((scores) => scores.perQuery!.values)));
    const differences = ofA.map((value, i) => value - ofB[i]);
    return { metric: perQuery.metric, ...bootstrapMean(differences, options) };
  }
  if (!perPair) throw notTheSame(a[0], b[0]);
  const [ofA, ofB] = [a, b].map((side) => side.map((scores) => scores.perPair!.cosine));
  return { metric: perPair.metric, ...bootstrapSpearman(ofA, ofB, perPair.gold, options) };
}

/** The same text for scores of the same metric on the same queries or pairs. */
function dataOf({ perQuery, perPair }: Scores): string {
  if (perQuery) return [perQuery.metric, ...perQuery.ids].join('\n');
  return perPair ? [perPair.metric, ...perPair.gold].join(' ') : '';
}

/** The mean of rows of the same length, place by place. */
function meanOfRows(rows: readonly Float64Array[]): Float64Array {
  return rows[0].map((_, i) => mean(rows.map((row) => row[i])));
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

/**
 * Of the mean of spearman(a, gold) minus that of spearman(b, gold). Each resample costs O(n): the order is that of
 * the whole sample.
 */
export function bootstrapSpearman(
  a: readonly Float64Array[],
  b: readonly Float64Array[],
  gold: Float64Array,
  options = bootstrapDefaults,
): Interval {
  const n = gold.length;
  const goldOrder = sortedOrder(gold);
  const ordered = [a, b].map((side) => side.map((values) => ({ values, order: sortedOrder(values) })));
  const difference = (weights: ArrayLike<number>): number => {
    const goldRanks = averageRanks(gold, goldOrder, weights);
    const [ofA, ofB] = ordered.map((side) =>
      mean(
        side.map(({ values, order }) => pearson(averageRanks(values, order, weights), goldRanks, weights)),
      ),
    );
    return ofA - ofB;
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
