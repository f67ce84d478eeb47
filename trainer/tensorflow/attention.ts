import { attentionTiles } from '../packing.js';
import { drop, inputsOf, type Drawn, type Dropout } from './layers.js';
import type { Ops, Tensor } from './ops.js';

/**
 * A batch's sequences as attention needs them: in tiles, head by head. Packed rows are taken apart into pieces, a
 * token's query, key or value in one head each, so that one gather lays them out and transposes.
 */
export interface AttentionLayout {
  heads: number;
  groups: {
    /** Pieces of the packed [tokens, 3 heads, size of a head]: [3, tiles, heads, width]. Any piece stands in for padding, which the bias hides. */
    split: Tensor;
    /** The same for the way back: query, key and value, [tiles, heads, width] each. Padding goes to the piece behind the last. */
    merge: Tensor[];
    /** Pieces of the packed [tokens, heads, size of a head], padding behind the last again: [tiles, heads, width]. */
    output: Tensor;
    /** Added to the scores of each query (rows) and key (columns): 0 where it sees it, else HIDDEN: [tiles, 1, width, width]. */
    bias: Tensor;
  }[];
}

/** exp of it is 0 in fp32, and no sum with it overflows. */
const HIDDEN = -1e9;

/** Tiles from which on it pays to compile for their number. */
const COMPILED = 16;

/**
 * @param offsets as in PackedBatch
 * @param causal whether a token sees only itself and those before it, as in a decoder (Vaswani et al. 2017, section 3.2.3)
 */
export function attentionLayout(
  ops: Ops,
  offsets: Int32Array,
  heads: number,
  causal = false,
): AttentionLayout {
  const { tf } = ops;
  const tokens = offsets[offsets.length - 1];
  const groups = attentionTiles(offsets).map(({ width, tiles }) => {
    const n = ops.wholeTiles(tiles.length);
    const shape = [n, heads, width];
    const size = n * heads * width;
    const split = new Int32Array(3 * size);
    const merge = new Int32Array(3 * size).fill(tokens * 3 * heads);
    const output = new Int32Array(size).fill(tokens * heads);
    const bias = new Float32Array(n * width * width).fill(HIDDEN);
    tiles.forEach((sequences, tile) => {
      let place = 0;
      for (const sequence of sequences) {
        const first = place;
        const end = first + offsets[sequence + 1] - offsets[sequence];
        for (let row = offsets[sequence]; place < end; row++, place++) {
          for (let head = 0; head < heads; head++) {
            const at = (tile * heads + head) * width + place;
            for (let part = 0; part < 3; part++)
              split[part * size + at] = merge[part * size + at] = (row * 3 + part) * heads + head;
            output[at] = row * heads + head;
          }
          const seen = (tile * width + place) * width;
          bias.fill(0, seen + first, seen + (causal ? place + 1 : end));
        }
      }
    });
    return {
      split: tf.tensor(split, [3, ...shape], 'int32'),
      merge: ops.unstack(tf.tensor(merge, [3, ...shape], 'int32')),
      output: tf.tensor(output, shape, 'int32'),
      bias: tf.tensor4d(bias, [n, 1, width, width]),
    };
  });
  return { heads, groups };
}

/** All narrow. */
export interface SavedTiles {
  /** [tiles, heads, width, size of a head]. */
  query: Tensor;
  key: Tensor;
  value: Tensor;
  /** Before and after dropout: [tiles, heads, width, width]. */
  probabilities: Tensor;
  dropped: Tensor;
  drawn?: Drawn;
}

/**
 * Scaled dot-product attention (Vaswani et al. 2017 eq. 1) of every sequence with itself.
 *
 * @param qkv query, key and value side by side, narrow: [totalTokens, 3 d]
 * @returns narrow, [totalTokens, d]
 */
export function attention(
  ops: Ops,
  qkv: Tensor,
  { heads, groups }: AttentionLayout,
  dropout: Dropout,
  rate: number,
): { y: Tensor; saved: SavedTiles[] } {
  const [tokens, columns] = qkv.shape as [number, number];
  const d = columns / 3;
  const size = d / heads;
  return ops.tidy(() => {
    const pieces = ops.reshape(qkv, [tokens * 3 * heads, size]);
    const made = groups.map(({ split, bias }) =>
      ops.tidy(() => {
        const [query, key, value] = ops.unstack(ops.gather(pieces, split));
        const scores = ops.batchProduct(query, key, false, true);
        const drawn = dropout.draw(scores.shape, rate);
        const { probabilities, dropped } = softmaxAndDrop(ops, scores, bias, drawn, 1 / Math.sqrt(size));
        const saved: SavedTiles = { query, key, value, probabilities, dropped, drawn };
        return { y: ops.batchProduct(dropped, value), saved };
      }),
    );
    const outputs = made.map(({ y }) => y);
    const y = join(
      ops,
      [tokens, d],
      groups.map(({ output }) => output),
      outputs,
    );
    return { y, saved: made.map(({ saved }) => saved) };
  });
}

/** @param dy narrow, [totalTokens, d] @returns narrow, [totalTokens, 3 d] */
export function attentionBackward(
  ops: Ops,
  dy: Tensor,
  saved: readonly SavedTiles[],
  { heads, groups }: AttentionLayout,
): Tensor {
  const [tokens, d] = dy.shape as [number, number];
  const size = d / heads;
  return ops.tidy(() => {
    // No gradient comes from padding.
    const pieces = ops.withZeroRow(ops.reshape(dy, [tokens * heads, size]));
    const gradients = groups.map(({ output }, g) =>
      ops.tidy(() => {
        const { query, key, value, probabilities, dropped, drawn } = saved[g];
        const dOutput = ops.gather(pieces, output);
        const dValue = ops.batchProduct(dropped, dOutput, true);
        const dDropped = ops.batchProduct(dOutput, value, false, true);
        const dScores = softmaxAndDropBackward(ops, dDropped, probabilities, drawn, 1 / Math.sqrt(size));
        return [ops.batchProduct(dScores, key), ops.batchProduct(dScores, query, true), dValue];
      }),
    );
    return join(
      ops,
      [tokens, 3 * d],
      groups.flatMap(({ merge }) => merge),
      gradients.flat(),
    );
  });
}

/** Softmax over the keys that a query sees, and dropout. */
function softmaxAndDrop(
  ops: Ops,
  scores: Tensor,
  bias: Tensor,
  drawn: Drawn | undefined,
  scale: number,
): { probabilities: Tensor; dropped: Tensor } {
  const [probabilities, dropped] = fuse(
    ops,
    `softmax-drop ${scale} ${drawn?.gain}`,
    [scores, bias, ...inputsOf(drawn)],
    (ops, [scores, bias, ...random]) => {
      const y = ops.softmax(ops.add(ops.mul(ops.widen(scores), scale), bias));
      const narrow = ops.narrow(y);
      return [narrow, drawn ? ops.narrow(drop(ops, y, drawn, random)) : narrow];
    },
  );
  return { probabilities, dropped };
}

/** @param dDropped gradient for what was dropped from @returns the gradient for the scores, narrow */
function softmaxAndDropBackward(
  ops: Ops,
  dDropped: Tensor,
  probabilities: Tensor,
  drawn: Drawn | undefined,
  scale: number,
): Tensor {
  const [dScores] = fuse(
    ops,
    `softmax-drop-backward ${scale} ${drawn?.gain}`,
    [dDropped, probabilities, ...inputsOf(drawn)],
    (ops, [dDropped, probabilities, ...random]) => {
      const dy = drop(ops, ops.widen(dDropped), drawn, random);
      const y = ops.widen(probabilities);
      const along = ops.sumLast(ops.mul(dy, y));
      return [ops.narrow(ops.mul(ops.mul(y, ops.sub(dy, along)), scale))];
    },
  );
  return dScores;
}

/** As Ops.fuse, and one by one for a few tiles: there is less to win, and their number differs from batch to batch. */
const fuse: (ops: Ops, ...given: Parameters<Ops['fuse']>) => Tensor[] = (ops, name, inputs, body) =>
  inputs[0].shape[0] < COMPILED ? ops.tidy(() => body(ops, inputs)) : ops.fuse(name, inputs, body);

/** The groups' pieces as packed rows [tokens, columns]; what went behind the last is padding. */
function join(
  ops: Ops,
  [tokens, columns]: [number, number],
  indices: readonly Tensor[],
  parts: readonly Tensor[],
): Tensor {
  const size = parts[0].shape.at(-1)!;
  const count = (tokens * columns) / size;
  const pieces = ops.stitch(indices, parts);
  const real = pieces.shape[0] > count ? ops.firstRows(pieces, count) : pieces;
  return ops.reshape(real, [tokens, columns]);
}
