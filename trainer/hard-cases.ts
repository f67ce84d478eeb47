import { Random } from '../base/random.js';
import type { Example } from './data.js';
import type { Teacher } from './teacher.js';
import { gatherRows, nearest, poolOf } from './tensorflow/nearest.js';
import type { Ops } from './tensorflow/ops.js';

/** Tells the random numbers of the pool from those of the batches. */
const SAMPLE = 27;

/**
 * Which of an example's neighbours are hard cases, the nearest counted as 1: those before may well mean the same, and
 * nobody has said so; those behind are no harder than any other.
 */
export const HARD_RANKS = { from: 6, to: 30 };

/** For each of some examples, others that are hard to tell from it, the nearest first; fewer where there are fewer. */
export type HardCases = (anchors: readonly Example[]) => Example[][];

/**
 * Finds hard cases by the vectors of an encoder that stands still (Xiong et al. 2021, arXiv 2007.00808, whose encoder
 * is renewed now and then). The search is exact: one product of matrices a step takes less than an index would to be
 * built.
 *
 * @param teacher that has prepared the examples' texts
 * @param examples among which they are looked for
 * @param all of the run, whose pairs say what means the same
 */
export async function hardCases(
  ops: Ops,
  teacher: Pick<Teacher, 'dimensions' | 'read'>,
  examples: readonly Example[],
  all: readonly Example[],
  seed: number,
): Promise<HardCases> {
  const d = teacher.dimensions;
  const vectors = await teacher.read(examples.map(({ first }) => first));
  const pool = poolOf(ops, vectors, d, new Random(seed, SAMPLE));
  const rowOf = new Map(examples.map((example, row) => [example, row]));
  const clusters = clustersOf(all);
  return (anchors) => {
    const own = gatherRows(
      vectors,
      d,
      anchors.map((anchor) => rowOf.get(anchor)!),
    );
    // One more than are wanted: an example is its own nearest.
    const { k, places } = nearest(ops, own, pool, HARD_RANKS.to + 1);
    return anchors.map((anchor, i) =>
      Array.from(places.subarray(i * k, (i + 1) * k), (place) => examples[pool.rows[place]])
        .filter((example) => example !== anchor)
        .slice(HARD_RANKS.from - 1, HARD_RANKS.to)
        .filter(({ first }) => clusters.get(first) !== clusters.get(anchor.first)),
    );
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
