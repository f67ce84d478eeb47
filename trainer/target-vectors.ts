import { Random } from '../base/random.js';
import { normalizeRows } from '../encoder/pooling.js';
import { phrasings } from './context.js';
import type { Targets } from './feed.js';
import { meanRow, product } from './matrix.js';
import type { Partners } from './partners.js';
import { knowsMore, type Recipe } from './recipe.js';
import type { Teacher } from './teacher.js';
import { gatherRows, nearest, poolOf, type Pool } from './tensorflow/nearest.js';
import type { Ops } from './tensorflow/ops.js';
import { principalDirections } from './tensorflow/principal.js';
import { whitened } from './whitening.js';

/** Tells the random numbers of the pool from those of the batches. */
const SAMPLE = 25;

/** The nearest of a text's neighbours count most: each by its cosine to this power. */
const SHARPNESS = 4;

/** Texts whose neighbours are looked for at a time. */
const BLOCK = 1024;

type Context = Pick<
  Recipe,
  | 'context'
  | 'whitening'
  | 'neighbourTexts'
  | 'neighbourTextWeight'
  | 'neighbours'
  | 'neighbourWeight'
  | 'pairWeight'
  | 'seed'
>;

interface Options {
  /** Texts that are known to mean the same. All of them are among the run's. */
  partners?: Partners;
  /** Those of the run that vectors will be asked for: only they are looked at beside their neighbours. Default: all. */
  learned?: ReadonlySet<string>;
  signal?: AbortSignal;
  onProgress?(done: number, total: number): void;
}

/**
 * The vectors that a student learns, of each text of a run.
 *
 * Without context they are the teacher's own. With it they are what the teacher would say if it knew where the text
 * comes from, which the student, who sees the text alone, has to predict: the sum of the vectors of the text, of the
 * text in each phrasing of `context`, and, at `neighbourTextWeight`, of the text with a near one of the run behind it.
 * Each kind is centred over the run's texts (which takes away what all of them share) and whitened as far as the recipe
 * says. To these is added a little of the nearest neighbours' vectors, and more of the vectors of texts that somebody
 * has said to mean the same.
 *
 * @param texts that stand for all of the run
 * @param dimensions of the student's vectors, at most as many as the teacher's
 * @throws UserError as Teacher.prepare
 */
export async function targetVectors(
  ops: Ops,
  teacher: Pick<Teacher, 'dimensions' | 'prepare' | 'read' | 'targets'>,
  texts: ReadonlySet<string>,
  dimensions: number,
  recipe: Context,
  options: Options = {},
): Promise<Targets> {
  const { context, whitening, neighbourTexts, neighbourTextWeight, neighbours, pairWeight, seed } = recipe;
  const { partners = new Map<string, string[]>(), learned = texts } = options;
  if (!knowsMore(recipe) && (partners.size === 0 || pairWeight === 0)) {
    await teacher.prepare(texts, options);
    return teacher.targets(ops, dimensions);
  }
  const all = [...texts];
  const inContext = phrasings(context).map((phrase) => all.map(phrase));
  await teacher.prepare(new Set([all, ...inContext].flat()), options);
  const wide = teacher.dimensions;
  const spread = async (wanted: readonly string[]): Promise<Float32Array> => {
    const read = await teacher.read(wanted);
    centre(read, wide);
    const rows = whitening === 0 ? read : whitened(ops, read, wide, whitening);
    normalizeRows(rows, wide);
    return rows;
  };
  const rows = new Map(all.map((text, row) => [text, row]));
  const rowsOf = (asked: readonly string[]): Int32Array =>
    Int32Array.from(asked, (text) => {
      const row = rows.get(text);
      if (row === undefined) throw new Error(`no target for ${text}`);
      return row;
    });
  let vectors = await spread(all);
  const add = async (variants: string[][], at: Int32Array, weight: number): Promise<void> => {
    for (const variant of variants)
      (await spread(variant)).forEach((value, i) => {
        vectors[wide * at[Math.floor(i / wide)] + (i % wide)] += weight * value;
      });
  };
  if (neighbourTexts > 0) {
    const at = rowsOf([...new Set([...learned].flatMap((text) => [text, ...(partners.get(text) ?? [])]))]);
    const pool = poolOf(ops, vectors, wide, new Random(seed, SAMPLE));
    const together = withNeighbours(ops, all, vectors, at, pool, neighbourTexts);
    ops.free(pool.vectors);
    await teacher.prepare(new Set(together.flat()), options);
    await add(together, at, neighbourTextWeight);
  }
  await add(inContext, Int32Array.from(all.keys()), 1);
  normalizeRows(vectors, wide);
  if (dimensions < wide) {
    vectors = product(
      vectors,
      principalDirections(ops, vectors, wide, dimensions),
      all.length,
      wide,
      dimensions,
    );
    normalizeRows(vectors, dimensions);
  }
  const own = (asked: Int32Array): Float32Array => gatherRows(vectors, dimensions, asked);
  const addPartners = (targets: Float32Array, asked: readonly string[]): void =>
    asked.forEach((text, i) => {
      const others = own(rowsOf(partners.get(text) ?? []));
      if (others.length === 0) return;
      const direction = new Float32Array(dimensions);
      others.forEach((value, j) => (direction[j % dimensions] += value));
      normalizeRows(direction, dimensions);
      direction.forEach((value, j) => (targets[i * dimensions + j] += pairWeight * value));
    });
  const pool = neighbours === 0 ? undefined : poolOf(ops, vectors, dimensions, new Random(seed, SAMPLE));
  return async (asked) => {
    const askedRows = rowsOf(asked);
    const targets = own(askedRows);
    if (pool) addNeighbours(ops, targets, askedRows, pool, recipe);
    addPartners(targets, asked);
    normalizeRows(targets, dimensions);
    return targets;
  };
}

/** Takes the mean of all rows away, in place. @param vectors [n, d] */
function centre(vectors: Float32Array, d: number): void {
  meanRow(vectors, d).forEach((value, j) => {
    for (let i = j; i < vectors.length; i += d) vectors[i] -= value;
  });
}

/**
 * Some of the texts with their nearest behind each, with their second nearest, and so on; one that has none stands alone.
 *
 * @param vectors [texts, d], each of length 1
 * @param at which of the texts
 * @param pool of the vectors
 */
function withNeighbours(
  ops: Ops,
  texts: readonly string[],
  vectors: Float32Array,
  at: Int32Array,
  pool: Pool,
  most: number,
): string[][] {
  const d = vectors.length / texts.length;
  const variants = Array.from({ length: most }, () => Array.from(at, (row) => texts[row]));
  for (let from = 0; from < at.length; from += BLOCK) {
    const rows = at.subarray(from, from + BLOCK);
    const near = nearOthers(ops, gatherRows(vectors, d, rows), rows, pool, most);
    near.forEach((found, i) =>
      found.forEach(({ place }, n) => {
        variants[n][from + i] = beside(texts[rows[i]], texts[pool.rows[place]]);
      }),
    );
  }
  return variants;
}

/** Two texts as one. */
function beside(text: string, other: string): string {
  return /[.?!]$/.test(text) ? `${text} ${other}` : `${text}. ${other}`;
}

/**
 * The nearest of the pool to each of some vectors but itself, the nearest first; none whose cosine is not above 0.
 *
 * @param queries [n, d], each of length 1
 * @param rows which rows the queries are
 */
function nearOthers(
  ops: Ops,
  queries: Float32Array,
  rows: Int32Array,
  pool: Pool,
  most: number,
): { place: number; cosine: number }[][] {
  // One more than are wanted: a text is its own nearest.
  const { k, places, products } = nearest(ops, queries, pool, most + 1);
  return Array.from(rows, (row, i) => {
    const found: { place: number; cosine: number }[] = [];
    for (let j = i * k; j < (i + 1) * k && found.length < most; j++)
      if (pool.rows[places[j]] !== row && products[j] > 0)
        found.push({ place: places[j], cosine: products[j] });
    return found;
  });
}

/**
 * Adds to each target the direction of its nearest neighbours, at the length `neighbourWeight`.
 *
 * @param targets [n, d], each of length 1, of the texts `asked`
 */
function addNeighbours(
  ops: Ops,
  targets: Float32Array,
  asked: Int32Array,
  pool: Pool,
  { neighbours, neighbourWeight }: Context,
): void {
  const { tf } = ops;
  const n = asked.length;
  const d = targets.length / n;
  const near = nearOthers(ops, targets, asked, pool, neighbours);
  const k = Math.max(1, ...near.map(({ length }) => length));
  const places = new Int32Array(n * k);
  const weights = new Float32Array(n * k);
  near.forEach((found, i) =>
    found.forEach(({ place, cosine }, j) => {
      places[i * k + j] = place;
      weights[i * k + j] = cosine ** SHARPNESS;
    }),
  );
  const around = ops.tidy(() => {
    const rows = tf.gather(pool.vectors, tf.tensor1d(places, 'int32')).reshape([n, k, d]);
    return tf.sum(tf.mul(rows, tf.tensor3d(weights, [n, k, 1])), 1);
  });
  const directions = around.dataSync<'float32'>().slice();
  around.dispose();
  normalizeRows(directions, d);
  directions.forEach((value, i) => (targets[i] += neighbourWeight * value));
}
