import { compareScores } from '../evaluation/bootstrap.js';
import type { Scores } from '../evaluation/evaluation.js';
import type { Difference, EvaluationEntry } from './run-log.js';

type Result = EvaluationEntry['results'][number];

/**
 * Whether the weights of a step are better than those that training began with, beyond chance: a paired bootstrap for
 * each evaluation that was made of both.
 */
export function differencesOf(evaluations: readonly EvaluationEntry[], step: number): Difference[] {
  const at = (wanted: number): Result[] => evaluations.find((entry) => entry.step === wanted)?.results ?? [];
  const before = new Map(at(0).map((result) => [result.spec, result]));
  return at(step).flatMap((after) => {
    const base = before.get(after.spec);
    if (!base || !(after.perQuery ?? after.perPair) || !(base.perQuery ?? base.perPair)) return [];
    return [{ spec: after.spec, ...compareScores(scoresOf(after), scoresOf(base)) }];
  });
}

function scoresOf({ spec, primary: metric, metrics, counts, seconds, perQuery, perPair }: Result): Scores {
  return {
    ...{ spec, metrics, counts, seconds },
    ...(perQuery && { perQuery: { metric, ids: perQuery.ids, values: Float64Array.from(perQuery.values) } }),
    ...(perPair && {
      perPair: { metric, cosine: Float64Array.from(perPair.cosine), gold: Float64Array.from(perPair.gold) },
    }),
  };
}
