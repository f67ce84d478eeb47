import { normalize, normalizeBackward } from './layers.js';
import type { Ops, Tensor } from './ops.js';

/** PyTorch's BatchNorm1d, as in the authors' code. */
const EPSILON = 1e-5;

export interface BarlowTwins {
  /** Weighted; they add up to the loss. */
  terms: { invariance: number; redundancy: number };
  /** Of the loss with respect to Z and Z', [n, D] each; the caller disposes of them. */
  gradients: [Tensor, Tensor];
}

/**
 * Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230, eq. 1 and 2): the cross-correlation matrix of two views'
 * embeddings should be the identity.
 *
 *   L = sum_i (1 - C_ii)^2 + lambda sum_{i != j} C_ij^2,   C = Y^T Y' / n
 *
 * Y and Y' are Z and Z' normalized over the batch, each dimension to mean 0 and (biased) variance 1.
 *
 * @param z two views' embeddings, [n, D] each, n at least 2
 * @param lambda weight of what is off the diagonal
 */
export function barlowTwins(ops: Ops, z: readonly [Tensor, Tensor], lambda: number): BarlowTwins {
  const { tf } = ops;
  const [n, D] = z[0].shape as [number, number];
  return ops.tidy<BarlowTwins>(() => {
    const scale = tf.ones([D]);
    const shift = tf.zeros([D]);
    const [one, two] = z.map((view) => normalize(ops, { batch: n }, view, { scale, shift, eps: EPSILON }));
    const diagonal = tf.div(ops.columnSums(tf.mul(one.y, two.y)), n);
    const missing = tf.sub(1, diagonal);

    // sum C_ij^2 and its gradient by the smaller of the two products: n x n (Gram) or D x D (correlation).
    let squares: Tensor;
    let products: [Tensor, Tensor];
    if (n < D) {
      const [gram, other] = [one.y, two.y].map((y) => tf.div(ops.exactMatMul(y, y, false, true), n));
      squares = tf.sum(tf.mul(gram, other));
      products = [ops.exactMatMul(other, one.y), ops.exactMatMul(gram, two.y)];
    } else {
      const correlation = tf.div(ops.exactMatMul(one.y, two.y, true), n);
      squares = tf.sum(tf.square(correlation));
      products = [ops.exactMatMul(two.y, correlation, false, true), ops.exactMatMul(one.y, correlation)];
    }
    // dL/dC_ii = -2 (1 - C_ii), elsewhere 2 lambda C_ij; `products` have the diagonal among the rest.
    const onDiagonal = tf.mul(tf.add(missing, tf.mul(diagonal, lambda)), -2 / n);
    const gradient = (product: Tensor, otherY: Tensor): Tensor =>
      tf.add(tf.mul(product, (2 * lambda) / n), tf.mul(otherY, onDiagonal));
    return {
      terms: {
        invariance: tf.sum(tf.square(missing)).dataSync()[0],
        redundancy: lambda * tf.sub(squares, tf.sum(tf.square(diagonal))).dataSync()[0],
      },
      gradients: [
        normalizeBackward(ops, { batch: n }, gradient(products[0], two.y), one.saved, scale).dx,
        normalizeBackward(ops, { batch: n }, gradient(products[1], one.y), two.saved, scale).dx,
      ],
    };
  });
}
