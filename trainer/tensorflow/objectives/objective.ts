import type { HostTensor, TrainingBatch } from '../../types.js';
import type { DeviceBatch } from '../bert.js';
import type { Values } from '../layers.js';
import type { Tensor } from '../ops.js';
import type { Gradients } from '../parameters.js';

/** What an objective makes of a step's hidden states. */
export interface ObjectiveStep {
  /** Weighted; they add up to the loss. */
  terms: Record<string, number>;
  /** Gradient of the loss with respect to the hidden states: [tokens, d]. */
  dHidden: Tensor;
  /** Pooled vectors of the first view, to look for a collapse in: [n, d]. */
  vectors: Tensor;
  /** What else a person would want to see, by name. */
  measures?: Record<string, number>;
}

/** The encoder's parameters and the objective's own. */
export interface ObjectiveWeights extends Values {
  /** Its average over the steps so far: what a target encoder has. */
  average(name: string): Tensor;
}

/** What is trained on top of the encoder. */
export interface Objective {
  /**
   * Whether it looks at pooled vectors alone, so that a batch can go through the encoder in chunks: `step` is then
   * given each pooled vector as the hidden state of a sequence of one token.
   */
  readonly onPooled: boolean;
  /** First values of its own parameters, beside the encoder's. */
  parameters(): Map<string, HostTensor>;
  /**
   * The loss and its gradients; those of its own parameters go to `gradients`.
   *
   * @param hidden of all views together: [tokens, d]; the caller disposes of it
   */
  step(
    hidden: Tensor,
    batch: DeviceBatch,
    fed: TrainingBatch,
    weights: ObjectiveWeights,
    gradients: Gradients,
  ): ObjectiveStep;
}
