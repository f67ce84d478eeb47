import { unitRows, unitRowsBackward } from './layers.js';
import type { Ops, Tensor } from './ops.js';
import { regularizers } from './vicreg.js';

export interface DistillationWeights {
  /** Of 1 - cosine. */
  vectorWeight: number;
  /** Of the squared difference of the similarities. */
  similarityWeight: number;
  /** Of VICReg's variance and covariance. */
  mu: number;
  nu: number;
}

export interface Distillation {
  /** Weighted; they add up to the loss. */
  terms: { vector: number; similarity: number; variance: number; covariance: number };
  /** Of the loss with respect to h: [n, d]; the caller disposes of it. */
  gradient: Tensor;
}

/**
 * How far a student's vectors are from its teacher's, and the gradient in closed form. With u = h / |h| and the
 * teacher's vectors t of length 1:
 *
 *   L = a mean_i (1 - u_i t_i)  +  b mean_{i != j} (u_i u_j - t_i t_j)^2  +  mu v(z) / 2 + nu c(z),  z = sqrt(d) u
 *
 * The first term gives the student the teacher's space, the second the distances in it (similarity-preserving
 * distillation, Tung and Mori 2019, arXiv 1907.09682); v and c are VICReg's (Bardes et al. 2022), of one view.
 *
 * @param h the student's pooled vectors [n, d]
 * @param targets the teacher's vectors [n, d], each of length 1
 */
export function distillation(
  ops: Ops,
  h: Tensor,
  targets: Tensor,
  weights: DistillationWeights,
): Distillation {
  const { tf } = ops;
  const [n, d] = h.shape as [number, number];
  const { vectorWeight, similarityWeight, mu, nu } = weights;
  return ops.tidy<Distillation>(() => {
    const { y: u, inverse } = unitRows(ops, h);

    const cosine = tf.sum(tf.mul(u, targets)).dataSync()[0] / n;
    let gradient: Tensor = tf.mul(targets, -vectorWeight / n);

    let similarity = 0;
    if (similarityWeight > 0) {
      const similarities = (of: Tensor): Tensor => ops.exactMatMul(of, of, false, true);
      // Of a text with itself both are 1.
      const error = tf.sub(similarities(u), similarities(targets));
      const scale = similarityWeight / (n * (n - 1));
      similarity = 2 * scale * ops.halfSquares(error).dataSync()[0];
      gradient = tf.add(gradient, tf.mul(ops.exactMatMul(error, u), 4 * scale));
    }

    let variance = 0;
    let covariance = 0;
    if (mu > 0 || nu > 0) {
      const found = regularizers(ops, tf.mul(u, Math.sqrt(d)), { mu, nu });
      variance = (mu / 2) * found.variance;
      covariance = nu * found.covariance;
      gradient = tf.add(gradient, tf.mul(found.gradient, Math.sqrt(d)));
    }

    return {
      terms: { vector: vectorWeight * (1 - cosine), similarity, variance, covariance },
      gradient: unitRowsBackward(ops, gradient, u, inverse),
    };
  });
}
