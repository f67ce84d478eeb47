import { Random } from '../base/random.js';
import type { Example } from './data.js';
import type { Teacher } from './teacher.js';
import { gatherRows, nearest, poolOf } from './tensorflow/nearest.js';
import type { Ops } from './tensorflow/ops.js';

/** Tells the random numbers of the pool from those of the batches. */
const SAMPLE = 27;

/**
 * Which of a text's neighbours are hard negatives, the nearest counted as 1: those before may well mean the same, and
 * nobody has said so; those behind are no harder than any other.
 */
export const HARD_RANKS = { from: 6, to: 30 };

/**
 * Texts that are hard to tell from some of a batch, `each` for each of those where there are as many: all different,
 * none of the batch's, and none that is known to mean the same as one of them.
 */
export type HardNegatives = (batch: readonly Example[], each: number, random: Random) => string[];

/**
 * Finds hard negatives among a run's texts by the vectors of an encoder that stands still (Xiong et al. 2021, arXiv
 * 2007.00808, whose encoder is renewed now and then). The search is exact: one product of matrices a step takes less
 * than an index would to be built.
 *
 * @param teacher that has prepared both texts of each example
 * @param examples of the run: their texts are looked at, and its pairs say what means the same
 */
export async function hardNegatives(
  ops: Ops,
  teacher: Pick<Teacher, 'dimensions' | 'read'>,
  examples: readonly Example[],
  seed: number,
): Promise<HardNegatives> {
  const d = teacher.dimensions;
  const texts = [...new Set(examples.flatMap(({ first, second }) => [first, second]))];
  const vectors = await teacher.read(texts);
  const pool = poolOf(ops, vectors, d, new Random(seed, SAMPLE));
  const rowOf = new Map(texts.map((text, row) => [text, row]));
  const clusters = clustersOf(examples);
  return (batch, each, random) => {
    const rows = batch.map(({ first }) => rowOf.get(first)!);
    // One more than are wanted: a text is its own nearest.
    const { k, places } = nearest(ops, gatherRows(vectors, d, rows), pool, HARD_RANKS.to + 1);
    const same = new Set(batch.map(({ first }) => clusters.get(first)));
    const taken = new Set<string>();
    rows.forEach((own, i) => {
      const near = Array.from(places.subarray(i * k, (i + 1) * k), (place) => pool.rows[place])
        .filter((row) => row !== own)
        .slice(HARD_RANKS.from - 1, HARD_RANKS.to)
        .map((row) => texts[row])
        .filter((text) => !same.has(clusters.get(text)) && !taken.has(text));
      for (const text of random.shuffle(near).slice(0, each)) taken.add(text);
    });
    return [...taken];
  };
}

/** The same number for texts that pairs, one after another, say mean the same. */
function clustersOf(examples: readonly Example[]): ReadonlyMap<string, number> {
  const parents: number[] = [];
  const numbers = new Map<string, number>();
  const numberOf = (text: string): number => {
    const known = numbers.get(text);
    if (known !== undefined) return known;
    numbers.set(text, parents.length);
    parents.push(parents.length);
    return parents.length - 1;
  };
  const rootOf = (number: number): number => {
    while (parents[number] !== number) number = parents[number] = parents[parents[number]];
    return number;
  };
  for (const { first, second } of examples) parents[rootOf(numberOf(first))] = rootOf(numberOf(second));
  return new Map([...numbers].map(([text, number]) => [text, rootOf(number)]));
}
