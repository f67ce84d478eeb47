import { Gauge, type Registry } from 'prom-client';

import type { Verdict } from './jobs/verdict.js';
import { JOB_STATES } from './search/job-table.js';
import type { Services } from './services.js';

/** What is told of models, training jobs and what they are judged by. */
export function trainingMetrics(registers: Registry[], services: () => Services | undefined): void {
  const gauge = <Label extends string>(
    name: string,
    help: string,
    labelNames: readonly Label[],
    collect: (gauge: Gauge<Label>, services: Services) => void | Promise<void>,
  ): void => {
    new Gauge({
      name,
      help,
      labelNames,
      registers,
      async collect() {
        this.reset();
        const ready = services();
        // A database that is away takes none of the other metrics with it.
        if (ready) await Promise.resolve(collect(this, ready)).catch(() => this.reset());
      },
    });
  };

  gauge('sentence_jepa_jobs', 'Training jobs by their state.', ['state'], async (jobs, s) => {
    const all = await s.jobs.list();
    for (const state of JOB_STATES) jobs.set({ state }, all.filter((job) => job.state === state).length);
  });
  gauge(
    'sentence_jepa_generation_vectors',
    'Vectors of each generation; the one that answers is live.',
    ['generation', 'model', 'state'],
    (vectors, s) => {
      for (const { id, model, state, vectors: n } of s.collection.generations())
        vectors.set({ generation: id, model, state }, n);
    },
  );
  gauge(
    'sentence_jepa_feedback_queries',
    'Queries with feedback, by what they are for.',
    ['part'],
    async (queries, s) => {
      for (const [part, n] of Object.entries((await s.collection.feedbackCounts()).queries))
        queries.set({ part }, n);
    },
  );

  const judged = (name: string, help: string, value: (verdict: Verdict, side: Side) => number): void =>
    gauge(name, `${help}, at the last judgement.`, ['model'], async (metric, s) => {
      const verdict = (await s.jobs.list()).findLast((job) => job.verdict)?.verdict;
      if (!verdict) return;
      for (const side of ['live', 'candidate'] as const)
        metric.set({ model: verdict[side] }, value(verdict, side));
    });
  judged(
    'sentence_jepa_judged_map_at_100',
    'map@100 on held-out feedback; NaN without any',
    ({ test }, side) => test?.[side]['map@100'] ?? NaN,
  );
  judged(
    'sentence_jepa_judged_spread',
    'Standard deviation of the vectors, times the root of their dimensions: 1 is even, 0 collapsed',
    ({ diagnostics }, side) => diagnostics[side].std,
  );
  judged(
    'sentence_jepa_judged_mean_cosine',
    'Mean cosine of two documents',
    ({ diagnostics }, side) => diagnostics[side].meanCosine,
  );
  judged(
    'sentence_jepa_judged_effective_rank',
    'Effective rank of the vectors',
    ({ diagnostics }, side) => diagnostics[side].effectiveRank,
  );
}

type Side = 'live' | 'candidate';
