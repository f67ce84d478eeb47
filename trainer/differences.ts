import { compareScores } from '../evaluation/bootstrap.js';
import type { Scores } from '../evaluation/evaluation.js';
import type { Difference, EvaluationEntry } from './run-log.js';

type Result = EvaluationEntry['results'][number];

/**
 * Whether what came of a run is better than what it began with, beyond chance: a paired bootstrap for each evaluation
 * that was made of both.
 */
export function differencesOf(before: readonly Result[], after: readonly Result[]): Difference[] {
  const bases = new Map(before.map((result) => [result.spec, result]));
  return after.flatMap((after) => {
    const base = bases.get(after.spec);
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
