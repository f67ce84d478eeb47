import { Random } from '../base/random.js';
import type { Example } from './data.js';
import type { Teacher } from './teacher.js';
import type { Ops } from './tensorflow/ops.js';

/** Examples among which hard cases are looked for: with more, the search would take longer than the step. */
const POOL = 65_536;

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
  const { tf } = ops;
  const d = teacher.dimensions;
  const pool = new Random(seed, SAMPLE).shuffle([...examples]).slice(0, POOL);
  const poolVectors = ops.tf.tensor2d(await teacher.read(textsOf(pool)), [pool.length, d]);
  const vectors = await teacher.read(textsOf(examples));
  const rows = new Map(examples.map((example, row) => [example, row]));
  const clusters = clustersOf(all);
  const k = Math.min(HARD_RANKS.to + 1, pool.length);
  return (anchors) => {
    const own = new Float32Array(anchors.length * d);
    anchors.forEach((anchor, i) => {
      const row = rows.get(anchor)!;
      own.set(vectors.subarray(row * d, (row + 1) * d), i * d);
    });
    const nearest = ops.tidy(() => {
      const found = ops.exactMatMul(tf.tensor2d(own, [anchors.length, d]), poolVectors, false, true);
      return tf.topk(found, k).indices;
    });
    const places = nearest.dataSync<'int32'>();
    nearest.dispose();
    return anchors.map((anchor, i) =>
      Array.from(places.subarray(i * k, (i + 1) * k), (place) => pool[place])
        .filter((example) => example !== anchor)
        .slice(HARD_RANKS.from - 1, HARD_RANKS.to)
        .filter(({ first }) => clusters.get(first) !== clusters.get(anchor.first)),
    );
  };
}

function textsOf(examples: readonly Example[]): string[] {
  return examples.map(({ first }) => first);
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
