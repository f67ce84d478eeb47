import { setImmediate } from 'node:timers/promises';

import type { Encoder } from '../encoder/encoder.js';
import type { Evaluation } from '../evaluation/evaluation.js';
import type { Best, Checkpoint, Checkpoints, Spent } from './checkpoint.js';
import { CollapseWatch } from './collapse.js';
import { evaluateAll } from './evaluate-all.js';
import type { Feed } from './feed.js';
import type { Recipe } from './recipe.js';
import type { EvaluationEntry, StepEntry } from './run-log.js';
import { learningRateAt } from './schedule.js';
import type { TrainableEncoder } from './types.js';

export interface TrainingRun {
  model: TrainableEncoder;
  feed: Feed;
  recipe: Recipe;
  /** Steps of the whole run. */
  steps: number;
  /** What the model computes in. */
  precision: 'fp32' | 'bf16';
  /** Length of a vector. */
  dimensions: number;
  /** The first one decides which weights are the best. */
  evaluations: readonly Evaluation[];
  /** The model as it stands, for the evaluations. */
  encoder: Encoder;
  checkpoints: Checkpoints;
  /** Where an earlier process stopped; the model's state is that checkpoint's. */
  from?: Checkpoint;
  /** Awaited, in order: what is logged before a checkpoint is on disk before it. */
  onStep(entry: StepEntry): Promise<void>;
  onEvaluation(entry: EvaluationEntry): Promise<void>;
  onEvaluationProgress?(spec: string, done: number, total: number): void;
  /** Stops behind the step that is being made, with a checkpoint. */
  signal?: AbortSignal;
}

export interface Outcome extends Spent {
  status: 'finished' | 'interrupted' | 'collapsed';
  /** Steps made. */
  step: number;
  /** With evaluations: the trained weights that did best. */
  best?: Best;
  /** Of a collapse: why, and what to change. */
  explanation?: string;
}

/**
 * The training loop. A step is a function of the weights, the recipe and its number, so a run that goes on
 * from a checkpoint repeats the unbroken one.
 *
 * @throws UserError `backend` when a loss is not finite; `unavailable` when a checkpoint can't be written
 */
export async function train(run: TrainingRun): Promise<Outcome> {
  const { model, feed, recipe, steps, precision, checkpoints, signal } = run;
  const watch = new CollapseWatch(recipe, run.dimensions, run.from?.collapsing);
  const started = performance.now();
  const before = run.from?.seconds ?? 0;
  const seconds = (): number => before + (performance.now() - started) / 1000;
  const cpuBefore = (run.from?.cpuSeconds ?? 0) - cpuSecondsOfProcess();
  const spent = (): Spent => ({ seconds: seconds(), cpuSeconds: cpuBefore + cpuSecondsOfProcess() });
  let { step, best, evaluated, worse } = run.from ?? { step: 0, best: undefined, evaluated: false, worse: 0 };
  let saved = run.from?.step;

  const save = async (): Promise<void> => {
    const { steps: collapsing } = watch;
    const progress = { step, best, evaluated, worse, collapsing, precision };
    await checkpoints.save(await model.state(), { ...progress, ...spent() });
    saved = step;
  };
  const due = (every: number): boolean => step % every === 0 || step === steps;

  try {
    for (;;) {
      if (!evaluated) {
        const value = await evaluate(run, step);
        // The base encoder is there to compare with, not to be exported.
        if (step > 0 && value !== undefined) {
          if (!best || value > best.value) {
            best = await checkpoints.saveBest(await model.weights(), step, value);
            worse = 0;
          } else worse++;
        }
        evaluated = true;
      }
      if (step > 0 && due(recipe.checkpointEvery) && saved !== step) await save();
      const stopped = recipe.patience > 0 && worse >= recipe.patience;
      if (step === steps || stopped) return { status: 'finished', step, best, ...spent() };
      signal?.throwIfAborted();

      const begun = performance.now();
      const learningRate = learningRateAt(step + 1, steps, recipe);
      const report = await model.step(await feed.at(step + 1), { learningRate });
      step++;
      evaluated = !due(recipe.evaluateEvery);
      await run.onStep({
        type: 'step',
        step,
        ...report,
        learningRate,
        seconds: (performance.now() - begun) / 1000,
      });
      const explanation = watch.observe(report);
      if (explanation) return { status: 'collapsed', step, best, ...spent(), explanation };
      // A step holds the thread: let signals and timers in.
      await setImmediate();
    }
  } catch (error) {
    if (!signal?.aborted || error !== signal.reason) throw error;
    if (saved !== step) await save();
    return { status: 'interrupted', step, best, ...spent() };
  }
}

/** Runs every evaluation. @returns the deciding metric, when there is one */
async function evaluate(run: TrainingRun, step: number): Promise<number | undefined> {
  if (run.evaluations.length === 0) return undefined;
  const { encoder, evaluations, signal, onEvaluationProgress: onProgress } = run;
  const results = await evaluateAll(encoder, evaluations, { signal, onProgress });
  await run.onEvaluation({ type: 'evaluation', step, results });
  return results[0].metrics[results[0].primary];
}

/** Of all its threads, in user and system mode. */
function cpuSecondsOfProcess(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}
