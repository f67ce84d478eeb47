import assert from 'node:assert/strict';

import { Random } from '../../base/random.js';
import { countOf } from '../../encoder/safetensors.js';
import type { Ops, Tensor } from '../../trainer/tensorflow/ops.js';

/** What fp32 leaves uncertain of a loss, as a share of it. */
const ROUNDING = 5e-7;

/**
 * Holds gradients against central differences in fp32: of each one, the slope along a random direction.
 *
 * @param gradients by the name of what they are for
 * @param lossOf the loss when whatever it looks at has gone through `moved`, under the same names
 */
export function assertSlopes(
  ops: Ops,
  gradients: ReadonlyMap<string, Tensor>,
  lossOf: (moved: (x: Tensor, name: string) => Tensor) => number,
  { step = 5e-3, tolerance = 5e-3 } = {},
): void {
  for (const [name, gradient] of gradients) {
    const random = new Random(9);
    const values = [...gradient.dataSync()];
    const direction = Float32Array.from({ length: countOf(gradient.shape) }, () => random.normal());
    const at = (by: number): number =>
      ops.tidy(() =>
        lossOf((x, of) => {
          if (of !== name) return x;
          return ops.tf.add(x, ops.tf.mul(ops.tf.tensor(direction, gradient.shape), by));
        }),
      );
    const slope = values.reduce((sum, value, i) => sum + value * direction[i], 0);
    const [above, below] = [at(step), at(-step)];
    const found = (above - below) / (2 * step);
    // A slope is as exact as the gradient's numbers are large, not as their sum happens to be.
    const allowed =
      tolerance * Math.max(Math.abs(slope), Math.hypot(...values) / 2) +
      (ROUNDING * Math.abs(above)) / (2 * step);
    assert.ok(
      Math.abs(found - slope) <= allowed,
      `slope of ${name}: expected ${slope} within ${allowed}, found ${found}`,
    );
  }
}
