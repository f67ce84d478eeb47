import { Random } from '../../../base/random.js';
import type { Recipe } from '../../recipe.js';
import { edits, editsShape } from '../edits.js';
import { expanderParameters } from '../expander.js';
import type { Ops } from '../ops.js';
import { SEEDS } from './seeds.js';
import type { EmbeddingLoss } from './two-views.js';

/** Beside another loss: the two embeddings tell what was done to the second view. @param D of an embedding */
export function editsLoss(
  ops: Ops,
  { editWeight, seed }: Recipe,
  D: number,
  editKinds: number,
): EmbeddingLoss {
  const { tf } = ops;
  return {
    parameters: () => expanderParameters(editsShape(D, editKinds), new Random(seed, SEEDS.edits)),
    step({ z, fed }, weights, gradients) {
      const { kinds, shares } = fed.edits!.at(-1)!;
      const shape: [number, number] = [z[0].shape[0], editKinds];
      const made = {
        kinds: tf.tensor2d(Float32Array.from(kinds), shape),
        shares: tf.tensor2d(shares, shape),
      };
      const {
        loss,
        accuracy,
        shareError,
        gradients: dz,
      } = edits(ops, weights, z, made, editWeight, gradients);
      return {
        terms: { edit: editWeight * loss },
        dz,
        measures: { editAccuracy: accuracy, editShareError: shareError },
      };
    },
  };
}
