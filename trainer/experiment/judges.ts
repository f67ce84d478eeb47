import { openEncoder } from '../../encoder/open-encoder.js';
import type { Evaluation } from '../../evaluation/evaluation.js';
import { openEvaluation } from '../../evaluation/open-evaluation.js';
import type { ExperimentOptions } from './experiment.js';
import type { JudgedResult } from './records.js';

/** Judges model folders, all by the same. */
export class Judges {
  private constructor(
    private readonly evaluations: readonly Evaluation[],
    private readonly options: Pick<ExperimentOptions, 'threads' | 'signal' | 'onNote'>,
  ) {}

  /** Reads the evaluations' data. @throws UserError as openEvaluation */
  static async open(options: ExperimentOptions): Promise<Judges> {
    const { evaluations, split, onNote } = options;
    const opened = [];
    for (const spec of evaluations) {
      const evaluation = await openEvaluation(spec, { split });
      evaluation.notes.forEach(onNote);
      opened.push(evaluation);
    }
    return new Judges(opened, options);
  }

  /** @returns nothing when it was interrupted */
  async judge(model: string): Promise<JudgedResult[] | undefined> {
    const { threads, signal, onNote } = this.options;
    const encoder = await openEncoder(model, { threads, onNote });
    try {
      const results = [];
      for (const evaluation of this.evaluations)
        results.push({ primary: evaluation.primary, ...(await evaluation.run(encoder, { signal })) });
      return results;
    } catch (error) {
      if (signal?.aborted && error === signal.reason) return undefined;
      throw error;
    } finally {
      await encoder.close();
    }
  }
}
