import { Random } from '../../../base/random.js';
import type { BertConfig } from '../../../encoder/bert.js';
import type { Pooling } from '../../../encoder/model-folder.js';
import { poolBackward, poolForward } from '../bert.js';
import { decoderParameters, reconstruct } from '../decoder.js';
import { Dropout } from '../layers.js';
import type { Ops } from '../ops.js';
import type { Objective } from './objective.js';
import { SEEDS } from './seeds.js';

/** Tells the decoder's dropout from the encoder's, 32 bits. */
const DROPOUT = 0x5bd1e995;

/** The text is written anew from the vector of its last view, by TSDAE's decoder. @param weight of the loss */
export function tsdaeObjective(
  ops: Ops,
  seed: number,
  { config, pooling }: { config: BertConfig; pooling: Pooling },
  weight = 1,
): Objective {
  const { tf } = ops;
  return {
    parameters: () => decoderParameters(config, new Random(seed, SEEDS.decoder)),
    step(hidden, batch, { views, originals, seed: dropoutSeed }, weights, gradients) {
      const vectors = tf.split(poolForward(ops, hidden, batch, pooling), views.length);
      const dropout = new Dropout(ops, dropoutSeed ^ DROPOUT);
      const { loss, accuracy, dVectors } = reconstruct(
        ops,
        config,
        weights,
        vectors.at(-1)!,
        originals!,
        dropout,
        gradients,
        weight,
      );
      const dPooled = tf.concat([...vectors.slice(0, -1).map((other) => tf.zerosLike(other)), dVectors]);
      dVectors.dispose();
      return {
        terms: { reconstruction: weight * loss },
        dHidden: poolBackward(ops, dPooled, batch, pooling),
        vectors: vectors[0],
        measures: { reconstructionAccuracy: accuracy },
      };
    },
  };
}
