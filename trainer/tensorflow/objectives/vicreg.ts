import { Random } from '../../../base/random.js';
import type { Recipe } from '../../recipe.js';
import type { TrainingBatch } from '../../types.js';
import { expand, expandBackward, expanderParameters, type ExpanderShape } from '../expander.js';
import type { Ops, Tensor } from '../ops.js';
import { vicreg } from '../vicreg.js';
import { SEEDS } from './seeds.js';
import type { EmbeddingLoss } from './two-views.js';

/** Two views of a text have the same embedding, under VICReg. */
export function vicregLoss(ops: Ops, recipe: Recipe): EmbeddingLoss {
  return {
    parameters: () => new Map(),
    step({ z }) {
      const { terms, gradients, std } = vicreg(ops, z, recipe, { target: targetOf(z, recipe) });
      return { terms, dz: gradients, measures: { embeddingStd: std } };
    },
  };
}

/** A target encoder's embeddings have no gradient. */
function targetOf(z: readonly [Tensor, Tensor], { targetEncoder }: Recipe): Tensor | undefined {
  return targetEncoder === 'average' ? z[1] : undefined;
}

/**
 * A predictor between the views, the P of a joint-embedding predictive architecture (Assran et al. 2023,
 * arXiv 2301.08243; layers as in BYOL, Grill et al. 2020, arXiv 2006.07733): the second view's embedding is predicted
 * from the first one's and from what was done to both, so that an embedding need not forget what a view leaves out.
 *
 * @param D of an embedding
 * @param kinds of edits
 */
export function predictiveVicregLoss(ops: Ops, recipe: Recipe, D: number, kinds: number): EmbeddingLoss {
  const { tf } = ops;
  // Of each view, the kinds that were made and their shares of words.
  const conditions = 4 * kinds;
  const shape: ExpanderShape = {
    name: 'predictor',
    input: D + conditions,
    widths: [recipe.predictorWidth, D],
    bias: true,
  };
  return {
    parameters: () => expanderParameters(shape, new Random(recipe.seed, SEEDS.predictor)),
    step({ z, fed }, weights, gradients) {
      const input = tf.concat([z[0], conditionOf(ops, fed, z[0].shape[0], kinds)], 1);
      const { z: prediction, saved } = expand(ops, shape, weights, input);
      const {
        terms,
        gradients: dz,
        dPrediction,
        std,
      } = vicreg(ops, z, recipe, {
        prediction,
        target: targetOf(z, recipe),
      });
      const dInput = expandBackward(ops, shape, weights, saved, dPrediction!, gradients);
      const [through] = tf.split(dInput, [D, conditions], 1);
      const measures = { embeddingStd: std };
      return { terms, dz: [tf.add(dz[0], through), dz[1]], measures };
    },
  };
}

/** What was done to each view, side by side, [n, 4 kinds]: all 0 for texts of which nothing is known. */
function conditionOf(ops: Ops, { edits }: TrainingBatch, n: number, kinds: number): Tensor {
  const { tf } = ops;
  if (!edits) return tf.zeros([n, 4 * kinds]);
  const parts = edits.flatMap((view) => [Float32Array.from(view.kinds), view.shares]);
  return tf.concat(
    parts.map((part) => tf.tensor2d(part, [n, kinds])),
    1,
  );
}
