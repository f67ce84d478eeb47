import type { Tensor2D } from '@tensorflow/tfjs-core';

import type { Ops, Tensor } from './ops.js';

export interface VicregWeights {
  /** Of invariance, variance and covariance. */
  lambda: number;
  mu: number;
  nu: number;
  /** `mse-squared`: the invariance term is the square of the mean squared difference. */
  invariance: 'mse' | 'mse-squared';
}

export interface Vicreg {
  /** Weighted; they add up to the loss. */
  terms: { invariance: number; variance: number; covariance: number };
  /** Of the loss with respect to Z and Z', [n, D] each; the caller disposes of them. */
  gradients: [Tensor, Tensor];
  /** Of the embeddings: mean over dimensions and views of the std, where that is below 1; 1 is what the loss asks for. */
  std: number;
  /** With respect to the prediction, where there is one. */
  dPrediction?: Tensor;
}

export interface VicregOptions {
  /** Stands for Z in the invariance: what a predictor makes of it, [n, D]. */
  prediction?: Tensor;
  /** Stands for Z' in the invariance, and has no gradient: another encoder's embedding of the view, [n, D]. */
  target?: Tensor;
}

/** Keeps the derivative of the square root finite (Bardes et al. 2022 eq. 1). */
const EPSILON = 1e-4;

/**
 * VICReg (Bardes, Ponce and LeCun 2022, arXiv 2105.04906): the loss of two views' embeddings, and its gradient
 * in closed form.
 *
 *   L = lambda s(Z, Z') + mu (v(Z) + v(Z')) / 2 + nu (c(Z) + c(Z'))
 *   s  mean squared difference over all n D numbers
 *   v  mean over dimensions of relu(1 - std), std = sqrt(unbiased variance + 1e-4)        (eq. 1)
 *   c  sum of the squares of the covariance matrix off its diagonal, over D               (eq. 4)
 *
 * @param z two views' embeddings, [n, D] each, n at least 2
 */
export function vicreg(
  ops: Ops,
  z: readonly [Tensor, Tensor],
  weights: VicregWeights,
  { prediction, target }: VicregOptions = {},
): Vicreg {
  const { tf } = ops;
  const [n, D] = z[0].shape as [number, number];
  return ops.tidy<Vicreg>(() => {
    const difference = tf.sub(prediction ?? z[0], target ?? z[1]);
    const mse = (2 * ops.halfSquares(difference).dataSync()[0]) / (n * D);
    const squared = weights.invariance === 'mse-squared';
    const slope = weights.lambda * (squared ? 2 * mse : 1);
    const pull = tf.mul(difference, (2 * slope) / (n * D));
    const sides = z.map((view) => regularizers(ops, view, weights));
    const total = (of: 'variance' | 'covariance'): number => sides[0][of] + sides[1][of];
    return {
      terms: {
        invariance: weights.lambda * (squared ? mse * mse : mse),
        variance: (weights.mu / 2) * total('variance'),
        covariance: weights.nu * total('covariance'),
      },
      gradients: [
        prediction ? sides[0].gradient : tf.add(sides[0].gradient, pull),
        target ? sides[1].gradient : tf.sub(sides[1].gradient, pull),
      ],
      dPrediction: prediction && pull,
      std: 1 - total('variance') / 2,
    };
  });
}

/** v and c of one view [n, D], unweighted, and the weighted gradient of mu v / 2 + nu c. */
export function regularizers(
  ops: Ops,
  z: Tensor,
  { mu, nu }: Pick<VicregWeights, 'mu' | 'nu'>,
): { variance: number; covariance: number; gradient: Tensor } {
  const { tf } = ops;
  const [n, D] = z.shape as [number, number];
  return ops.tidy(() => {
    const [centred, variances, hinge, variance, diagonal] = ops.fuse(
      `vicreg-variance ${mu} ${n} ${D}`,
      [z],
      (ops, [z]) => {
        const centred = ops.sub(z, ops.mul(ops.columnSums(z), 1 / n));
        const variances = ops.mul(ops.columnSums(ops.square(centred)), 1 / (n - 1));
        const std = ops.sqrt(ops.add(variances, EPSILON));
        const missing = ops.mul(ops.sub(std, 1), -1);
        const hinge = ops.mul(ops.div(ops.positive(missing), std), -mu / (2 * D * (n - 1)));
        return [
          centred,
          variances,
          hinge,
          ops.meanLast(ops.relu(missing)),
          ops.sumLast(ops.square(variances)),
        ];
      },
    );
    const { squares, product } = n < D ? byGram(ops, centred) : byCovariance(ops, centred);
    const slope = (4 * nu) / (D * (n - 1));
    const [gradient] = ops.fuse(
      `vicreg-slope ${slope}`,
      [centred, variances, hinge, product],
      (ops, [centred, variances, hinge, product]) => {
        const offDiagonal = ops.sub(product, ops.mul(centred, variances));
        return [ops.add(ops.mul(centred, hinge), ops.mul(offDiagonal, slope))];
      },
    );
    return {
      variance: variance.dataSync()[0],
      covariance: tf.sub(squares, diagonal).dataSync()[0] / D,
      gradient,
    };
  });
}

/** 64 MB. */
const COVARIANCE_PART = 2 ** 24;

interface Products {
  /** Sum of the squares of the covariance matrix C: a scalar. */
  squares: Tensor;
  /** Zc C: [n, D]. */
  product: Tensor;
}

/** By Zc Zc^T [n, n], whose squares have the same sum. */
function byGram(ops: Ops, centred: Tensor): Products {
  const gram = ops.div(ops.exactMatMul(centred, centred, false, true), centred.shape[0] - 1);
  return { squares: ops.tf.sum(ops.square(gram)), product: ops.exactMatMul(gram, centred) };
}

/**
 * By the covariance matrix [D, D], some of its columns at a time: the whole of a wide one would not be small.
 *
 * @param centred Zc, [n, D]
 * @param part how many numbers of the matrix are held
 */
export function byCovariance(ops: Ops, centred: Tensor, part = COVARIANCE_PART): Products {
  const { tf } = ops;
  const [n, D] = centred.shape as [number, number];
  const width = Math.max(1, Math.floor(part / D));
  const parts: Products[] = [];
  for (let start = 0; start < D; start += width)
    parts.push(
      ops.tidy(() => {
        const columns = tf.slice(centred as Tensor2D, [0, start], [n, Math.min(width, D - start)]);
        const covariance = ops.div(ops.exactMatMul(centred, columns, true), n - 1);
        return {
          squares: tf.sum(ops.square(covariance)),
          product: ops.exactMatMul(centred, covariance),
        };
      }),
    );
  return {
    squares: tf.addN(parts.map(({ squares }) => squares)),
    product: tf.concat(
      parts.map(({ product }) => product),
      1,
    ),
  };
}
