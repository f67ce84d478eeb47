import type { Recipe } from '../../recipe.js';
import { infoNce } from '../infonce.js';
import type { Ops } from '../ops.js';
import type { EmbeddingLoss } from './two-views.js';

/** A text is told from the others of its batch, and from hard negatives, by its other view; with dropout as the only difference, SimCSE. */
export function infoNceLoss(ops: Ops, recipe: Recipe): EmbeddingLoss {
  return {
    parameters: () => new Map(),
    step({ z, negatives }) {
      const { loss, accuracy, gradients, ofNegatives } = infoNce(ops, z, recipe, negatives);
      return { terms: { contrast: loss }, dz: gradients, dNegatives: ofNegatives, measures: { accuracy } };
    },
  };
}
