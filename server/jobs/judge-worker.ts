import { compareScores, type Comparison } from '../../evaluation/bootstrap.js';
import { embeddingDiagnostics } from '../../evaluation/diagnostics.js';
import type { EmbeddingDiagnostics } from '../../evaluation/evaluation.js';
import { answerCalls, giveWay } from '../threads.js';

/** A value for each query, in the order of the queries. */
export interface JudgeInput {
  metric: string;
  queries: readonly string[];
  live: Float64Array;
  candidate: Float64Array;
}

// Resampling and eigenvalues take from some tenths of a second to seconds: in the event loop requests would wait for them.
const handlers = {
  /** candidate - live, by paired bootstrap. */
  compare({ metric, queries, live, candidate }: JudgeInput): Comparison {
    const scores = (spec: string, values: Float64Array): Parameters<typeof compareScores>[0] => ({
      spec,
      metrics: {},
      counts: {},
      seconds: 0,
      perQuery: { metric, ids: [...queries], values },
    });
    return compareScores(scores('the candidate', candidate), scores('the live model', live));
  },

  diagnose({ data, d }: { data: Float32Array; d: number }): EmbeddingDiagnostics {
    return embeddingDiagnostics({ data, n: data.length / d, d });
  },
};

export type JudgeHandlers = typeof handlers;

giveWay();
answerCalls(handlers);
