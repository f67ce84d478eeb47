import type { Tensor2D } from '@tensorflow/tfjs-core';

import type { BertConfig } from '../../encoder/bert.js';
import type { Pooling } from '../../encoder/model-folder.js';
import { join, pack } from '../packing.js';
import type { PackedBatch } from '../types.js';
import {
  attention,
  attentionBackward,
  attentionLayout,
  type AttentionLayout,
  type SavedTiles,
} from './attention.js';
import type { CrossAttention, SavedCross } from './cross-attention.js';
import {
  addAndNormalize,
  addAndNormalizeBackward,
  biasBackward,
  biasGelu,
  biasGeluBackward,
  embedAndNormalize,
  embedAndNormalizeBackward,
  narrowWeight,
  withBias,
  Dropout,
  type SavedAdd,
  type Values,
} from './layers.js';
import type { Ops, Tensor } from './ops.js';
import type { Gradients } from './parameters.js';

/** Names are Hugging Face's, but query, key and value are one matrix `qkv` [3 d, d]. */
export interface Weights extends Values {
  /** Some rows of it [k, d], where that spares the whole matrix. */
  rows?(name: string, indices: Tensor): Tensor;
}

/** The one whose gradient can be of some rows. */
export const WORDS = 'embeddings.word_embeddings.weight';

/** A packed batch where TensorFlow can see it. */
export interface DeviceBatch {
  /** Sequences. */
  n: number;
  tokens: number;
  /** The tokens, and behind them what the batch was filled up with. */
  rows: number;
  /** Token ids, their places in the sequence, and the sequence that they are of, -1 for what is of none: [rows]. */
  ids: Tensor;
  positions: Tensor;
  sequence: Tensor;
  /** Row of each sequence's first token: [n]. */
  first: Tensor;
  /** 1 / tokens of each sequence: [n, 1]. */
  inverseLengths: Tensor;
  attention: AttentionLayout;
  /** The different ids, and which of them each token has: the word embeddings' gradient is made of these rows. */
  uniqueIds: Int32Array;
  uniqueOf: Tensor;
}

/**
 * Filled up as a compiler wants it: with sequences of one token that are none of the n. Nothing of them is pooled and no
 * gradient comes from them. One long sequence would have a tile of attention's, and a width, to itself.
 *
 * @param options.causal whether a token sees only itself and those before it
 * @param options.fill false: rows are the batch's tokens alone
 * @throws RangeError when a sequence is longer than the encoder's positions or an id is outside its vocabulary
 */
export function toDevice(
  ops: Ops,
  packed: PackedBatch,
  config: BertConfig,
  { causal = false, fill = true }: { causal?: boolean; fill?: boolean } = {},
): DeviceBatch {
  const { tf } = ops;
  const n = packed.offsets.length - 1;
  const tokens = packed.ids.length;
  const missing = fill ? ops.wholeRows(tokens) - tokens : 0;
  const filling = Array.from({ length: missing }, () => Int32Array.of(0));
  const { ids, offsets } = join(packed, pack(filling));
  const rows = ids.length;
  const positions = new Int32Array(rows);
  const sequence = new Int32Array(rows).fill(-1);
  for (let s = 0; s < n; s++)
    for (let row = offsets[s]; row < offsets[s + 1]; row++) {
      positions[row] = row - offsets[s];
      sequence[row] = s;
    }
  const numbers = new Map<number, number>();
  for (const id of ids) if (!numbers.has(id)) numbers.set(id, numbers.size);
  const lengths = Float32Array.from({ length: n }, (_, s) => offsets[s + 1] - offsets[s]);
  if (
    lengths.some((length) => length > config.maxPositions) ||
    ids.some((id) => id < 0 || id >= config.vocabSize)
  )
    throw new RangeError('a token that the encoder has no embedding for');
  return {
    n,
    tokens,
    rows,
    ids: tf.tensor1d(ids, 'int32'),
    positions: tf.tensor1d(positions, 'int32'),
    sequence: tf.tensor1d(sequence, 'int32'),
    first: tf.tensor1d(offsets.slice(0, n), 'int32'),
    inverseLengths: tf.tensor2d(
      lengths.map((length) => 1 / length),
      [n, 1],
    ),
    attention: attentionLayout(ops, offsets, config.heads, causal),
    uniqueIds: Int32Array.from(numbers.keys()),
    uniqueOf: tf.tensor1d(
      ids.map((id) => numbers.get(id)!),
      'int32',
    ),
  };
}

/** Narrow is what products are made of. */
interface SavedLayer {
  /** The layer's input, narrow. */
  x: Tensor;
  tiles: SavedTiles[];
  /** Narrow. */
  context: Tensor;
  first: SavedAdd;
  cross?: SavedCross;
  /** What the attention half gives, narrow. */
  middle: Tensor;
  /** Before and after the bias and GELU, narrow. */
  inner: Tensor;
  activated: Tensor;
  second: SavedAdd;
}

export interface SavedForward {
  embeddings: SavedAdd;
  layers: SavedLayer[];
}

/**
 * BERT (Devlin et al. 2018) on packed rows: there is no padding in the dense layers.
 *
 * @param keep whether to keep what bertBackward needs
 * @param cross what a decoder has between a layer's attention and its feed-forward half
 * @returns hidden states [rows, d], and what was kept: the caller disposes of both
 */
export function bertForward(
  ops: Ops,
  config: BertConfig,
  weights: Weights,
  batch: DeviceBatch,
  dropout: Dropout,
  keep = true,
  cross?: CrossAttention,
): { hidden: Tensor; saved: SavedForward } {
  const { tf } = ops;
  const { layerNormEps: eps, hiddenDropout, attentionDropout } = config;
  const normOf = (name: string) => ({
    scale: weights(`${name}.weight`),
    shift: weights(`${name}.bias`),
    eps,
  });

  const embedded = ops.tidy(() => {
    const words = weights.rows ? weights.rows(WORDS, batch.ids) : ops.gather(weights(WORDS), batch.ids);
    const places = ops.gather(weights('embeddings.position_embeddings.weight'), batch.positions);
    const types = weights('embeddings.token_type_embeddings.weight');
    const type = tf.slice(types, [0, 0], [1, config.hiddenSize]).reshape([config.hiddenSize]);
    const drawn = dropout.draw(words.shape, hiddenDropout);
    return embedAndNormalize(ops, words, places, type, drawn, normOf('embeddings.LayerNorm'));
  });

  let x = embedded.y;
  let { narrow } = embedded;
  const layers: SavedLayer[] = [];
  for (let layer = 0; layer < config.layers; layer++) {
    const at = `encoder.layer.${layer}`;
    const biasOf = (name: string): Tensor => weights(`${at}.${name}.bias`);
    const product = (input: Tensor, name: string): Tensor =>
      ops.product(input, narrowWeight(ops, weights, `${at}.${name}.weight`), false, true);
    const made = ops.tidy(() => {
      const qkv = withBias(ops, product(narrow, 'attention.self.qkv'), biasOf('attention.self.qkv'));
      const { y: context, saved: tiles } = attention(ops, qkv, batch.attention, dropout, attentionDropout);
      const attended = product(context, 'attention.output.dense');
      const first = addAndNormalize(
        ops,
        x,
        attended,
        biasOf('attention.output.dense'),
        dropout.draw(attended.shape, hiddenDropout),
        normOf(`${at}.attention.output.LayerNorm`),
      );
      const crossed = cross?.forward(first.y, layer);
      const middle = crossed ? ops.narrow(crossed.y) : first.narrow;
      const inner = product(middle, 'intermediate.dense');
      const activated = biasGelu(ops, inner, biasOf('intermediate.dense'));
      const output = product(activated, 'output.dense');
      const second = addAndNormalize(
        ops,
        crossed ? crossed.y : first.y,
        output,
        biasOf('output.dense'),
        dropout.draw(output.shape, hiddenDropout),
        normOf(`${at}.output.LayerNorm`),
      );
      return {
        y: second.y,
        narrow: second.narrow,
        saved: {
          tiles,
          context,
          first: first.saved,
          cross: crossed?.saved,
          middle,
          inner,
          activated,
          second: second.saved,
        },
      };
    });
    if (keep) layers.push({ x: narrow, ...made.saved });
    else ops.free(narrow, made.saved);
    ops.free(x);
    ({ y: x, narrow } = made);
  }
  ops.free(narrow);
  return { hidden: x, saved: { embeddings: embedded.saved, layers } };
}

/**
 * Adds the gradient of every parameter to `gradients`. What was saved is disposed of on the way, layer by
 * layer.
 *
 * @param dHidden gradient of the loss with respect to the hidden states: [rows, d]; disposed of
 * @param cross the one of the forward pass
 */
export function bertBackward(
  ops: Ops,
  config: BertConfig,
  weights: Weights,
  batch: DeviceBatch,
  { embeddings, layers }: SavedForward,
  dHidden: Tensor,
  gradients: Gradients,
  cross?: CrossAttention,
): void {
  const { tf } = ops;
  const { shape } = dHidden;
  const nothing = (): Tensor => ops.tidy(() => ops.narrow(tf.zeros(shape)));
  // In two parts to be added, the second one narrow.
  let dy: [Tensor, Tensor] = [dHidden, nothing()];
  for (let layer = config.layers - 1; layer >= 0; layer--) {
    const at = `encoder.layer.${layer}`;
    const saved = layers[layer];
    const dx = ops.tidy((): [Tensor, Tensor] => {
      const productBackward = (dProduct: Tensor, input: Tensor, name: string): Tensor => {
        gradients.add(`${at}.${name}.weight`, ops.widen(ops.product(dProduct, input, true)));
        return ops.product(dProduct, narrowWeight(ops, weights, `${at}.${name}.weight`));
      };
      const addBackward = (
        dOutput: [Tensor, Tensor],
        savedAdd: SavedAdd,
        norm: string,
        bias: string,
      ): { dx: Tensor; dProduct: Tensor } => {
        const scale = weights(`${at}.${norm}.weight`);
        const made = addAndNormalizeBackward(ops, dOutput, savedAdd, scale);
        gradients.add(`${at}.${norm}.weight`, made.dScale);
        gradients.add(`${at}.${norm}.bias`, made.dShift);
        gradients.add(`${at}.${bias}.bias`, made.dBias);
        return made;
      };
      const second = addBackward(dy, saved.second, 'output.LayerNorm', 'output.dense');
      const dActivated = productBackward(second.dProduct, saved.activated, 'output.dense');
      const dInner = biasGeluBackward(ops, dActivated, saved.inner, weights(`${at}.intermediate.dense.bias`));
      gradients.add(`${at}.intermediate.dense.bias`, dInner.dBias);
      let dMiddle: [Tensor, Tensor] = [
        second.dx,
        productBackward(dInner.dProduct, saved.middle, 'intermediate.dense'),
      ];
      if (cross) {
        const sum = ops.add(dMiddle[0], ops.widen(dMiddle[1]));
        dMiddle = [cross.backward(sum, saved.cross!, layer, gradients), nothing()];
      }
      const first = addBackward(dMiddle, saved.first, 'attention.output.LayerNorm', 'attention.output.dense');
      const dContext = productBackward(first.dProduct, saved.context, 'attention.output.dense');
      const dQkv = attentionBackward(ops, dContext, saved.tiles, batch.attention);
      gradients.add(`${at}.attention.self.qkv.bias`, biasBackward(ops, dQkv));
      return [first.dx, productBackward(dQkv, saved.x, 'attention.self.qkv')];
    });
    ops.free(dy, saved);
    dy = dx;
  }
  ops.tidy(() => {
    const scale = weights('embeddings.LayerNorm.weight');
    const { dx, dScale, dShift, dType } = embedAndNormalizeBackward(ops, dy, embeddings, scale);
    gradients.add('embeddings.LayerNorm.weight', dScale);
    gradients.add('embeddings.LayerNorm.bias', dShift);
    const rows = tf.unsortedSegmentSum(dx, batch.uniqueOf.as1D(), batch.uniqueIds.length);
    gradients.addRows(WORDS, batch.uniqueIds, rows);
    gradients.add(
      'embeddings.position_embeddings.weight',
      tf.unsortedSegmentSum(dx, batch.positions.as1D(), config.maxPositions),
    );
    const others = tf.zeros([config.typeVocabSize - 1, config.hiddenSize]);
    gradients.add(
      'embeddings.token_type_embeddings.weight',
      tf.concat([dType.reshape([1, config.hiddenSize]), others]),
    );
  });
  ops.free(dy, embeddings);
}

/** What an encoder makes of a packed batch, without dropout: [n, d]. */
export function bertPooled(
  ops: Ops,
  config: BertConfig,
  weights: Weights,
  packed: PackedBatch,
  pooling: Pooling,
): Tensor {
  const still = { ...config, hiddenDropout: 0, attentionDropout: 0 };
  const batch = toDevice(ops, packed, still);
  const { hidden } = bertForward(ops, still, weights, batch, new Dropout(ops, 0), false);
  return poolForward(ops, hidden, batch, pooling);
}

/** The same where JavaScript can see it. */
export function bertVectors(...of: Parameters<typeof bertPooled>): Float32Array {
  const [ops] = of;
  const pooled = ops.tidy(() => bertPooled(...of));
  const vectors = pooled.dataSync<'float32'>();
  pooled.dispose();
  return vectors;
}

/** Hidden states [rows, d] -> one vector a sequence [n, d]. */
export function poolForward(ops: Ops, hidden: Tensor, batch: DeviceBatch, pooling: Pooling): Tensor {
  const { tf } = ops;
  if (pooling === 'cls') return tf.gather(hidden, batch.first.as1D());
  return ops.tidy(() => tf.mul(sumOfTokens(ops, hidden, batch), batch.inverseLengths));
}

/** [n, d] -> [rows, d]. */
export function poolBackward(ops: Ops, dPooled: Tensor, batch: DeviceBatch, pooling: Pooling): Tensor {
  const { tf } = ops;
  if (pooling === 'cls') return tf.unsortedSegmentSum(dPooled, batch.first.as1D(), batch.rows);
  return ops.tidy(() => toTokens(ops, tf.mul(dPooled, batch.inverseLengths), batch));
}

/** [rows, d] -> [n, d]. */
export function sumOfTokens(ops: Ops, x: Tensor, { sequence, n }: DeviceBatch): Tensor {
  return ops.tf.unsortedSegmentSum(x, sequence.as1D(), n);
}

/** [n, d] -> what each token's sequence has: [rows, d], 0 for what is of none. */
export function toTokens(ops: Ops, x: Tensor, { sequence, tokens, rows }: DeviceBatch): Tensor {
  const { tf } = ops;
  return ops.tidy(() => {
    const real = ops.gather(x, tf.slice(sequence, 0, tokens));
    return rows > tokens
      ? tf.pad(real as Tensor2D, [
          [0, rows - tokens],
          [0, 0],
        ])
      : real;
  });
}
