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
}

/**
 * InfoNCE (van den Oord et al. 2018, arXiv 1807.03748) with the other texts of the batch as negatives: which of
 * the n embeddings of the other view is of the same text?
 *
 *   L = mean_i -log softmax_j(cos(z_i, z'_j) / temperature) at j = i
 *
 * With one direction it is unsupervised SimCSE's loss (Gao et al. 2021, arXiv 2104.08821, eq. 4) and
 * sentence-transformers' MultipleNegativesRankingLoss (Henderson et al. 2017, arXiv 1705.00652).
 *
 * @param z two views' embeddings, [n, D] each
 */
export function infoNce(
  ops: Ops,
  z: readonly [Tensor, Tensor],
  { temperature, symmetric }: InfoNceOptions,
): InfoNce {
  const { tf } = ops;
  const [n] = z[0].shape;
  return ops.tidy<InfoNce>(() => {
    const [u, v] = z.map((view) => unitRows(ops, view));
    const own = tf.range(0, n, 1, 'int32');
    const similarities = tf.div(ops.exactMatMul(u.y, v.y, false, true), temperature);
    const { losses, slope } = ops.softmaxCrossEntropy(similarities, own);
    let loss = tf.mean(losses).dataSync()[0];
    let dSimilarities = tf.div(slope, n);
    if (symmetric) {
      const back = ops.softmaxCrossEntropy(tf.transpose(similarities), own);
      loss = (loss + tf.mean(back.losses).dataSync()[0]) / 2;
      dSimilarities = tf.div(tf.add(slope, tf.transpose(back.slope)), 2 * n);
    }
    const dCosines = tf.div(dSimilarities, temperature);
    return {
      loss,
      accuracy: tf.sum(tf.equal(tf.argMax(similarities, 1), own)).dataSync()[0] / n,
      gradients: [
        unitRowsBackward(ops, ops.exactMatMul(dCosines, v.y), u.y, u.inverse),
        unitRowsBackward(ops, ops.exactMatMul(dCosines, u.y, true), v.y, v.inverse),
      ],
    };
  });
}
