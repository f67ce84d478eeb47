import { attentionBlocks, paddingOf } from '../packing.js';
import { applyMask, type Dropout } from './layers.js';
import type { Ops, Tensor } from './ops.js';

/** A batch's sequences as attention needs them: padded, in blocks of like length. */
export interface AttentionLayout {
  blocks: {
    /** Sequences. */
    n: number;
    width: number;
    /** First of its padded rows. */
    start: number;
    /**
     * Added to the scores: 0 for what is seen, a large negative number for what is not: padding [n, 1, 1, width], or
     * what comes later [1, 1, width, width]. Nothing where all is seen.
     */
    bias?: Tensor;
  }[];
  /** Packed row of each padded row; any row stands in for padding, whose keys the bias hides. */
  pad: Tensor;
  /** The same, but padding takes the row behind the last, which is zero: no gradient comes from there. */
  padGradient: Tensor;
  /** Padded row of each packed row. */
  unpad: Tensor;
}

/** exp of it is 0 in fp32, and no sum with it overflows. */
const HIDDEN = -1e9;

/** @param causal whether a token sees only itself and those before it, as in a decoder (Vaswani et al. 2017, section 3.2.3) */
export function attentionLayout(ops: Ops, offsets: Int32Array, causal = false): AttentionLayout {
  const { tf } = ops;
  const blocks = attentionBlocks(offsets);
  const { packedRow, paddedRow } = paddingOf(offsets, blocks);
  let start = 0;
  return {
    blocks: blocks.map(({ sequences: { length: n }, width }) => {
      const rows = packedRow.subarray(start, start + n * width);
      let bias: Tensor | undefined;
      // Padding comes behind every token: what hides the later ones hides it, too.
      if (causal) bias = laterHidden(ops, width);
      else if (rows.includes(-1))
        bias = tf.tensor4d(
          Float32Array.from(rows, (row) => (row < 0 ? HIDDEN : 0)),
          [n, 1, 1, width],
        );
      const block = { n, width, start, bias };
      start += n * width;
      return block;
    }),
    pad: tf.tensor1d(
      packedRow.map((row) => Math.max(row, 0)),
      'int32',
    ),
    padGradient: tf.tensor1d(
      packedRow.map((row) => (row < 0 ? paddedRow.length : row)),
      'int32',
    ),
    unpad: tf.tensor1d(paddedRow, 'int32'),
  };
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
  layout: AttentionLayout,
  heads: number,
  dropout: Dropout,
  rate: number,
): { y: Tensor; saved: SavedBlock[] } {
  const { tf } = ops;
  const d = qkv.shape[1]! / 3;
  const size = d / heads;
  return ops.tidy(() => {
    const padded = tf.gather(qkv, layout.pad);
    const saved: SavedBlock[] = [];
    const outputs = layout.blocks.map(
      ({ n, width, start, bias }) =>
        ops.tidy(() => {
          const rows = tf.slice(padded, [start, 0], [n * width, 3 * d]);
          const split = tf.transpose(rows.reshape([n, width, 3, heads, size]), [2, 0, 3, 1, 4]);
          const [query, key, value] = tf.unstack(split);
          const scores = tf.mul(ops.batchMatMul(query, key, false, true), 1 / Math.sqrt(size));
          const probabilities = ops.softmax(bias ? tf.add(scores, bias) : scores);
          const mask = dropout.mask(probabilities.shape, rate);
          const dropped = applyMask(ops, probabilities, mask);
          const y = tf.transpose(ops.batchMatMul(dropped, value), [0, 2, 1, 3]).reshape([n * width, d]);
          const block = { query, key, value, probabilities, dropped, mask };
          saved.push(block);
          // What is returned outlives tidy.
          return { y, block };
        }).y,
    );
    return { y: tf.gather(tf.concat(outputs), layout.unpad), saved };
  });
}

/** @param dy [totalTokens, d] @returns [totalTokens, 3 d] */
export function attentionBackward(
  ops: Ops,
  dy: Tensor,
  saved: readonly SavedBlock[],
  layout: AttentionLayout,
  heads: number,
): Tensor {
  const { tf } = ops;
  const d = dy.shape[1]!;
  const size = d / heads;
  return ops.tidy(() => {
    const padded = tf.gather(tf.concat([dy, tf.zeros([1, d])]), layout.padGradient);
    const gradients = layout.blocks.map(({ n, width, start }, b) =>
      ops.tidy(() => {
        const { query, key, value, probabilities, dropped, mask } = saved[b];
        const rows = tf.slice(padded, [start, 0], [n * width, d]);
        const dOutput = tf.transpose(rows.reshape([n, width, heads, size]), [0, 2, 1, 3]);
        const dValue = ops.batchMatMul(dropped, dOutput, true);
        const dProbabilities = applyMask(ops, ops.batchMatMul(dOutput, value, false, true), mask);
        const along = tf.sum(tf.mul(dProbabilities, probabilities), -1, true);
        const dScores = tf.mul(tf.mul(probabilities, tf.sub(dProbabilities, along)), 1 / Math.sqrt(size));
        const dQuery = ops.batchMatMul(dScores, key);
        const dKey = ops.batchMatMul(dScores, query, true);
        return tf.transpose(tf.stack([dQuery, dKey, dValue]), [1, 3, 0, 2, 4]).reshape([n * width, 3 * d]);
      }),
    );
    return tf.gather(tf.concat(gradients), layout.unpad);
  });
}
