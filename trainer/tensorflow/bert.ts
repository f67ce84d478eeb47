import type { BertConfig } from '../../encoder/bert.js';
import type { Pooling } from '../../encoder/model-folder.js';
import type { PackedBatch } from '../types.js';
import {
  attention,
  attentionBackward,
  attentionLayout,
  type AttentionLayout,
  type SavedBlock,
} from './attention.js';
import type { CrossAttention, SavedCross } from './cross-attention.js';
import {
  applyMask,
  dense,
  denseBackward,
  gelu,
  geluBackward,
  normalize,
  normalizeBackward,
  type Dropout,
  type Normalized,
  type SavedGelu,
} from './layers.js';
import type { Ops, Tensor } from './ops.js';
import type { Gradients } from './parameters.js';

/** A parameter's value by its name: Hugging Face's, but query, key and value are one matrix `qkv` [3 d, d]. */
export interface Weights {
  (name: string): Tensor;
  /** Some rows of it [k, d], where that spares the whole matrix. */
  rows?(name: string, indices: Tensor): Tensor;
}

const WORDS = 'embeddings.word_embeddings.weight';

/** A packed batch where TensorFlow can see it. */
export interface DeviceBatch {
  /** Sequences. */
  n: number;
  tokens: number;
  /** Token ids, their places in the sequence, and the sequence that they are of: [tokens]. */
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
 * @param causal whether a token sees only itself and those before it
 * @throws RangeError when a sequence is longer than the encoder's positions or an id is outside its vocabulary
 */
export function toDevice(
  ops: Ops,
  { ids, offsets }: PackedBatch,
  config: BertConfig,
  causal = false,
): DeviceBatch {
  const { tf } = ops;
  const n = offsets.length - 1;
  const positions = new Int32Array(ids.length);
  const sequence = new Int32Array(ids.length);
  for (let s = 0; s < n; s++)
    for (let row = offsets[s]; row < offsets[s + 1]; row++) {
      positions[row] = row - offsets[s];
      sequence[row] = s;
    }
  const numbers = new Map<number, number>();
  for (const id of ids) if (!numbers.has(id)) numbers.set(id, numbers.size);
  const lengths = Float32Array.from({ length: n }, (_, s) => offsets[s + 1] - offsets[s]);
  if (Math.max(...lengths) > config.maxPositions || ids.some((id) => id < 0 || id >= config.vocabSize))
    throw new RangeError('a token that the encoder has no embedding for');
  return {
    n,
    tokens: ids.length,
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

interface SavedEmbeddings {
  norm: Normalized;
  mask?: Tensor;
}

interface SavedLayer {
  /** The layer's input. */
  x: Tensor;
  blocks: SavedBlock[];
  context: Tensor;
  attentionMask?: Tensor;
  attentionNorm: Normalized;
  cross?: SavedCross;
  /** What the attention half gives. */
  middle: Tensor;
  gelu: SavedGelu;
  activated: Tensor;
  outputMask?: Tensor;
  outputNorm: Normalized;
}

export interface SavedForward {
  embeddings: SavedEmbeddings;
  layers: SavedLayer[];
}

/**
 * BERT (Devlin et al. 2018) on packed rows: there is no padding in the dense layers.
 *
 * @param keep whether to keep what bertBackward needs
 * @param cross what a decoder has between a layer's attention and its feed-forward half
 * @returns hidden states [tokens, d], and what was kept: the caller disposes of both
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
    const { y, saved } = normalize(
      ops,
      'layer',
      ops.biasAdd(ops.add(words, places), type),
      normOf('embeddings.LayerNorm'),
    );
    const mask = dropout.mask(y.shape, hiddenDropout);
    return { y: applyMask(ops, y, mask), saved: { norm: saved, mask } };
  });

  let x = embedded.y;
  const layers: SavedLayer[] = [];
  for (let layer = 0; layer < config.layers; layer++) {
    const at = `encoder.layer.${layer}`;
    const linear = (input: Tensor, name: string): Tensor =>
      dense(ops, input, weights(`${at}.${name}.weight`), weights(`${at}.${name}.bias`));
    const { y, saved } = ops.tidy(() => {
      const { y: context, saved: blocks } = attention(
        ops,
        linear(x, 'attention.self.qkv'),
        batch.attention,
        dropout,
        attentionDropout,
      );
      const attended = linear(context, 'attention.output.dense');
      const attentionMask = dropout.mask(attended.shape, hiddenDropout);
      const first = normalize(
        ops,
        'layer',
        ops.add(x, applyMask(ops, attended, attentionMask)),
        normOf(`${at}.attention.output.LayerNorm`),
      );
      const crossed = cross?.forward(first.y, layer);
      const middle = crossed ? crossed.y : first.y;
      const { y: activated, saved: savedGelu } = gelu(ops, linear(middle, 'intermediate.dense'));
      const output = linear(activated, 'output.dense');
      const outputMask = dropout.mask(output.shape, hiddenDropout);
      const second = normalize(
        ops,
        'layer',
        ops.add(middle, applyMask(ops, output, outputMask)),
        normOf(`${at}.output.LayerNorm`),
      );
      return {
        y: second.y,
        saved: {
          blocks,
          context,
          attentionMask,
          attentionNorm: first.saved,
          cross: crossed?.saved,
          middle,
          gelu: savedGelu,
          activated,
          outputMask,
          outputNorm: second.saved,
        },
      };
    });
    if (keep) layers.push({ x, ...saved });
    else ops.free(x, saved);
    x = y;
  }
  return { hidden: x, saved: { embeddings: embedded.saved, layers } };
}

/**
 * Adds the gradient of every parameter to `gradients`. What was saved is disposed of on the way, layer by
 * layer.
 *
 * @param dHidden gradient of the loss with respect to the hidden states: [tokens, d]; disposed of
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
  let dy = dHidden;
  for (let layer = config.layers - 1; layer >= 0; layer--) {
    const at = `encoder.layer.${layer}`;
    const saved = layers[layer];
    const dx = ops.tidy(() => {
      const linearBackward = (dOutput: Tensor, input: Tensor, name: string): Tensor => {
        const { dx, dWeight, dBias } = denseBackward(ops, dOutput, input, weights(`${at}.${name}.weight`));
        gradients.add(`${at}.${name}.weight`, dWeight);
        gradients.add(`${at}.${name}.bias`, dBias);
        return dx;
      };
      const normBackward = (dOutput: Tensor, norm: Normalized, name: string): Tensor => {
        const scale = weights(`${at}.${name}.weight`);
        const { dx, dScale, dShift } = normalizeBackward(ops, 'layer', dOutput, norm, scale);
        gradients.add(`${at}.${name}.weight`, dScale);
        gradients.add(`${at}.${name}.bias`, dShift);
        return dx;
      };
      const dSecond = normBackward(dy, saved.outputNorm, 'output.LayerNorm');
      const dOutput = applyMask(ops, dSecond, saved.outputMask);
      const dActivated = linearBackward(dOutput, saved.activated, 'output.dense');
      const dInner = geluBackward(ops, dActivated, saved.gelu);
      const dMiddle = ops.add(dSecond, linearBackward(dInner, saved.middle, 'intermediate.dense'));

      const dSelf = cross ? cross.backward(dMiddle, saved.cross!, layer, gradients) : dMiddle;
      const dFirst = normBackward(dSelf, saved.attentionNorm, 'attention.output.LayerNorm');
      const dAttended = applyMask(ops, dFirst, saved.attentionMask);
      const dContext = linearBackward(dAttended, saved.context, 'attention.output.dense');
      const dQkv = attentionBackward(ops, dContext, saved.blocks, batch.attention);
      return ops.add(dFirst, linearBackward(dQkv, saved.x, 'attention.self.qkv'));
    });
    ops.free(dy, saved);
    dy = dx;
  }
  ops.tidy(() => {
    const dNorm = applyMask(ops, dy, embeddings.mask);
    const scale = weights('embeddings.LayerNorm.weight');
    const { dx, dScale, dShift } = normalizeBackward(ops, 'layer', dNorm, embeddings.norm, scale);
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
      tf.concat([ops.columnSums(dx).reshape([1, config.hiddenSize]), others]),
    );
  });
  ops.free(dy, embeddings);
}

/** Hidden states [tokens, d] -> one vector a sequence [n, d]. */
export function poolForward(ops: Ops, hidden: Tensor, batch: DeviceBatch, pooling: Pooling): Tensor {
  const { tf } = ops;
  if (pooling === 'cls') return tf.gather(hidden, batch.first.as1D());
  return ops.tidy(() =>
    tf.mul(tf.unsortedSegmentSum(hidden, batch.sequence.as1D(), batch.n), batch.inverseLengths),
  );
}

/** [n, d] -> [tokens, d]. */
export function poolBackward(ops: Ops, dPooled: Tensor, batch: DeviceBatch, pooling: Pooling): Tensor {
  const { tf } = ops;
  if (pooling === 'cls') return tf.unsortedSegmentSum(dPooled, batch.first.as1D(), batch.tokens);
  return ops.tidy(() => tf.gather(tf.mul(dPooled, batch.inverseLengths), batch.sequence.as1D()));
}
