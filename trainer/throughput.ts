import { viewsOf, type Recipe } from './recipe.js';
import type { StepEntry } from './run-log.js';

type Timed = Pick<StepEntry, 'tokens' | 'seconds'>;

/** Sentences that the encoder sees a second: each of a step's `batch` texts or pairs gives one for each view. */
export function sentencesPerSecond(
  steps: readonly Timed[],
  recipe: Pick<Recipe, 'objective' | 'views' | 'batch'>,
): number {
  return (viewsOf(recipe).length * recipe.batch * steps.length) / secondsOf(steps);
}

/** Real tokens of all views a second: padding is not counted. */
export function tokensPerSecond(steps: readonly Timed[]): number {
  return tokensOf(steps) / secondsOf(steps);
}

/** Real tokens of all views. */
export function tokensOf(steps: readonly Pick<Timed, 'tokens'>[]): number {
  return steps.reduce((sum, { tokens }) => sum + tokens, 0);
}

/** Of the steps alone, without evaluations and checkpoints. */
export function secondsOf(steps: readonly Timed[]): number {
  return steps.reduce((sum, { seconds }) => sum + seconds, 0);
}
