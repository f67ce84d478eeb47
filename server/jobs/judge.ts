import { setTimeout as sleep } from 'node:timers/promises';

import type { Comparison } from '../../evaluation/bootstrap.js';
import type { EmbeddingDiagnostics } from '../../evaluation/evaluation.js';
import { averagePrecision, mean, recall, reciprocalRank } from '../../evaluation/ranking-metrics.js';
import type { Hit, ServedGeneration, TrainableCollection } from '../search/collection.js';
import { normalized } from '../search/feedback-table.js';
import { Thread } from '../threads.js';
import type { JudgeHandlers } from './judge-worker.js';

/** How deep a ranking is looked at: map@100. */
const DEPTH = 100;
/** How many of a ranking a person looks at. */
const TOP = 10;
/** Queries on which both models' answers are laid side by side. */
const AGREEMENT_QUERIES = 200;
/** Fewer recent queries than this, and texts of documents stand in for them. */
const LEAST_RECENT = 20;
const SAMPLE = 1000;
/** Queries that are embedded together: few, since somebody's search may have to wait for them. */
const TOGETHER = 8;
/** Of the time; the rest is left to requests. */
const SHARE = 0.5;

export interface RankingMetrics {
  'map@100': number;
  'mrr@10': number;
  'recall@10': number;
}

/** Of the candidate and the live model, side by side. Fractions. */
export interface Judgement {
  candidate: string;
  live: string;
  /** On the feedback's queries that nothing was trained on or chosen by; absent when there are none. */
  test?: {
    queries: number;
    live: RankingMetrics;
    candidate: RankingMetrics;
    /** candidate - live. */
    comparison: Comparison;
  };
  /** How many of the first ten both have in common, the mean over queries. */
  agreement?: { queries: number; of: 'recent queries' | 'documents'; overlap: number };
  diagnostics: { live: EmbeddingDiagnostics; candidate: EmbeddingDiagnostics };
}

/** Compares two loaded generations of a collection by what they find. */
export async function judge(
  collection: TrainableCollection,
  live: ServedGeneration,
  candidate: ServedGeneration,
  signal: AbortSignal,
): Promise<Judgement> {
  const thread = new Thread<JudgeHandlers>(new URL('./judge-worker.js', import.meta.url), 'judging');
  try {
    const sides = { live, candidate };
    const diagnose = async (side: ServedGeneration): Promise<EmbeddingDiagnostics> =>
      thread.call('diagnose', {
        data: await collection.sample(side, SAMPLE),
        d: side.inference.dimensions,
      });
    return {
      candidate: candidate.model,
      live: live.model,
      ...(await judgeOnTest(collection, sides, thread, signal)),
      ...(await agreement(collection, sides, signal)),
      diagnostics: { live: await diagnose(live), candidate: await diagnose(candidate) },
    };
  } finally {
    await thread.terminate();
  }
}

interface Sides {
  live: ServedGeneration;
  candidate: ServedGeneration;
}

async function judgeOnTest(
  collection: TrainableCollection,
  sides: Sides,
  thread: Thread<JudgeHandlers>,
  signal: AbortSignal,
): Promise<Pick<Judgement, 'test'>> {
  const relevant = new Map<string, Set<string>>();
  for (const { query, id, text } of await collection.relevant('test')) {
    // A query that is itself a document is found by everybody, and tells nothing.
    if (isSame(text, query)) continue;
    const ids = relevant.get(query);
    if (ids) ids.add(id);
    else relevant.set(query, new Set([id]));
  }
  const queries = [...relevant.keys()];
  if (queries.length === 0) return {};
  const perQuery = async (side: ServedGeneration): Promise<RankingMetrics[]> => {
    return search(collection, side, queries, DEPTH, signal, (hits, q) => {
      const wanted = relevant.get(queries[q])!;
      const gains = hits
        .filter(({ text }) => !isSame(text, queries[q]))
        .map(({ id }) => Number(wanted.has(id)));
      return {
        'map@100': averagePrecision(gains, wanted.size, DEPTH),
        'mrr@10': reciprocalRank(gains, TOP),
        'recall@10': recall(gains, wanted.size, TOP),
      };
    });
  };
  const [ofLive, ofCandidate] = [await perQuery(sides.live), await perQuery(sides.candidate)];
  const values = (side: readonly RankingMetrics[]): Float64Array =>
    Float64Array.from(side, (metrics) => metrics['map@100']);
  const comparison = await thread.call('compare', {
    metric: 'map@100',
    queries,
    live: values(ofLive),
    candidate: values(ofCandidate),
  });
  return {
    test: { queries: queries.length, live: means(ofLive), candidate: means(ofCandidate), comparison },
  };
}

function isSame(text: string, query: string): boolean {
  return normalized(text) === normalized(query);
}

async function agreement(
  collection: TrainableCollection,
  { live, candidate }: Sides,
  signal: AbortSignal,
): Promise<Pick<Judgement, 'agreement'>> {
  const recent = [...new Set(collection.recentQueries())].slice(-AGREEMENT_QUERIES);
  const isRecent = recent.length >= LEAST_RECENT;
  const queries = isRecent
    ? recent
    : (await collection.list({ limit: AGREEMENT_QUERIES })).map(({ text }) => text);
  if (queries.length === 0) return {};
  const top = (side: ServedGeneration): Promise<string[][]> =>
    search(collection, side, queries, TOP, signal, (hits) => hits.map(({ id }) => id));
  const [before, after] = [await top(live), await top(candidate)];
  const overlaps = before.map((ids, q) =>
    ids.length === 0 ? 1 : ids.filter((id) => after[q].includes(id)).length / ids.length,
  );
  return {
    agreement: {
      queries: queries.length,
      of: isRecent ? 'recent queries' : 'documents',
      overlap: mean(overlaps),
    },
  };
}

/**
 * Asks query by query, beside requests, which come first.
 * @param look what is wanted of each answer; called as it comes, since all at once would hold requests up
 */
async function search<T>(
  collection: TrainableCollection,
  generation: ServedGeneration,
  queries: readonly string[],
  k: number,
  signal: AbortSignal,
  look: (hits: readonly Hit[], query: number) => T,
): Promise<T[]> {
  const { inference } = generation;
  const d = inference.dimensions;
  const found: T[] = [];
  while (found.length < queries.length) {
    const begin = performance.now();
    const some = queries.slice(found.length, found.length + TOGETHER);
    const vectors = await inference.encode(some, { priority: 'bulk', normalize: true, signal });
    for (const [q, query] of some.entries()) {
      const vector = vectors.slice(q * d, (q + 1) * d);
      const hits = await collection.search({ query, vector, k, mode: 'dense', generation, signal });
      found.push(look(hits, found.length));
    }
    await sleep((performance.now() - begin) * (1 / SHARE - 1), undefined, { signal });
  }
  return found;
}

function means(perQuery: readonly RankingMetrics[]): RankingMetrics {
  const of = (name: keyof RankingMetrics): number => mean(perQuery.map((metrics) => metrics[name]));
  return { 'map@100': of('map@100'), 'mrr@10': of('mrr@10'), 'recall@10': of('recall@10') };
}
