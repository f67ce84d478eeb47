import type { Random } from '../../base/random.js';
import type { BertConfig } from '../../encoder/bert.js';
import type { HostTensor } from '../types.js';
import { WORDS, type Weights } from './bert.js';
import { filled, normal } from './initial.js';
import {
  dense,
  denseBackward,
  gelu,
  geluBackward,
  narrowWeight,
  normalize,
  normalizeBackward,
} from './layers.js';
import type { Ops, Tensor } from './ops.js';
import type { Gradients } from './parameters.js';

/**
 * First parameters of the head: normal with BERT's std for the dense layer, 1 and 0 for the rest.
 *
 * @param name what their names begin with
 */
export function mlmParameters(
  { hiddenSize: d, vocabSize }: BertConfig,
  random: Random,
  name = 'mlm',
): Map<string, HostTensor> {
  return new Map([
    [`${name}.transform.weight`, normal([d, d], random)],
    [`${name}.transform.bias`, filled(d, 0)],
    [`${name}.transform.norm.weight`, filled(d, 1)],
    [`${name}.transform.norm.bias`, filled(d, 0)],
    [`${name}.bias`, filled(vocabSize, 0)],
  ]);
}

export interface MlmResult {
  /** Mean cross entropy of the guesses, in nats; 0 when there was nothing to guess. */
  loss: number;
  /** Share of the guesses whose most likely token is the right one. */
  accuracy: number;
  /** Gradient of weight x loss with respect to the hidden states: [tokens, d]; the caller disposes of it. */
  dHidden: Tensor;
}

/**
 * The masked-language-model head of Devlin et al. 2018 (section 3.1; its layers are those of their code) with
 * its loss and gradients: dense, GELU, layer norm, then the word embeddings as the decoder (tied: Press and
 * Wolf 2017) and a bias for each token. Only the rows to guess go through it.
 *
 * Adds the gradients of the head and of the word embeddings as its decoder to `gradients`.
 *
 * @param hidden hidden states [tokens, d]
 * @param rows the rows to guess, each once: [guesses]
 * @param labels the ids that belong there: [guesses]
 * @param options.name of the parameters
 * @param options.weight of the loss in the sum: the gradients are of weight x loss
 */
export function mlm(
  ops: Ops,
  { layerNormEps: eps }: BertConfig,
  weights: Weights,
  hidden: Tensor,
  rows: Int32Array,
  labels: Int32Array,
  gradients: Gradients,
  { name = 'mlm', weight: share = 1 }: { name?: string; weight?: number } = {},
): MlmResult {
  const { tf } = ops;
  const scale = weights(`${name}.transform.norm.weight`);
  const guesses = Math.max(1, rows.length);
  return ops.tidy<MlmResult>(() => {
    const at = tf.tensor1d(rows, 'int32');
    const wanted = tf.tensor1d(labels, 'int32');

    const weight = narrowWeight(ops, weights, `${name}.transform.weight`);
    const words = narrowWeight(ops, weights, WORDS);
    const x = tf.gather(hidden, at);
    const inner = dense(ops, x, weight, weights(`${name}.transform.bias`));
    const { y: activated, saved: savedGelu } = gelu(ops, inner);
    const shift = weights(`${name}.transform.norm.bias`);
    const { y, saved } = normalize(ops, 'layer', activated, { scale, shift, eps });
    const logits = dense(ops, y, words, weights(`${name}.bias`));
    const { losses, slope } = ops.softmaxCrossEntropy(logits, wanted);
    const loss = tf.sum(losses).dataSync()[0] / guesses;
    const accuracy = tf.sum(tf.equal(tf.argMax(logits, 1), wanted)).dataSync()[0] / guesses;

    const decoder = denseBackward(ops, tf.mul(slope, share / guesses), y, words);
    gradients.add(WORDS, decoder.dWeight);
    gradients.add(`${name}.bias`, decoder.dBias);
    const norm = normalizeBackward(ops, 'layer', decoder.dx, saved, scale);
    gradients.add(`${name}.transform.norm.weight`, norm.dScale);
    gradients.add(`${name}.transform.norm.bias`, norm.dShift);
    const transform = denseBackward(ops, geluBackward(ops, norm.dx, savedGelu), x, weight);
    gradients.add(`${name}.transform.weight`, transform.dWeight);
    gradients.add(`${name}.transform.bias`, transform.dBias);
    return { loss, accuracy, dHidden: tf.unsortedSegmentSum(transform.dx, at, hidden.shape[0]) };
  });
}
