import type { Recipe } from './recipe.js';

/**
 * The learning rate of a step: it grows linearly over the warm-up, then stays, or falls to 0 as a line or a
 * half cosine (Loshchilov and Hutter 2017).
 *
 * @param step from 1
 * @param steps of the whole run
 */
export function learningRateAt(
  step: number,
  steps: number,
  { learningRate, schedule, warmup }: Pick<Recipe, 'learningRate' | 'schedule' | 'warmup'>,
): number {
  const warmSteps = Math.ceil(warmup * steps);
  if (step <= warmSteps) return (learningRate * step) / warmSteps;
  // The last step still learns: 0 would come one step behind it.
  const done = (step - 1 - warmSteps) / Math.max(1, steps - warmSteps);
  if (schedule === 'linear') return learningRate * (1 - done);
  if (schedule === 'cosine') return (learningRate * (1 + Math.cos(Math.PI * done))) / 2;
  return learningRate;
}

/** The first step of a run's last `share`, which is one step at least. */
export function firstOfLast(share: number, steps: number): number {
  return steps - Math.ceil(share * steps) + 1;
}
