/**
 * Metrics of one ranking, as trec_eval defines them. `gains[r]` is the graded relevance of what stands at
 * rank r + 1: 0 when it is not relevant.
 */

/**
 * Average precision: the mean, over all relevant documents, of the precision at their ranks; one that is
 * not among the first k counts 0.
 *
 * @param relevant how many relevant documents there are, found or not; 1 and up
 */
export function averagePrecision(gains: readonly number[], relevant: number, k = Infinity): number {
  let found = 0;
  let sum = 0;
  gains.slice(0, k).forEach((gain, r) => {
    if (gain > 0) sum += ++found / (r + 1);
  });
  return sum / relevant;
}

/** 1 / rank of the first relevant document, 0 when none is among the first k. */
export function reciprocalRank(gains: readonly number[], k = Infinity): number {
  const first = gains.slice(0, k).findIndex((gain) => gain > 0);
  return first < 0 ? 0 : 1 / (first + 1);
}

/** The share of the first k that is relevant; what is missing from a shorter ranking counts as not relevant. */
export function precision(gains: readonly number[], k: number): number {
  return gains.slice(0, k).filter((gain) => gain > 0).length / k;
}

/** The share of all relevant documents that is among the first k. */
export function recall(gains: readonly number[], relevant: number, k: number): number {
  return gains.slice(0, k).filter((gain) => gain > 0).length / relevant;
}

/**
 * Normalized discounted cumulative gain (Järvelin and Kekäläinen 2002, linear gain, log2(rank + 1)).
 *
 * @param allGains the gains of all relevant documents, in any order: the ideal ranking
 */
export function ndcg(gains: readonly number[], allGains: readonly number[], k: number): number {
  return (
    discountedGain(gains, k) /
    discountedGain(
      [...allGains].sort((a, b) => b - a),
      k,
    )
  );
}

function discountedGain(gains: readonly number[], k: number): number {
  return gains.slice(0, k).reduce((sum, gain, r) => sum + gain / Math.log2(r + 2), 0);
}

export function mean(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i];
  return sum / values.length;
}
