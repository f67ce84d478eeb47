import type { Random } from '../base/random.js';
import type { SpecialIds } from '../encoder/tokenizer.js';
import type { PackedBatch } from './types.js';

export interface ReplacedBatch {
  /** What the encoder sees. */
  batch: PackedBatch;
  /** Packed rows of the tokens to judge, ascending: all but the special ones and those left out. */
  rows: Int32Array;
  /** Of each of them, 1 where another token stands than should: [rows]. */
  labels: Uint8Array;
}

/**
 * Puts other tokens in the place of some, to be detected (Clark et al. 2020, arXiv 2003.10555). There is no
 * generator: a replacement is any ordinary token of the batch, each as likely as it is frequent there. By chance it
 * is sometimes the right one, and then counts as not replaced, as in that paper.
 *
 * @param share of the tokens, each on its own
 * @param except packed rows that are neither replaced nor judged, ascending
 */
export function replaceTokens(
  { ids, offsets }: PackedBatch,
  special: SpecialIds,
  share: number,
  random: Random,
  except: Int32Array = new Int32Array(0),
): ReplacedBatch {
  const specials = new Set(Object.values(special));
  const left = new Set(except);
  const rows = Int32Array.from(ids.keys()).filter((row) => !specials.has(ids[row]) && !left.has(row));
  const replaced = ids.slice();
  for (const row of rows) if (random.float() < share) replaced[row] = ids[rows[random.below(rows.length)]];
  return {
    batch: { ids: replaced, offsets },
    rows,
    labels: Uint8Array.from(rows, (row) => (replaced[row] === ids[row] ? 0 : 1)),
  };
}
