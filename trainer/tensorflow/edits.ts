import { expand, expandBackward, type ExpanderShape } from './expander.js';
import { logistic } from './layers.js';
import type { Ops, Tensor } from './ops.js';
import type { Gradients } from './parameters.js';

/** A head of two layers on both embeddings, as wide inside as one of them, with two numbers out for each kind of edit. */
export function editsShape(D: number, kinds: number): ExpanderShape {
  return { name: 'edits', input: 2 * D, widths: [D, 2 * kinds], bias: true };
}

export interface EditsResult {
  /** Mean cross entropy of the kinds, in nats, plus the mean squared error of the shares. */
  loss: number;
  /** Share of the kinds, made or not, that were told right. */
  accuracy: number;
  /** Root mean squared error of the shares of words. */
  shareError: number;
  /** Of weight x loss, for each view's embeddings: [n, D]; the caller disposes of them. */
  gradients: [Tensor, Tensor];
}

/**
 * What was done to the second view, told from both views' embeddings: which of the K kinds of edit (each yes or no,
 * logistic), and the share of the words that each changed (least squares). An embedding that hides it can't be
 * told from; invariance alone would have it hidden.
 *
 * Adds the gradients of the head to `gradients`.
 *
 * @param z the views' embeddings, [n, D] each
 * @param edits of the second view: 1 where a kind was made, and its share of words from 0 to 1; [n, K] each
 */
export function edits(
  ops: Ops,
  weights: (name: string) => Tensor,
  z: readonly [Tensor, Tensor],
  { kinds, shares }: { kinds: Tensor; shares: Tensor },
  weight: number,
  gradients: Gradients,
): EditsResult {
  const { tf } = ops;
  const [, K] = kinds.shape as [number, number];
  const shape = editsShape(z[0].shape[1]!, K);
  return ops.tidy<EditsResult>(() => {
    const { z: output, saved } = expand(ops, shape, weights, tf.concat([...z], 1));
    const [logits, guesses] = tf.split(output, 2, 1);
    const { loss, accuracy, slope } = logistic(ops, logits, kinds);
    const error = tf.sub(guesses, shares);
    const squared = (2 * ops.halfSquares(error).dataSync()[0]) / error.size;
    const dOutput = tf.mul(tf.concat([slope, tf.mul(error, 2 / error.size)], 1), weight);
    const dz = expandBackward(ops, shape, weights, saved, dOutput, gradients);
    const [first, second] = tf.split(dz, 2, 1);
    return { loss: loss + squared, accuracy, shareError: Math.sqrt(squared), gradients: [first, second] };
  });
}
