import type { Recipe } from '../../recipe.js';
import { infoNce } from '../infonce.js';
import type { Ops } from '../ops.js';
import type { EmbeddingLoss } from './two-views.js';

/** A text is told from the others of its batch by its other view; with dropout as the only difference, SimCSE. */
export function infoNceLoss(ops: Ops, recipe: Recipe): EmbeddingLoss {
  return {
    parameters: () => new Map(),
    step({ z }) {
      const { loss, accuracy, gradients } = infoNce(ops, z, recipe);
      return { terms: { contrast: loss }, dz: gradients, measures: { accuracy } };
    },
  };
}
