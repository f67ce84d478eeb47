/** Tokens of a batch, padding included: larger ones outgrow a core's cache and are slower. */
export const BATCH_TOKENS = 512;

/**
 * Groups texts of like length, so that little of a batch is padding; the longest come first.
 *
 * @param lengths tokens of each text
 * @param budget tokens of a batch, padding included; a text longer than it is a batch of its own
 * @returns the texts' positions in `lengths`
 */
export function batchByLength(lengths: ArrayLike<number>, budget: number): number[][] {
  const order = Array.from({ length: lengths.length }, (_, i) => i);
  order.sort((a, b) => lengths[b] - lengths[a] || a - b);
  const batches: number[][] = [];
  for (let from = 0; from < order.length;) {
    const size = Math.max(1, Math.floor(budget / lengths[order[from]]));
    batches.push(order.slice(from, from + size));
    from += size;
  }
  return batches;
}
