import type { Random } from '../../base/random.js';
import type { HostTensor } from '../types.js';
import { filled, normal } from './initial.js';
import { dense, denseBackward, gelu, geluBackward, logistic, narrowWeight, type Values } from './layers.js';
import type { Ops, Tensor } from './ops.js';
import type { Gradients } from './parameters.js';

/** First values of the head. @param d of a hidden state @param D of an embedding */
export function replacedParameters(d: number, D: number, random: Random): Map<string, HostTensor> {
  return new Map([
    ['rtd.hidden.weight', normal([d, d], random)],
    ['rtd.embedding.weight', normal([d, D], random)],
    ['rtd.bias', filled(d, 0)],
    ['rtd.output.weight', normal([1, d], random)],
    ['rtd.output.bias', filled(1, 0)],
  ]);
}

export interface ReplacedResult {
  /** Mean cross entropy of replaced or not, in nats. */
  loss: number;
  /** Share of the tokens that were told right. */
  accuracy: number;
  /** Of weight x loss, for the hidden states [tokens, d] and the embeddings [n, D]; the caller disposes of them. */
  dHidden: Tensor;
  dEmbeddings: Tensor;
}

/**
 * Replaced-token detection: ELECTRA's discriminator (Clark et al. 2020, arXiv 2003.10555, eq. 2; its layers are
 * those of their code: dense, GELU, dense), which also sees the embedding of the text as it was (DiffCSE, Chuang et
 * al. 2022, arXiv 2204.10298, section 3), so that the embedding must tell what the text said.
 *
 *   logit_t = w gelu(W h_t + U z + b) + c
 *
 * Adds the gradients of the head to `gradients`.
 *
 * @param hidden hidden states of the texts with replaced tokens, [tokens, d]
 * @param embeddings z of the texts as they were, [n, D]
 * @param judged rows of `hidden`, the sequence of each, and 1 where its token is a replacement
 */
export function replacedTokens(
  ops: Ops,
  weights: Values,
  hidden: Tensor,
  embeddings: Tensor,
  judged: { rows: Int32Array; sequences: Int32Array; labels: Uint8Array },
  weight: number,
  gradients: Gradients,
): ReplacedResult {
  const { tf } = ops;
  const { length } = judged.rows;
  if (length === 0)
    return { loss: 0, accuracy: 0, dHidden: tf.zerosLike(hidden), dEmbeddings: tf.zerosLike(embeddings) };
  return ops.tidy<ReplacedResult>(() => {
    const rows = tf.tensor1d(judged.rows, 'int32');
    const sequences = tf.tensor1d(judged.sequences, 'int32');
    const labels = tf.tensor2d(Float32Array.from(judged.labels), [length, 1]);
    const [ofHidden, ofEmbedding, output] = ['hidden', 'embedding', 'output'].map((part) =>
      narrowWeight(ops, weights, `rtd.${part}.weight`),
    );

    const x = tf.gather(hidden, rows);
    const told = tf.gather(dense(ops, embeddings, ofEmbedding), sequences);
    const inner = tf.add(dense(ops, x, ofHidden, weights('rtd.bias')), told);
    const { y, saved } = gelu(ops, inner);
    const logits = dense(ops, y, output, weights('rtd.output.bias'));
    const { loss, accuracy, slope } = logistic(ops, logits, labels);

    const last = denseBackward(ops, tf.mul(slope, weight), y, output);
    gradients.add('rtd.output.weight', last.dWeight);
    gradients.add('rtd.output.bias', last.dBias);
    const dInner = geluBackward(ops, last.dx, saved);
    const first = denseBackward(ops, dInner, x, ofHidden);
    gradients.add('rtd.hidden.weight', first.dWeight);
    gradients.add('rtd.bias', first.dBias);
    const dTold = tf.unsortedSegmentSum(dInner, sequences, embeddings.shape[0]);
    const condition = denseBackward(ops, dTold, embeddings, ofEmbedding);
    gradients.add('rtd.embedding.weight', condition.dWeight);
    return {
      loss,
      accuracy,
      dHidden: tf.unsortedSegmentSum(first.dx, rows, hidden.shape[0]),
      dEmbeddings: condition.dx,
    };
  });
}
