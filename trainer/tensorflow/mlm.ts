import type { Random } from '../../base/random.js';
import type { BertConfig } from '../../encoder/bert.js';
import type { HostTensor } from '../types.js';
import type { Weights } from './bert.js';
import { dense, denseBackward, gelu, geluBackward, normalize, normalizeBackward } from './layers.js';
import type { Ops, Tensor } from './ops.js';
import type { Gradients } from './parameters.js';

/** BERT's initializer_range. */
const SPREAD = 0.02;

const WORDS = 'embeddings.word_embeddings.weight';

/** First parameters of the head: normal with BERT's std for the dense layer, 1 and 0 for the rest. */
export function mlmParameters(
  { hiddenSize: d, vocabSize }: BertConfig,
  random: Random,
): Map<string, HostTensor> {
  const vector = (length: number, value: number): HostTensor => ({
    shape: [length],
    data: new Float32Array(length).fill(value),
  });
  const weight = Float32Array.from({ length: d * d }, () => SPREAD * random.normal());
  return new Map([
    ['mlm.transform.weight', { shape: [d, d], data: weight }],
    ['mlm.transform.bias', vector(d, 0)],
    ['mlm.transform.norm.weight', vector(d, 1)],
    ['mlm.transform.norm.bias', vector(d, 0)],
    ['mlm.bias', vector(vocabSize, 0)],
  ]);
}

export interface MlmResult {
  /** Mean cross entropy of the guesses, in nats; 0 when there was nothing to guess. */
  loss: number;
  /** Share of the guesses whose most likely token is the right one. */
  accuracy: number;
  /** Gradient of the loss with respect to the hidden states: [tokens, d]; the caller disposes of it. */
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
 */
export function mlm(
  ops: Ops,
  { layerNormEps: eps }: BertConfig,
  weights: Weights,
  hidden: Tensor,
  rows: Int32Array,
  labels: Int32Array,
  gradients: Gradients,
): MlmResult {
  const { tf } = ops;
  const weight = weights('mlm.transform.weight');
  const scale = weights('mlm.transform.norm.weight');
  const words = weights(WORDS);
  const guesses = Math.max(1, rows.length);
  return ops.tidy<MlmResult>(() => {
    const at = tf.tensor1d(rows, 'int32');
    const wanted = tf.tensor1d(labels, 'int32');

    const x = tf.gather(hidden, at);
    const inner = dense(ops, x, weight, weights('mlm.transform.bias'));
    const { y: activated, saved: savedGelu } = gelu(ops, inner);
    const shift = weights('mlm.transform.norm.bias');
    const { y, saved } = normalize(ops, 'layer', activated, { scale, shift, eps });
    const logits = dense(ops, y, words, weights('mlm.bias'));
    const { losses, slope } = ops.softmaxCrossEntropy(logits, wanted);
    const loss = tf.sum(losses).dataSync()[0] / guesses;
    const accuracy = tf.sum(tf.equal(tf.argMax(logits, 1), wanted)).dataSync()[0] / guesses;

    const decoder = denseBackward(ops, tf.div(slope, guesses), y, words);
    gradients.add(WORDS, decoder.dWeight);
    gradients.add('mlm.bias', decoder.dBias);
    const norm = normalizeBackward(ops, 'layer', decoder.dx, saved, scale);
    gradients.add('mlm.transform.norm.weight', norm.dScale);
    gradients.add('mlm.transform.norm.bias', norm.dShift);
    const transform = denseBackward(ops, geluBackward(ops, norm.dx, savedGelu), x, weight);
    gradients.add('mlm.transform.weight', transform.dWeight);
    gradients.add('mlm.transform.bias', transform.dBias);
    return { loss, accuracy, dHidden: tf.unsortedSegmentSum(transform.dx, at, hidden.shape[0]) };
  });
}
