import type { Ops } from '../ops.js';
import type { Objective, ObjectiveStep } from './objective.js';

/** Several objectives on the same hidden states, their losses added. The first one's vectors are watched. */
export function sum(ops: Ops, objectives: readonly Objective[]): Objective {
  return {
    onPooled: objectives.every(({ onPooled }) => onPooled),
    parameters: () => new Map(objectives.flatMap((objective) => [...objective.parameters()])),
    step(hidden, batch, fed, weights, gradients) {
      const made = objectives.map((objective) => objective.step(hidden, batch, fed, weights, gradients));
      return {
        terms: merged(made, 'terms'),
        dHidden: ops.tf.addN(made.map(({ dHidden }) => dHidden)),
        vectors: made[0].vectors,
        measures: merged(made, 'measures'),
      };
    },
  };
}

function merged(made: readonly ObjectiveStep[], of: 'terms' | 'measures'): Record<string, number> {
  return Object.fromEntries(made.flatMap((step) => Object.entries(step[of] ?? {})));
}
