import type { Encoder } from '../encoder/encoder.js';
import type { Evaluation } from '../evaluation/evaluation.js';
import type { EvaluationEntry } from './run-log.js';

/** Runs every evaluation, for the log. */
export async function evaluateAll(
  encoder: Encoder,
  evaluations: readonly Evaluation[],
  options: { signal?: AbortSignal; onProgress?(spec: string, done: number, total: number): void },
): Promise<EvaluationEntry['results']> {
  const { signal, onProgress } = options;
  const results: EvaluationEntry['results'] = [];
  for (const evaluation of evaluations) {
    const { spec, primary } = evaluation;
    const { metrics, counts, diagnostics, seconds, perQuery, perPair } = await evaluation.run(encoder, {
      signal,
      onProgress: (done, total) => onProgress?.(spec, done, total),
    });
    results.push({
      ...{ spec, primary, metrics, counts, diagnostics, seconds },
      ...(perQuery && { perQuery: { ids: perQuery.ids, values: [...perQuery.values] } }),
      ...(perPair && { perPair: { cosine: [...perPair.cosine], gold: [...perPair.gold] } }),
    });
  }
  return results;
}
