import { Random } from '../../../base/random.js';
import type { Recipe } from '../../recipe.js';
import type { Ops } from '../ops.js';
import { replacedParameters, replacedTokens } from '../replaced-tokens.js';
import { SEEDS } from './seeds.js';
import type { EmbeddingLoss } from './two-views.js';

/**
 * Beside another loss: which tokens of the last view are replacements, told from its hidden states and from the
 * embedding of the first view.
 *
 * @param d of a hidden state
 * @param D of an embedding
 */
export function replacedTokensLoss(
  ops: Ops,
  { rtdWeight, seed }: Recipe,
  d: number,
  D: number,
): EmbeddingLoss {
  const { tf } = ops;
  return {
    onHidden: true,
    parameters: () => replacedParameters(d, D, new Random(seed, SEEDS.rtd)),
    step({ z, hidden, fed: { views, replaced } }, weights, gradients) {
      const before = views[0].ids.length;
      const { offsets } = views[1];
      let sequence = 0;
      const judged = {
        rows: replaced!.rows.map((row) => before + row),
        sequences: replaced!.rows.map((row) => {
          while (row >= offsets[sequence + 1]) sequence++;
          return sequence;
        }),
        labels: replaced!.labels,
      };
      const { loss, accuracy, dHidden, dEmbeddings } = replacedTokens(
        ops,
        weights,
        hidden,
        z[0],
        judged,
        rtdWeight,
        gradients,
      );
      return {
        terms: { rtd: rtdWeight * loss },
        dz: [dEmbeddings, tf.zerosLike(z[1])],
        dHidden,
        measures: { rtdAccuracy: accuracy },
      };
    },
  };
}
