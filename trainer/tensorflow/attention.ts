import type { Tensor2D } from '@tensorflow/tfjs-core';

import { attentionBlocks } from '../packing.js';
import { applyMask, type Dropout } from './layers.js';
import type { Ops, Tensor } from './ops.js';

/**
 * A batch's sequences as attention needs them: padded, in blocks of like length, head by head. Packed rows are taken
 * apart into pieces, a token's query, key or value in one head each, so that one gather pads and transposes.
 */
export interface AttentionLayout {
  heads: number;
  blocks: {
    /** Pieces of the packed [tokens, 3 heads, size of a head]: [3, n, heads, width]. Any piece stands in for padding, whose keys the bias hides. */
    split: Tensor;
    /** The same for the way back: query, key and value, [n, heads, width] each. Padding goes to the piece behind the last. */
    merge: Tensor[];
    /** Pieces of the packed [tokens, heads, size of a head], padding behind the last again: [n, heads, width]. */
    output: Tensor;
    /**
     * Added to the scores: 0 for what is seen, a large negative number for what is not: padding [n, 1, 1, width], or
     * what comes later [1, 1, width, width]. Nothing where all is seen.
     */
    bias?: Tensor;
  }[];
}

/** exp of it is 0 in fp32, and no sum with it overflows. */
const HIDDEN = -1e9;

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
  const blocks = attentionBlocks(offsets).map(({ sequences, width }) => {
    const n = sequences.length;
    const split = new Int32Array(3 * n * heads * width);
    const merge = new Int32Array(split.length);
    const output = new Int32Array(n * heads * width);
    const hidden = new Float32Array(n * width);
    let at = 0;
    for (let part = 0; part < 3; part++)
      sequences.forEach((sequence, i) => {
        const length = offsets[sequence + 1] - offsets[sequence];
        for (let head = 0; head < heads; head++)
          for (let place = 0; place < width; place++, at++) {
            const real = place < length;
            const row = offsets[sequence] + place;
            split[at] = ((real ? row : 0) * 3 + part) * heads + head;
            merge[at] = real ? split[at] : tokens * 3 * heads;
            if (part === 0) output[at] = real ? row * heads + head : tokens * heads;
            if (!real) hidden[i * width + place] = HIDDEN;
          }
      });
    const shape = [n, heads, width];
    let bias: Tensor | undefined;
    // Padding comes behind every token: what hides the later ones hides it, too.
    if (causal) bias = laterHidden(ops, width);
    else if (hidden.includes(HIDDEN)) bias = tf.tensor4d(hidden, [n, 1, 1, width]);
    return {
      split: tf.tensor(split, [3, ...shape], 'int32'),
      merge: ops.unstack(tf.tensor(merge, [3, ...shape], 'int32')),
      output: tf.tensor(output, shape, 'int32'),
      bias,
    };
  });
  return { heads, blocks };
}

/** Of each query (rows) and key (columns), what is added to their score: [1, 1, width, width]. */
function laterHidden(ops: Ops, width: number): Tensor {
  const bias = new Float32Array(width * width);
  for (let query = 0; query < width; query++)
    bias.fill(HIDDEN, query * width + query + 1, (query + 1) * width);
  return ops.tf.tensor4d(bias, [1, 1, width, width]);
}

export interface SavedBlock {
  /** [n, heads, width, size of a head]. */
  query: Tensor;
  key: Tensor;
  value: Tensor;
  /** Before and after dropout: [n, heads, width, width]. */
  probabilities: Tensor;
  dropped: Tensor;
  mask?: Tensor;
}

/**
 * Scaled dot-product attention (Vaswani et al. 2017 eq. 1) of every sequence with itself.
 *
 * @param qkv query, key and value side by side: [totalTokens, 3 d]
 * @returns [totalTokens, d]
 */
export function attention(
  ops: Ops,
  qkv: Tensor,
  { heads, blocks }: AttentionLayout,
  dropout: Dropout,
  rate: number,
): { y: Tensor; saved: SavedBlock[] } {
  const [tokens, columns] = qkv.shape as [number, number];
  const d = columns / 3;
  const size = d / heads;
  return ops.tidy(() => {
    const pieces = qkv.reshape([tokens * 3 * heads, size]);
    const made = blocks.map(({ split, bias }) =>
      ops.tidy(() => {
        const [query, key, value] = ops.unstack(ops.gather(pieces, split));
        const scores = ops.mul(ops.batchMatMul(query, key, false, true), 1 / Math.sqrt(size));
        const probabilities = ops.softmax(bias ? ops.add(scores, bias) : scores);
        const mask = dropout.mask(probabilities.shape, rate);
        const dropped = applyMask(ops, probabilities, mask);
        const saved: SavedBlock = { query, key, value, probabilities, dropped, mask };
        return { y: ops.batchMatMul(dropped, value), saved };
      }),
    );
    const outputs = made.map(({ y }) => y);
    const y = join(
      ops,
      [tokens, d],
      blocks.map(({ output }) => output),
      outputs,
    );
    return { y, saved: made.map(({ saved }) => saved) };
  });
}

/** @param dy [totalTokens, d] @returns [totalTokens, 3 d] */
export function attentionBackward(
  ops: Ops,
  dy: Tensor,
  saved: readonly SavedBlock[],
  { heads, blocks }: AttentionLayout,
): Tensor {
  const { tf } = ops;
  const [tokens, d] = dy.shape as [number, number];
  const size = d / heads;
  return ops.tidy(() => {
    // No gradient comes from padding.
    const pieces = tf.concat([dy.reshape([tokens * heads, size]), tf.zeros([1, size])]);
    const gradients = blocks.map(({ output }, b) =>
      ops.tidy(() => {
        const { query, key, value, probabilities, dropped, mask } = saved[b];
        const dOutput = ops.gather(pieces, output);
        const dValue = ops.batchMatMul(dropped, dOutput, true);
        const dProbabilities = applyMask(ops, ops.batchMatMul(dOutput, value, false, true), mask);
        const along = ops.sumLast(ops.mul(dProbabilities, probabilities));
        const dScores = ops.mul(ops.mul(probabilities, ops.sub(dProbabilities, along)), 1 / Math.sqrt(size));
        return [ops.batchMatMul(dScores, key), ops.batchMatMul(dScores, query, true), dValue];
      }),
    );
    return join(
      ops,
      [tokens, 3 * d],
      blocks.flatMap(({ merge }) => merge),
      gradients.flat(),
    );
  });
}

/** The blocks' pieces as packed rows [tokens, columns]; what went behind the last is padding. */
function join(
  ops: Ops,
  [tokens, columns]: [number, number],
  indices: readonly Tensor[],
  parts: readonly Tensor[],
): Tensor {
  const { tf } = ops;
  const size = parts[0].shape.at(-1)!;
  const count = (tokens * columns) / size;
  const pieces = ops.stitch(indices, parts) as Tensor2D;
  const real = pieces.shape[0] > count ? tf.slice(pieces, [0, 0], [count, size]) : pieces;
  return real.reshape([tokens, columns]);
}
