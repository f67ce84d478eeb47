import type { Random } from '../../base/random.js';
import type { HostTensor } from '../types.js';
import {
  dense,
  denseBackward,
  narrowWeight,
  normalize,
  normalizeBackward,
  type Normalized,
  type Values,
} from './layers.js';
import type { Ops, Tensor } from './ops.js';
import type { Gradients } from './parameters.js';

/** PyTorch's BatchNorm1d. */
const EPS = 1e-5;

export interface ExpanderShape {
  /** What its parameters' names begin with. */
  name: string;
  /** Length of a pooled vector. */
  input: number;
  /** Of each layer, the last one's is the embedding's. */
  widths: readonly number[];
  /** Whether the last layer has a bias. */
  bias: boolean;
}

/**
 * First parameters: uniform in +- 1 / sqrt(inputs) for the linear layers, as PyTorch's nn.Linear; 1 and 0 for
 * batch norm. Weights are [out, in].
 */
export function expanderParameters(
  { name, input, widths, bias }: ExpanderShape,
  random: Random,
): Map<string, HostTensor> {
  const parameters = new Map<string, HostTensor>();
  widths.forEach((width, i) => {
    const inputs = i === 0 ? input : widths[i - 1];
    const last = i === widths.length - 1;
    const limit = 1 / Math.sqrt(inputs);
    const uniform = (size: number): Float32Array =>
      Float32Array.from({ length: size }, () => limit * (2 * random.float() - 1));
    parameters.set(`${name}.${i}.weight`, { shape: [width, inputs], data: uniform(width * inputs) });
    if (!last || bias) parameters.set(`${name}.${i}.bias`, { shape: [width], data: uniform(width) });
    if (last) return;
    parameters.set(`${name}.${i}.norm.weight`, { shape: [width], data: new Float32Array(width).fill(1) });
    parameters.set(`${name}.${i}.norm.bias`, { shape: [width], data: new Float32Array(width) });
  });
  return parameters;
}

export interface SavedExpander {
  /** Input of each linear layer. */
  inputs: Tensor[];
  norms: Normalized[];
}

/**
 * The expander of Bardes et al. 2022 (section 4.2): Linear, batch norm, ReLU; again; Linear. Batch norm sees
 * one view's batch, and its statistics.
 *
 * @param h pooled vectors [n, d]
 * @returns Z [n, D]
 */
export function expand(
  ops: Ops,
  { name, widths, bias }: ExpanderShape,
  weights: Values,
  h: Tensor,
): { z: Tensor; saved: SavedExpander } {
  const { tf } = ops;
  return ops.tidy(() => {
    const inputs: Tensor[] = [];
    const norms: Normalized[] = [];
    let x = h.clone();
    widths.forEach((_, i) => {
      const last = i === widths.length - 1;
      inputs.push(x);
      const { y, norm } = ops.tidy<{ y: Tensor; norm?: Normalized }>(() => {
        const linear = dense(
          ops,
          x,
          narrowWeight(ops, weights, `${name}.${i}.weight`),
          !last || bias ? weights(`${name}.${i}.bias`) : undefined,
        );
        if (last) return { y: linear };
        const normalized = normalize(ops, 'batch', linear, {
          scale: weights(`${name}.${i}.norm.weight`),
          shift: weights(`${name}.${i}.norm.bias`),
          eps: EPS,
        });
        return { y: tf.relu(normalized.y), norm: normalized.saved };
      });
      if (norm) norms.push(norm);
      x = y;
    });
    return { z: x, saved: { inputs, norms } };
  });
}

/** Adds every parameter's gradient, and disposes of `dz` and of what was saved. @returns the gradient for h [n, d] */
export function expandBackward(
  ops: Ops,
  shape: ExpanderShape,
  weights: Values,
  saved: SavedExpander,
  dz: Tensor,
  gradients: Gradients,
): Tensor {
  return expandBackwardTogether(ops, shape, weights, [saved], [dz], gradients)[0];
}

/**
 * The same for several views. A weight's gradient is one product over the rows of all: of a wide expander, a second
 * one and their sum would be hundreds of megabytes.
 *
 * @returns each view's gradient for h [n, d]
 */
export function expandBackwardTogether(
  ops: Ops,
  { name, widths, bias }: ExpanderShape,
  weights: Values,
  views: readonly SavedExpander[],
  dz: readonly Tensor[],
  gradients: Gradients,
): Tensor[] {
  const { tf } = ops;
  let dys = [...dz];
  for (let i = widths.length - 1; i >= 0; i--) {
    const last = i === widths.length - 1;
    const dxs = ops.tidy(() => {
      const dLinear = views.map((saved, view) => {
        if (last) return dys[view];
        const dx = ops.tidy(() => {
          // The next layer's input is what ReLU let through.
          const passed = ops.mul(dys[view], tf.cast(tf.greater(saved.inputs[i + 1], 0), 'float32'));
          const scale = weights(`${name}.${i}.norm.weight`);
          const { dx, dScale, dShift } = normalizeBackward(ops, 'batch', passed, saved.norms[i], scale);
          gradients.add(`${name}.${i}.norm.weight`, dScale);
          gradients.add(`${name}.${i}.norm.bias`, dShift);
          return dx;
        });
        // At once: of a wide expander each is tens of megabytes, beside hundreds of a weight's gradient.
        ops.free(dys[view], saved.inputs[i + 1], saved.norms[i]);
        return dx;
      });
      const dy = tf.concat(dLinear);
      ops.free(dLinear);
      const input = tf.concat(views.map((saved) => saved.inputs[i]));
      const weight = narrowWeight(ops, weights, `${name}.${i}.weight`);
      const { dx, dWeight, dBias } = denseBackward(ops, dy, input, weight);
      gradients.add(`${name}.${i}.weight`, dWeight);
      if (!last || bias) gradients.add(`${name}.${i}.bias`, dBias);
      return tf.split(dx, views.length);
    });
    dys = dxs;
  }
  ops.free(views);
  return dys;
}
