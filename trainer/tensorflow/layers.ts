import { createCipheriv } from 'node:crypto';

import type { Ops, Tensor } from './ops.js';

/** A parameter's value by its name. */
export interface Values {
  (name: string): Tensor;
  /** As an operand of products, where that is kept. */
  narrow?(name: string): Tensor;
  /** Says that in this step the operand is needed no more. */
  spent?(name: string): void;
}

export function narrowWeight(ops: Ops, weights: Values, name: string): Tensor {
  return weights.narrow ? weights.narrow(name) : ops.narrow(weights(name));
}

/**
 * y = x W^T + b for x [n, in], W [out, in], b [out]: PyTorch's layout.
 *
 * @param weight narrow
 */
export function dense(ops: Ops, x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  return ops.tidy(() => {
    const y = ops.widen(ops.product(ops.narrow(x), weight, false, true));
    return bias ? ops.biasAdd(y, bias) : y;
  });
}

/** @param dy [n, out] @param weight narrow */
export function denseBackward(
  ops: Ops,
  dy: Tensor,
  x: Tensor,
  weight: Tensor,
): { dx: Tensor; dWeight: Tensor; dBias: Tensor } {
  return ops.tidy(() => {
    const narrow = ops.narrow(dy);
    return {
      dx: ops.widen(ops.product(narrow, weight)),
      dWeight: ops.widen(ops.product(narrow, ops.narrow(x), true)),
      dBias: ops.columnSums(dy),
    };
  });
}

/** What a normalization's backward pass needs. */
export interface Normalized {
  /** Zero mean, unit variance; [n, d]. */
  normalized: Tensor;
  /** 1 / sqrt(variance + eps); [n, 1] for layer norm, [d] for batch norm. */
  inverseStd: Tensor;
}

export interface NormParameters {
  scale: Tensor;
  shift: Tensor;
  eps: number;
}

/** Over the features of each row: layer norm (Ba et al. 2016); over the rows for each feature: batch norm, of so many (Ioffe and Szegedy 2015). */
type Axis = 'layer' | { batch: number };

/** x [n, d], normalized with the biased variance, scaled and shifted feature by feature. */
export function normalize(
  ops: Ops,
  axis: Axis,
  x: Tensor,
  { scale, shift, eps }: NormParameters,
): { y: Tensor; saved: Normalized & { mean: Tensor } } {
  return ops.tidy(() => {
    const mean = meanOver(ops, axis, x);
    const centred = ops.sub(x, mean);
    const inverseStd = ops.rsqrt(ops.add(meanOver(ops, axis, ops.square(centred)), eps));
    const normalized = ops.mul(centred, inverseStd);
    return { y: ops.biasAdd(ops.mul(normalized, scale), shift), saved: { normalized, inverseStd, mean } };
  });
}

export function normalizeBackward(
  ops: Ops,
  axis: Axis,
  dy: Tensor,
  { normalized, inverseStd }: Normalized,
  scale: Tensor,
): { dx: Tensor; dScale: Tensor; dShift: Tensor } {
  return ops.tidy(() => {
    const along = ops.mul(dy, normalized);
    const dShift = ops.columnSums(dy);
    const dScale = ops.columnSums(along);
    const dNormalized = ops.mul(dy, scale);
    // Over the rows, the scale is the same for all that a mean is of.
    const [mean, meanAlong] =
      axis === 'layer'
        ? [dNormalized, ops.mul(along, scale)].map((x) => ops.meanLast(x))
        : [dShift, dScale].map((sum) => ops.mul(ops.mul(sum, scale), 1 / axis.batch));
    const dx = ops.mul(ops.sub(ops.sub(dNormalized, mean), ops.mul(normalized, meanAlong)), inverseStd);
    return { dx, dScale, dShift };
  });
}

/** [n, d] -> [n, 1] for layer norm, [d] for batch norm. */
function meanOver(ops: Ops, axis: Axis, x: Tensor): Tensor {
  return axis === 'layer' ? ops.meanLast(x) : ops.mul(ops.columnSums(x), 1 / axis.batch);
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

/** What GELU's backward pass needs, of the shape of its input x. */
export interface SavedGelu {
  /** x / sqrt(2). */
  scaled: Tensor;
  /** Phi(x). */
  distribution: Tensor;
}

/** x Phi(x) (Hendrycks and Gimpel 2016), with the exact normal distribution. */
export function gelu(ops: Ops, x: Tensor): { y: Tensor; saved: SavedGelu } {
  return ops.tidy(() => {
    const scaled = ops.mul(x, Math.SQRT1_2);
    const distribution = ops.add(ops.mul(ops.erf(scaled), 0.5), 0.5);
    return { y: ops.mul(x, distribution), saved: { scaled, distribution } };
  });
}

/** dy (Phi(x) + x phi(x)). */
export function geluBackward(ops: Ops, dy: Tensor, { scaled, distribution }: SavedGelu): Tensor {
  return ops.tidy(() => {
    // x phi(x) = u exp(-u^2) / sqrt(pi), u = x / sqrt(2). Divided by exp(u^2), as that needs no change of sign;
    // where it overflows, the quotient is 0 as it should be.
    const xDensity = ops.mul(ops.div(scaled, ops.exp(ops.square(scaled))), 1 / Math.sqrt(Math.PI));
    return ops.mul(dy, ops.add(distribution, xDensity));
  });
}

/** Dropout's random numbers have 8 bits. */
const LEVELS = 2 ** 8;

/** What dropout draws: random numbers of 8 bits, from which on a number is kept, and what it is multiplied with then. */
export interface Drawn {
  bits: Tensor;
  least: Tensor;
  gain: number;
}

/**
 * Dropout (Srivastava et al. 2014) whose masks are a function of a seed and of how many were asked for
 * before, so that a second pass with the same seed drops the same. The random numbers are AES in counter mode
 * (Salmon et al. 2011): processors have instructions for it, so that a mask takes a fifth of the time of
 * TensorFlow's Philox. They are bytes, the fewer the better; where the rate is no multiple of 1 / 256, it is the
 * next lower one in some masks and the next higher one in the others, so that each number is dropped as often as it says.
 */
export class Dropout {
  private site = 0;

  /** @param seed 32 bits; a rate of 0 drops nothing */
  constructor(
    private readonly ops: Ops,
    private readonly seed: number,
  ) {}

  /** Nothing at a rate of 0. */
  draw(shape: readonly number[], rate: number): Drawn | undefined {
    const site = this.site++;
    if (rate === 0) return undefined;
    const key = Buffer.alloc(16);
    key.writeUInt32LE(this.seed >>> 0, 0);
    key.writeUInt32LE(site, 4);
    const size = shape.reduce((product, length) => product * length, 1);
    const cipher = createCipheriv('aes-128-ctr', key, Buffer.alloc(16));
    const dither = cipher.update(zeros(4)).readUInt32LE() / 2 ** 32;
    // A byte holds no more.
    const least = Math.min(Math.floor(rate * LEVELS + dither), LEVELS - 1);
    const bits = this.ops.bytes(cipher.update(zeros(size)), shape);
    return { bits, least: this.ops.bytes(Uint8Array.of(least), [1]), gain: 1 / (1 - rate) };
  }

  /** What `maskOf` gives, at once. */
  mask(shape: readonly number[], rate: number): Tensor | undefined {
    return this.ops.tidy(() => {
      const drawn = this.draw(shape, rate);
      return drawn && maskOf(this.ops, drawn);
    });
  }
}

let zeroBytes = Buffer.alloc(0);

/** So many, the same ones each time: not to be written to. */
function zeros(length: number): Buffer {
  if (zeroBytes.length < length) zeroBytes = Buffer.alloc(length);
  return zeroBytes.subarray(0, length);
}

/** 0 or 1 / (1 - rate), to be multiplied with. */
function maskOf(ops: Ops, { bits, least, gain }: Drawn): Tensor {
  return ops.mul(ops.atLeast(bits, least), gain);
}

/** Inside a kernel: x without what was drawn, or x itself where nothing was. @param inputs what the kernel sees of `inputsOf` */
export function drop(ops: Ops, x: Tensor, drawn: Drawn | undefined, [bits, least]: Tensor[]): Tensor {
  return drawn ? ops.mul(x, maskOf(ops, { bits, least, gain: drawn.gain })) : x;
}

/** x times the mask, where there is one; always a tensor of its own. */
export function applyMask(ops: Ops, x: Tensor, mask: Tensor | undefined): Tensor {
  return mask ? ops.mul(x, mask) : ops.tf.clone(x);
}

/** What the way back of `addAndNormalize` needs, and of `embedAndNormalize`. */
export interface SavedAdd {
  norm: Normalized;
  drawn?: Drawn;
}

/**
 * What ends each half of a layer: y = layer norm(x + dropout(product + bias)).
 *
 * @param product narrow, [n, d]
 * @returns y, and the same narrow
 */
export function addAndNormalize(
  ops: Ops,
  x: Tensor,
  product: Tensor,
  bias: Tensor,
  drawn: Drawn | undefined,
  { scale, shift, eps }: NormParameters,
): { y: Tensor; narrow: Tensor; saved: SavedAdd } {
  const [y, narrow, normalized, inverseStd] = ops.fuse(
    `add-normalize ${eps} ${drawn?.gain}`,
    [x, product, bias, scale, shift, ...inputsOf(drawn)],
    (ops, [x, product, bias, scale, shift, ...random]) => {
      const made = ops.biasAdd(ops.widen(product), bias);
      const kept = drop(ops, made, drawn, random);
      const { y, saved } = normalize(ops, 'layer', ops.add(x, kept), { scale, shift, eps });
      return [y, ops.narrow(y), saved.normalized, saved.inverseStd];
    },
  );
  return { y, narrow, saved: { norm: { normalized, inverseStd }, drawn } };
}

/**
 * @param dy in two parts to be added, the second one narrow: [n, d] each
 * @returns the gradient for x, and the narrow one for the product
 */
export function addAndNormalizeBackward(
  ops: Ops,
  [whole, part]: readonly [Tensor, Tensor],
  { norm, drawn }: SavedAdd,
  scale: Tensor,
): { dx: Tensor; dProduct: Tensor; dScale: Tensor; dShift: Tensor; dBias: Tensor } {
  const [dx, dProduct, dScale, dShift, dBias] = ops.fuse(
    `add-normalize-backward ${drawn?.gain}`,
    [whole, part, norm.normalized, norm.inverseStd, scale, ...inputsOf(drawn)],
    (ops, [whole, part, normalized, inverseStd, scale, ...random]) => {
      const dy = ops.add(whole, ops.widen(part));
      const { dx, dScale, dShift } = normalizeBackward(ops, 'layer', dy, { normalized, inverseStd }, scale);
      const dMade = drop(ops, dx, drawn, random);
      return [dx, ops.narrow(dMade), dScale, dShift, ops.columnSums(dMade)];
    },
  );
  return { dx, dProduct, dScale, dShift, dBias };
}

/**
 * What the first layer is given: y = dropout(layer norm(words + places + type)).
 *
 * @param words embeddings of the tokens, and of their places: [n, d] each
 * @param type of the one kind of token that there is: [d]
 * @returns y, and the same narrow
 */
export function embedAndNormalize(
  ops: Ops,
  words: Tensor,
  places: Tensor,
  type: Tensor,
  drawn: Drawn | undefined,
  { scale, shift, eps }: NormParameters,
): { y: Tensor; narrow: Tensor; saved: SavedAdd } {
  const [y, narrow, normalized, inverseStd] = ops.fuse(
    `embed-normalize ${eps} ${drawn?.gain}`,
    [words, places, type, scale, shift, ...inputsOf(drawn)],
    (ops, [words, places, type, scale, shift, ...random]) => {
      const x = ops.biasAdd(ops.add(words, places), type);
      const { y, saved } = normalize(ops, 'layer', x, { scale, shift, eps });
      const kept = drop(ops, y, drawn, random);
      return [kept, ops.narrow(kept), saved.normalized, saved.inverseStd];
    },
  );
  return { y, narrow, saved: { norm: { normalized, inverseStd }, drawn } };
}

/** @param dy as of `addAndNormalizeBackward` @returns dx, for each of what was added; for type the sum over rows */
export function embedAndNormalizeBackward(
  ops: Ops,
  [whole, part]: readonly [Tensor, Tensor],
  { norm, drawn }: SavedAdd,
  scale: Tensor,
): { dx: Tensor; dScale: Tensor; dShift: Tensor; dType: Tensor } {
  const [dx, dScale, dShift, dType] = ops.fuse(
    `embed-normalize-backward ${drawn?.gain}`,
    [whole, part, norm.normalized, norm.inverseStd, scale, ...inputsOf(drawn)],
    (ops, [whole, part, normalized, inverseStd, scale, ...random]) => {
      const dy = drop(ops, ops.add(whole, ops.widen(part)), drawn, random);
      const { dx, dScale, dShift } = normalizeBackward(ops, 'layer', dy, { normalized, inverseStd }, scale);
      return [dx, dScale, dShift, ops.columnSums(dx)];
    },
  );
  return { dx, dScale, dShift, dType };
}

/** What a kernel that drops is to be given. */
export function inputsOf(drawn: Drawn | undefined): Tensor[] {
  return drawn ? [drawn.bits, drawn.least] : [];
}

/** GELU of a dense layer's narrow product and its bias, narrow again. */
export function biasGelu(ops: Ops, product: Tensor, bias: Tensor): Tensor {
  const [y] = ops.fuse('bias-gelu', [product, bias], (ops, [product, bias]) => [
    ops.narrow(gelu(ops, ops.biasAdd(ops.widen(product), bias)).y),
  ]);
  return y;
}

/** @param dy narrow */
export function biasGeluBackward(
  ops: Ops,
  dy: Tensor,
  product: Tensor,
  bias: Tensor,
): { dProduct: Tensor; dBias: Tensor } {
  const [dProduct, dBias] = ops.fuse(
    'bias-gelu-backward',
    [dy, product, bias],
    (ops, [dy, product, bias]) => {
      const { saved } = gelu(ops, ops.biasAdd(ops.widen(product), bias));
      const dx = geluBackward(ops, ops.widen(dy), saved);
      return [ops.narrow(dx), ops.columnSums(dx)];
    },
  );
  return { dProduct, dBias };
}

/** A dense layer's narrow product with its bias, narrow again. */
export function withBias(ops: Ops, product: Tensor, bias: Tensor): Tensor {
  const [y] = ops.fuse('bias', [product, bias], (ops, [product, bias]) => [
    ops.narrow(ops.biasAdd(ops.widen(product), bias)),
  ]);
  return y;
}

/** The bias' gradient. @param dy narrow */
export function biasBackward(ops: Ops, dy: Tensor): Tensor {
  const [dBias] = ops.fuse('bias-backward', [dy], (ops, [dy]) => [ops.columnSums(ops.widen(dy))]);
  return dBias;
}
