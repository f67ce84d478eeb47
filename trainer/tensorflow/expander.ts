import type { Random } from '../../base/random.js';
import type { HostTensor } from '../types.js';
import { narrowWeight, normalize, normalizeBackward, type NormParameters, type Values } from './layers.js';
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
  /** Input of each linear layer, narrow. */
  inputs: Tensor[];
  norms: SavedNorm[];
}

/** What a batch norm's `normalized` is made of again, in half its memory where products are bf16. */
interface SavedNorm {
  /** Narrow, [n, D]. */
  product: Tensor;
  /** Over the rows: [D]. */
  mean: Tensor;
  /** [D]. */
  inverseStd: Tensor;
}

/**
 * The expander of Bardes et al. 2022 (section 4.2): Linear, batch norm, ReLU; again; Linear. Batch norm sees
 * one view's batch, and its statistics. It takes away what is the same for all rows: the bias of the layer before it
 * counts for nothing, and its gradient is 0.
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
  return ops.tidy(() => {
    const inputs = [ops.narrow(h)];
    const norms: SavedNorm[] = [];
    const productOf = (layer: number): Tensor =>
      ops.product(inputs[layer], narrowWeight(ops, weights, `${name}.${layer}.weight`), false, true);
    const last = widths.length - 1;
    for (let layer = 0; layer < last; layer++) {
      const product = productOf(layer);
      const { y, saved } = normalizeAndRelu(ops, product, {
        scale: weights(`${name}.${layer}.norm.weight`),
        shift: weights(`${name}.${layer}.norm.bias`),
        eps: EPS,
      });
      inputs.push(y);
      norms.push(saved);
    }
    const product = ops.widen(productOf(last));
    return {
      z: bias ? ops.biasAdd(product, weights(`${name}.${last}.bias`)) : product,
      saved: { inputs, norms },
    };
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
 * The same for several views of as many rows. A weight's gradient is one product over the rows of all: of a wide
 * expander, a second one and their sum would be hundreds of megabytes.
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
  const last = widths.length - 1;
  // Of a layer's product, narrow.
  let dys = ops.tidy(() => {
    if (bias) for (const dy of dz) gradients.add(`${name}.${last}.bias`, ops.columnSums(dy));
    return dz.map((dy) => ops.narrow(dy));
  });
  // At once, here and below: of a wide expander each is tens of megabytes, beside hundreds of a weight's gradient.
  ops.free(dz);
  /** @returns for each view's input of the layer, narrow */
  const productBackward = (layer: number): Tensor[] =>
    ops.tidy(() => {
      const dy = ops.concat(dys);
      ops.free(dys);
      const weight = `${name}.${layer}.weight`;
      const dInput = ops.product(dy, narrowWeight(ops, weights, weight));
      weights.spent?.(weight);
      const input = ops.concat(views.map(({ inputs }) => inputs[layer]));
      gradients.add(weight, ops.widen(ops.product(dy, input, true)));
      ops.free(input);
      const [rows, width] = dInput.shape as [number, number];
      return ops.unstack(ops.reshape(dInput, [views.length, rows / views.length, width]));
    });
  for (let layer = last; layer > 0; layer--) {
    const dInputs = productBackward(layer);
    const below = `${name}.${layer - 1}`;
    gradients.add(`${below}.bias`, ops.tf.zeros([widths[layer - 1]]));
    dys = views.map(({ inputs, norms }, view) => {
      const scale = weights(`${below}.norm.weight`);
      const made = normalizeAndReluBackward(ops, dInputs[view], inputs[layer], norms[layer - 1], scale);
      gradients.add(`${below}.norm.weight`, made.dScale);
      gradients.add(`${below}.norm.bias`, made.dShift);
      ops.free(dInputs[view], inputs[layer], norms[layer - 1]);
      return made.dProduct;
    });
  }
  const narrow = productBackward(0);
  const dh = ops.tidy(() => narrow.map((dInput) => ops.widen(dInput)));
  ops.free(views, narrow);
  return dh;
}

/** relu(batch norm(product)) of a narrow product [n, D], narrow again. */
function normalizeAndRelu(
  ops: Ops,
  product: Tensor,
  { scale, shift, eps }: NormParameters,
): { y: Tensor; saved: SavedNorm } {
  const [batch] = product.shape;
  const [y, mean, inverseStd] = ops.fuse(
    `normalize-relu ${eps} ${batch}`,
    [product, scale, shift],
    (ops, [product, scale, shift]) => {
      const { y, saved } = normalize(ops, { batch }, ops.widen(product), { scale, shift, eps });
      return [ops.narrow(ops.relu(y)), saved.mean, saved.inverseStd];
    },
  );
  return { y, saved: { product, mean, inverseStd } };
}

/** @param dy narrow @param y what came of it: ReLU let through what is above 0 @returns the gradient for the product, narrow */
function normalizeAndReluBackward(
  ops: Ops,
  dy: Tensor,
  y: Tensor,
  { product, mean, inverseStd }: SavedNorm,
  scale: Tensor,
): { dProduct: Tensor; dScale: Tensor; dShift: Tensor } {
  const [batch] = dy.shape;
  const [dProduct, dScale, dShift] = ops.fuse(
    `normalize-relu-backward ${batch}`,
    [dy, y, product, mean, inverseStd, scale],
    (ops, [dy, y, product, mean, inverseStd, scale]) => {
      const passed = ops.mul(ops.widen(dy), ops.positive(ops.widen(y)));
      const normalized = ops.mul(ops.sub(ops.widen(product), mean), inverseStd);
      const { dx, dScale, dShift } = normalizeBackward(
        ops,
        { batch },
        passed,
        { normalized, inverseStd },
        scale,
      );
      return [ops.narrow(dx), dScale, dShift];
    },
  );
  return { dProduct, dScale, dShift };
}
