import { Random } from '../../../base/random.js';
import type { Pooling } from '../../../encoder/model-folder.js';
import type { Recipe } from '../../recipe.js';
import { poolBackward, poolForward } from '../bert.js';
import { expand, expandBackwardTogether, expanderParameters, type ExpanderShape } from '../expander.js';
import type { Ops } from '../ops.js';
import { vicreg } from '../vicreg.js';
import type { Objective } from './objective.js';

/** Tells the expander's random numbers from those of the batches. */
const EXPANDER = 1;

/** Two views of a text predict each other, through an expander, under VICReg. */
export function vicregObjective(
  ops: Ops,
  recipe: Recipe,
  { dimensions, pooling }: { dimensions: number; pooling: Pooling },
): Objective {
  const { tf } = ops;
  const shape: ExpanderShape = { input: dimensions, widths: recipe.expander, bias: recipe.expanderBias };
  return {
    onPooled: true,
    parameters: () => expanderParameters(shape, new Random(recipe.seed, EXPANDER)),
    step(hidden, batch, _fed, weights, gradients) {
      const [h, other] = tf.split(poolForward(ops, hidden, batch, pooling), 2);
      const x = expand(ops, shape, weights, h);
      const y = expand(ops, shape, weights, other);
      const { terms, gradients: dz } = vicreg(ops, [x.z, y.z], recipe);
      const dh = expandBackwardTogether(ops, shape, weights, [x.saved, y.saved], dz, gradients);
      return { terms, dHidden: poolBackward(ops, tf.concat(dh), batch, pooling), vectors: h };
    },
  };
}
