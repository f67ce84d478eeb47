/** Pearson's correlation, each position counted `weights[i]` times (once without weights); 0 when one side is constant. */
export function pearson(x: ArrayLike<number>, y: ArrayLike<number>, weights?: ArrayLike<number>): number {
  let total = 0;
  let sumX = 0;
  let sumY = 0;
  for (let i = 0; i < x.length; i++) {
    const w = weights?.[i] ?? 1;
    total += w;
    sumX += w * x[i];
    sumY += w * y[i];
  }
  const meanX = sumX / total;
  const meanY = sumY / total;
  let xx = 0;
  let yy = 0;
  let xy = 0;
  for (let i = 0; i < x.length; i++) {
    const w = weights?.[i] ?? 1;
    const dx = x[i] - meanX;
    const dy = y[i] - meanY;
    xx += w * dx * dx;
    yy += w * dy * dy;
    xy += w * dx * dy;
  }
  return xx > 0 && yy > 0 ? xy / Math.sqrt(xx * yy) : 0;
}

/** Spearman's correlation: Pearson's of the ranks, where equal values share their average rank. */
export function spearman(x: ArrayLike<number>, y: ArrayLike<number>): number {
  return pearson(averageRanks(x, sortedOrder(x)), averageRanks(y, sortedOrder(y)));
}

/** Positions of the values from the smallest to the largest. */
export function sortedOrder(values: ArrayLike<number>): Uint32Array {
  return Uint32Array.from({ length: values.length }, (_, i) => i).sort((i, j) => values[i] - values[j]);
}

/**
 * Rank of each value from 1, the average for equal ones, in a sample where value i occurs `weights[i]`
 * times (once without weights).
 */
export function averageRanks(
  values: ArrayLike<number>,
  order: Uint32Array,
  weights?: ArrayLike<number>,
): Float64Array {
  const ranks = new Float64Array(values.length);
  let before = 0;
  for (let start = 0, end = 0; start < order.length; start = end) {
    let occurrences = 0;
    for (; end < order.length && values[order[end]] === values[order[start]]; end++)
      occurrences += weights?.[order[end]] ?? 1;
    const rank = before + (occurrences + 1) / 2;
    for (let i = start; i < end; i++) ranks[order[i]] = rank;
    before += occurrences;
  }
  return ranks;
}
