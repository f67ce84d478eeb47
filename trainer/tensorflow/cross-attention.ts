import type { Random } from '../../base/random.js';
import type { BertConfig } from '../../encoder/bert.js';
import type { HostTensor } from '../types.js';
import { sumOfTokens, toTokens, type DeviceBatch, type Weights } from './bert.js';
import { filled, normal } from './initial.js';
import {
  applyMask,
  dense,
  denseBackward,
  narrowWeight,
  normalize,
  normalizeBackward,
  type Dropout,
  type Normalized,
} from './layers.js';
import type { Ops, Tensor } from './ops.js';
import type { Gradients } from './parameters.js';

export interface SavedCross {
  /** Of each sequence: [n, d]. */
  value: Tensor;
  mask?: Tensor;
  norm: Normalized;
}

/** What each of a decoder's layers has between self-attention and feed-forward. */
export interface CrossAttention {
  /** @param x [tokens, d] @returns y of its shape, and what is kept for the way back */
  forward(x: Tensor, layer: number): { y: Tensor; saved: SavedCross };
  /** @returns the gradient for x; adds those of the layer's parameters */
  backward(dy: Tensor, saved: SavedCross, layer: number, gradients: Gradients): Tensor;
  /** Gradient for the vectors, after all layers' ways back: [n, d]; the caller disposes of it. */
  takeVectors(): Tensor;
}

const at = (layer: number): string => `decoder.layer.${layer}.cross`;

/** First values: as BERT's own. */
export function crossParameters(
  { layers, hiddenSize: d }: BertConfig,
  random: Random,
): Map<string, HostTensor> {
  const parameters = new Map<string, HostTensor>();
  for (let layer = 0; layer < layers; layer++) {
    for (const part of ['value', 'output']) {
      parameters.set(`${at(layer)}.${part}.weight`, normal([d, d], random));
      parameters.set(`${at(layer)}.${part}.bias`, filled(d, 0));
    }
    parameters.set(`${at(layer)}.norm.weight`, filled(d, 1));
    parameters.set(`${at(layer)}.norm.bias`, filled(d, 0));
  }
  return parameters;
}

/**
 * Cross-attention (Vaswani et al. 2017, section 3.2.3) to a single vector a sequence, as each of BERT's layers
 * has it in a decoder: y = norm(x + dropout(W_o (W_v s + b_v) + b_o)). A softmax over one key is 1 whatever the
 * query, so queries and keys would have no effect and are not there; the attention's own dropout, of that 1, is
 * left out.
 *
 * @param vectors s, [n, d]
 * @param batch of n sequences
 */
export function crossAttention(
  ops: Ops,
  { layerNormEps: eps, hiddenDropout }: BertConfig,
  weights: Weights,
  vectors: Tensor,
  batch: DeviceBatch,
  dropout: Dropout,
): CrossAttention {
  const { tf } = ops;
  let dVectors = tf.keep(tf.zerosLike(vectors));
  return {
    forward: (x, layer) =>
      ops.tidy(() => {
        const of = (name: string): Tensor => weights(`${at(layer)}.${name}`);
        const narrowOf = (name: string): Tensor => narrowWeight(ops, weights, `${at(layer)}.${name}`);
        const value = dense(ops, vectors, narrowOf('value.weight'), of('value.bias'));
        const output = dense(ops, value, narrowOf('output.weight'), of('output.bias'));
        const spread = toTokens(ops, output, batch);
        const mask = dropout.mask(spread.shape, hiddenDropout);
        const { y, saved: norm } = normalize(ops, 'layer', tf.add(x, applyMask(ops, spread, mask)), {
          scale: of('norm.weight'),
          shift: of('norm.bias'),
          eps,
        });
        return { y, saved: { value, mask, norm } };
      }),
    backward: (dy, { value, mask, norm }, layer, gradients) =>
      ops.tidy(() => {
        const add = (name: string, gradient: Tensor): void => gradients.add(`${at(layer)}.${name}`, gradient);
        const of = (name: string): Tensor => weights(`${at(layer)}.${name}`);
        const narrowOf = (name: string): Tensor => narrowWeight(ops, weights, `${at(layer)}.${name}`);
        const sum = normalizeBackward(ops, 'layer', dy, norm, of('norm.weight'));
        add('norm.weight', sum.dScale);
        add('norm.bias', sum.dShift);
        const dSpread = applyMask(ops, sum.dx, mask);
        const dOutput = sumOfTokens(ops, dSpread, batch);
        const output = denseBackward(ops, dOutput, value, narrowOf('output.weight'));
        add('output.weight', output.dWeight);
        add('output.bias', output.dBias);
        const ofValue = denseBackward(ops, output.dx, vectors, narrowOf('value.weight'));
        add('value.weight', ofValue.dWeight);
        add('value.bias', ofValue.dBias);
        const before = dVectors;
        dVectors = tf.keep(tf.add(before, ofValue.dx));
        before.dispose();
        return sum.dx;
      }),
    takeVectors: () => dVectors,
  };
}
