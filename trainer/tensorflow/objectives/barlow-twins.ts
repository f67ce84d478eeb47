import type { Recipe } from '../../recipe.js';
import { barlowTwins } from '../barlow-twins.js';
import type { Ops } from '../ops.js';
import type { EmbeddingLoss } from './two-views.js';

/** The dimensions of two views' embeddings are correlated each with itself, and with no other. */
export function barlowTwinsLoss(ops: Ops, { barlowLambda }: Recipe): EmbeddingLoss {
  return {
    parameters: () => new Map(),
    step({ z }) {
      const { terms, gradients } = barlowTwins(ops, z, barlowLambda);
      return { terms, dz: gradients };
    },
  };
}
