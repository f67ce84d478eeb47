import type { Pooling } from '../../../encoder/model-folder.js';
import type { Recipe } from '../../recipe.js';
import { poolBackward, poolForward } from '../bert.js';
import { distillation } from '../distillation.js';
import type { Ops } from '../ops.js';
import type { Objective } from './objective.js';

/** A text's vector is the one that the teacher gives it. There is no head: the vector itself is compared. */
export function distillObjective(ops: Ops, recipe: Recipe, pooling: Pooling): Objective {
  const { tf } = ops;
  return {
    onPooled: true,
    parameters: () => new Map(),
    step(hidden, batch, { views: [first], targets }) {
      const h = poolForward(ops, hidden, batch, pooling);
      const taught = tf.tensor(targets!, h.shape as [number, number], 'float32');
      const { terms, gradient } = distillation(ops, h, taught, recipe);
      const vectors = tf.slice(h, 0, first.offsets.length - 1);
      return { terms, dHidden: poolBackward(ops, gradient, batch, pooling), vectors };
    },
  };
}

/** The same beside another objective: what is learned there must not move the vectors far from the teacher's. */
export function keepObjective(ops: Ops, recipe: Recipe, pooling: Pooling): Objective {
  const { keepWeight, vectorWeight, similarityWeight } = recipe;
  const weighted = {
    ...recipe,
    vectorWeight: keepWeight * vectorWeight,
    similarityWeight: keepWeight * similarityWeight,
    mu: 0,
    nu: 0,
  };
  const distill = distillObjective(ops, weighted, pooling);
  return {
    ...distill,
    step(...given) {
      const made = distill.step(...given);
      const { vector, similarity } = made.terms;
      return { ...made, terms: { vector, similarity } };
    },
  };
}
