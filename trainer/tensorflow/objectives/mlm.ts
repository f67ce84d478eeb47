import { Random } from '../../../base/random.js';
import type { BertConfig } from '../../../encoder/bert.js';
import type { Pooling } from '../../../encoder/model-folder.js';
import { poolForward } from '../bert.js';
import { mlm, mlmParameters } from '../mlm.js';
import type { Ops } from '../ops.js';
import type { Objective } from './objective.js';
import { SEEDS } from './seeds.js';

/**
 * Masked words are guessed: what a BERT for a new domain begins with. The head is not part of the encoder.
 *
 * @param weight of the loss
 */
export function mlmObjective(
  ops: Ops,
  seed: number,
  { config, pooling }: { config: BertConfig; pooling: Pooling },
  weight = 1,
): Objective {
  const { tf } = ops;
  return {
    onPooled: false,
    parameters: () => mlmParameters(config, new Random(seed, SEEDS.mlm)),
    step(hidden, batch, { views, masked }, weights, gradients) {
      // The views lie one behind the other.
      let before = 0;
      const rows = masked!.map((view, i) => {
        const moved = view.rows.map((row) => before + row);
        before += views[i].ids.length;
        return moved;
      });
      const { loss, accuracy, dHidden } = mlm(
        ops,
        config,
        weights,
        hidden,
        Int32Array.from(rows.flatMap((view) => [...view])),
        Int32Array.from(masked!.flatMap(({ labels }) => [...labels])),
        gradients,
        { weight },
      );
      const [vectors] = tf.split(poolForward(ops, hidden, batch, pooling), views.length);
      return { terms: { mlm: weight * loss }, dHidden, vectors, measures: { mlmAccuracy: accuracy } };
    },
  };
}
