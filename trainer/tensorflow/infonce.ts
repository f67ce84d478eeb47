import type { Tensor2D } from '@tensorflow/tfjs-core';

import { unitRows, unitRowsBackward } from './layers.js';
import type { Ops, Tensor } from './ops.js';

export interface InfoNceOptions {
  /** What cosines are divided by: 0.05 is a scale of 20. */
  temperature: number;
  /** Whether the other view looks for its partner as well, and the loss is the mean of both directions. */
  symmetric: boolean;
}

export interface InfoNce {
  /** Mean cross entropy, in nats. */
  loss: number;
  /** Share of the first view's texts that are nearer to their own partner than to any other. */
  accuracy: number;
  /** Of the loss with respect to Z and Z', [n, D] each; the caller disposes of them. */
  gradients: [Tensor, Tensor];
  /** The same for the negatives, [m, D]. */
  ofNegatives?: Tensor;
}

/**
 * InfoNCE (van den Oord et al. 2018, arXiv 1807.03748) with the other texts of the batch as negatives, and with hard
 * ones where there are any (Karpukhin et al. 2020, arXiv 2004.04906): which of the n + m candidates c, the other view's
 * embeddings and the negatives', is of the same text?
 *
 *   L = mean_i -log softmax_j(cos(z_i, c_j) / temperature) at j = i
 *
 * With one direction and no hard negatives it is unsupervised SimCSE's loss (Gao et al. 2021, arXiv 2104.08821, eq. 4) and
 * sentence-transformers' MultipleNegativesRankingLoss (Henderson et al. 2017, arXiv 1705.00652). The other direction
 * has no hard negatives.
 *
 * @param z two views' embeddings, [n, D] each
 * @param negatives embeddings of further texts, [m, D]
 */
export function infoNce(
  ops: Ops,
  z: readonly [Tensor, Tensor],
  { temperature, symmetric }: InfoNceOptions,
  negatives?: Tensor,
): InfoNce {
  const { tf } = ops;
  const [n] = z[0].shape;
  const m = negatives?.shape[0] ?? 0;
  return ops.tidy<InfoNce>(() => {
    const u = unitRows(ops, z[0]);
    const c = unitRows(ops, negatives ? tf.concat([z[1], negatives]) : z[1]);
    const own = tf.range(0, n, 1, 'int32');
    const similarities = tf.div(ops.exactMatMul(u.y, c.y, false, true), temperature);
    const { losses, slope } = ops.softmaxCrossEntropy(similarities, own);
    let loss = tf.mean(losses).dataSync()[0];
    let dSimilarities = tf.div(slope, n);
    if (symmetric) {
      const between = tf.slice(similarities, [0, 0], [n, n]);
      const back = ops.softmaxCrossEntropy(tf.transpose(between), own);
      const backSlope = tf.pad2d(tf.transpose(back.slope) as Tensor2D, [
        [0, 0],
        [0, m],
      ]);
      loss = (loss + tf.mean(back.losses).dataSync()[0]) / 2;
      dSimilarities = tf.div(tf.add(slope, backSlope), 2 * n);
    }
    const dCosines = tf.div(dSimilarities, temperature);
    const dc = unitRowsBackward(ops, ops.exactMatMul(dCosines, u.y, true), c.y, c.inverse);
    const [second, ofNegatives] = m > 0 ? tf.split(dc, [n, m]) : [dc];
    return {
      loss,
      accuracy: tf.sum(tf.equal(tf.argMax(similarities, 1), own)).dataSync()[0] / n,
      gradients: [unitRowsBackward(ops, ops.exactMatMul(dCosines, c.y), u.y, u.inverse), second],
      ofNegatives,
    };
  });
}
