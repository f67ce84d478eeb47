import type { Ops, Tensor } from './ops.js';

/** y = x W^T + b for x [n, in], W [out, in], b [out]: PyTorch's layout. */
export function dense(ops: Ops, x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  return ops.tidy(() => {
    const y = ops.matMul(x, weight, false, true);
    return bias ? ops.biasAdd(y, bias) : y;
  });
}

/** @param dy [n, out] */
export function denseBackward(
  ops: Ops,
  dy: Tensor,
  x: Tensor,
  weight: Tensor,
): { dx: Tensor; dWeight: Tensor; dBias: Tensor } {
  return {
    dx: ops.matMul(dy, weight),
    dWeight: ops.matMul(dy, x, true),
    dBias: ops.columnSums(dy),
  };
}

/** What a normalization's backward pass needs. */
export interface Normalized {
  /** Zero mean, unit variance; [n, d]. */
  normalized: Tensor;
  /** 1 / sqrt(variance + eps); [n, 1] for layer norm, [1, d] for batch norm. */
  inverseStd: Tensor;
}

export interface NormParameters {
  scale: Tensor;
  shift: Tensor;
  eps: number;
}

/** Over the features of each row: layer norm (Ba et al. 2016); over the rows for each feature: batch norm (Ioffe and Szegedy 2015). */
type Axis = 'layer' | 'batch';

/** x [n, d], normalized with the biased variance, scaled and shifted feature by feature. */
export function normalize(
  ops: Ops,
  axis: Axis,
  x: Tensor,
  { scale, shift, eps }: NormParameters,
): { y: Tensor; saved: Normalized } {
  const { tf } = ops;
  return ops.tidy(() => {
    const centred = tf.sub(x, meanOver(ops, axis, x));
    const inverseStd = tf.rsqrt(tf.add(meanOver(ops, axis, tf.square(centred)), eps));
    const normalized = tf.mul(centred, inverseStd);
    return { y: ops.biasAdd(tf.mul(normalized, scale), shift), saved: { normalized, inverseStd } };
  });
}

export function normalizeBackward(
  ops: Ops,
  axis: Axis,
  dy: Tensor,
  { normalized, inverseStd }: Normalized,
  scale: Tensor,
): { dx: Tensor; dScale: Tensor; dShift: Tensor } {
  const { tf } = ops;
  return ops.tidy(() => {
    const dNormalized = tf.mul(dy, scale);
    const mean = meanOver(ops, axis, dNormalized);
    const along = meanOver(ops, axis, tf.mul(dNormalized, normalized));
    const dx = tf.mul(tf.sub(tf.sub(dNormalized, mean), tf.mul(normalized, along)), inverseStd);
    return { dx, dScale: ops.columnSums(tf.mul(dy, normalized)), dShift: ops.columnSums(dy) };
  });
}

/** [n, d] -> [n, 1] for layer norm, [1, d] for batch norm. */
function meanOver(ops: Ops, axis: Axis, x: Tensor): Tensor {
  if (axis === 'layer') return ops.tf.mean(x, -1, true);
  const [n, d] = x.shape;
  return ops.tf.div(ops.columnSums(x), n).reshape([1, d]);
}

/** Rows [n, d] at length 1, and what they were multiplied with: [n, 1]. */
export function unitRows(ops: Ops, x: Tensor): { y: Tensor; inverse: Tensor } {
  const { tf } = ops;
  return ops.tidy(() => {
    const inverse = tf.rsqrt(tf.sum(tf.square(x), 1, true));
    return { y: tf.mul(x, inverse), inverse };
  });
}

/** What points along y changes the length alone. */
export function unitRowsBackward(ops: Ops, dy: Tensor, y: Tensor, inverse: Tensor): Tensor {
  const { tf } = ops;
  return ops.tidy(() => tf.mul(tf.sub(dy, tf.mul(y, tf.sum(tf.mul(y, dy), 1, true))), inverse));
}

/**
 * Cross entropy of yes and no, in nats, as a mean over all numbers, and its gradient.
 *
 * @param logits of a yes, any shape
 * @param labels 1 or 0, of the same shape
 */
export function logistic(
  ops: Ops,
  logits: Tensor,
  labels: Tensor,
): { loss: number; accuracy: number; slope: Tensor } {
  const { tf } = ops;
  return ops.tidy(() => {
    const losses = tf.sub(tf.softplus(logits), tf.mul(logits, labels));
    const right = tf.equal(tf.cast(tf.greater(logits, 0), 'float32'), labels);
    return {
      loss: tf.mean(losses).dataSync()[0],
      accuracy: tf.mean(tf.cast(right, 'float32')).dataSync()[0],
      slope: tf.div(tf.sub(tf.sigmoid(logits), labels), logits.size),
    };
  });
}

/** x Phi(x) (Hendrycks and Gimpel 2016), with the exact normal distribution. `erf` is kept for the way back. */
export function gelu(ops: Ops, x: Tensor): { y: Tensor; erf: Tensor } {
  const { tf } = ops;
  return ops.tidy(() => {
    const erf = tf.erf(tf.mul(x, Math.SQRT1_2));
    const half = tf.mul(x, 0.5);
    return { y: tf.add(half, tf.mul(half, erf)), erf };
  });
}

/** dy (Phi(x) + x phi(x)). */
export function geluBackward(ops: Ops, dy: Tensor, x: Tensor, erf: Tensor): Tensor {
  const { tf } = ops;
  return ops.tidy(() => {
    const scaledDensity = tf.exp(tf.mul(tf.square(x), -0.5));
    const density = tf.mul(tf.mul(x, 1 / Math.sqrt(2 * Math.PI)), scaledDensity);
    const distribution = tf.add(tf.mul(erf, 0.5), 0.5);
    return tf.mul(dy, tf.add(distribution, density));
  });
}

/**
 * Dropout (Srivastava et al. 2014) whose masks are a function of a seed and of how many were asked for
 * before, so that a second pass with the same seed drops the same.
 */
export class Dropout {
  private site = 0;

  /** @param seed 32 bits; a rate of 0 drops nothing */
  constructor(
    private readonly ops: Ops,
    private readonly seed: number,
  ) {}

  /** 0 or 1 / (1 - rate), to be multiplied with; nothing at a rate of 0. */
  mask(shape: readonly number[], rate: number): Tensor | undefined {
    const site = this.site++;
    if (rate === 0) return undefined;
    const { tf } = this.ops;
    return this.ops.tidy(() => {
      const kept = tf.greaterEqual(this.ops.uniform(shape, [this.seed | 0, site]), rate);
      return tf.mul(tf.cast(kept, 'float32'), 1 / (1 - rate));
    });
  }
}

/** x times the mask, where there is one; always a tensor of its own. */
export function applyMask(ops: Ops, x: Tensor, mask: Tensor | undefined): Tensor {
  return mask ? ops.tf.mul(x, mask) : ops.tf.clone(x);
}
