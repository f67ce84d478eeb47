import { Random } from '../../../base/random.js';
import type { Pooling } from '../../../encoder/model-folder.js';
import type { HostTensor, TrainingBatch } from '../../types.js';
import { poolBackward, poolForward } from '../bert.js';
import { expand, expandBackwardTogether, expanderParameters, type ExpanderShape } from '../expander.js';
import type { Values } from '../layers.js';
import type { Ops, Tensor } from '../ops.js';
import type { Gradients } from '../parameters.js';
import type { Objective } from './objective.js';
import { SEEDS } from './seeds.js';

/** What a loss on embeddings is given. */
export interface Embedded {
  /** The two views' embeddings: [n, D] each. */
  z: readonly [Tensor, Tensor];
  /** Those of further texts that are no view of any: [m, D]. */
  negatives?: Tensor;
  /** Hidden states of both views, one behind the other: [tokens, d]. */
  hidden: Tensor;
  fed: TrainingBatch;
}

export interface EmbeddedStep {
  /** Weighted; they add up to the loss. */
  terms: Record<string, number>;
  /** Gradient for each view's embeddings. */
  dz: [Tensor, Tensor];
  /** Of a loss that looks at negatives. */
  dNegatives?: Tensor;
  /** Gradient for the hidden states, of a loss that looks at them beside the embeddings. */
  dHidden?: Tensor;
  measures?: Record<string, number>;
}

/** A loss on two views' embeddings, with the parameters of its own. */
export interface EmbeddingLoss {
  /** Whether it looks at hidden states, too. */
  readonly onHidden?: boolean;
  parameters(): Map<string, HostTensor>;
  step(embedded: Embedded, weights: Values, gradients: Gradients): EmbeddedStep;
}

export interface TwoViewsShape {
  pooling: Pooling;
  /** None where the pooled vectors themselves are compared, as with hard negatives. */
  expander?: ExpanderShape;
  seed: number;
  /**
   * `average`: the second view's pooled vectors are the target encoder's, and go through the average of the expander
   * (Grill et al. 2020, arXiv 2006.07733). They have no gradient.
   */
  targetEncoder: 'same' | 'average';
}

/**
 * Losses on the embeddings of two views, added: hidden states -> pooled vectors -> through the expander where there
 * is one -> embeddings, and back.
 */
export function twoViews(
  ops: Ops,
  { pooling, expander, seed, targetEncoder }: TwoViewsShape,
  losses: readonly EmbeddingLoss[],
): Objective {
  const { tf } = ops;
  return {
    onPooled: !losses.some(({ onHidden }) => onHidden),
    parameters: () =>
      new Map([
        ...(expander ? expanderParameters(expander, new Random(seed, SEEDS.expander)) : []),
        ...losses.flatMap((loss) => [...loss.parameters()]),
      ]),
    step(hidden, batch, fed, weights, gradients) {
      const h = poolForward(ops, hidden, batch, pooling);
      const n = fed.views[0].offsets.length - 1;
      const m = h.shape[0] - 2 * n;
      const [negatives] = m > 0 ? [tf.slice(h, 2 * n)] : [];
      const pooled = [0, n].map((from) => tf.slice(h, from, n));
      const follows = targetEncoder === 'average';
      const weightsOf = [weights, follows ? weights.average : weights];
      const expanded = expander && pooled.map((h, view) => expand(ops, expander, weightsOf[view], h));
      const [first, second] = expanded ? expanded.map(({ z }) => z) : pooled;
      const made = losses.map((loss) =>
        loss.step({ z: [first, second], negatives, hidden, fed }, weights, gradients),
      );
      const learned = follows ? pooled.slice(0, 1) : pooled;
      const dz = learned.map((_, view) => tf.addN(made.map((step) => step.dz[view])));
      // Of a wide expander tens of megabytes each, beside what its gradients take.
      ops.free(
        made.map((step) => step.dz),
        expanded?.map(({ z }) => z) ?? [],
      );
      const saved = expanded?.slice(0, learned.length).map((view) => view.saved);
      const dh = saved ? expandBackwardTogether(ops, expander!, weights, saved, dz, gradients) : dz;
      if (follows) dh.push(tf.zerosLike(pooled[1]));
      if (negatives) dh.push(tf.addN(made.flatMap(({ dNegatives }) => dNegatives ?? [])));
      const ofHidden = made.flatMap(({ dHidden }) => dHidden ?? []);
      return {
        terms: Object.assign({}, ...made.map(({ terms }) => terms)) as Record<string, number>,
        dHidden: tf.addN([poolBackward(ops, tf.concat(dh), batch, pooling), ...ofHidden]),
        vectors: pooled[0],
        measures: Object.assign({}, ...made.map(({ measures }) => measures)) as Record<string, number>,
      };
    },
  };
}
