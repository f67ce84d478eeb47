import type { StepEntry } from './run-log.js';

type Timed = Pick<StepEntry, 'tokens' | 'seconds'>;

/** Sentences that the encoder sees a second: each of a step's `batch` texts or pairs gives two. */
export function sentencesPerSecond(steps: readonly Timed[], batch: number): number {
  return (2 * batch * steps.length) / secondsOf(steps);
}

/** Real tokens of both views a second: padding is not counted. */
export function tokensPerSecond(steps: readonly Timed[]): number {
  return steps.reduce((sum, { tokens }) => sum + tokens, 0) / secondsOf(steps);
}

/** Of the steps alone, without evaluations and checkpoints. */
export function secondsOf(steps: readonly Timed[]): number {
  return steps.reduce((sum, { seconds }) => sum + seconds, 0);
}
