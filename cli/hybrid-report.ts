import type { HybridScores, MethodScores } from '../server/search/evaluate-hybrid.js';
import { signed, percent } from './evaluation-report.js';

export interface HybridReport {
  model: string;
  fingerprint: string;
  scores: HybridScores;
}

const SHOWN = ['map@100', 'recall@10', 'ndcg@10'];

export function hybridJson({ model, fingerprint, scores: { methods, best } }: HybridReport): object {
  const [{ spec, counts, seconds }] = methods;
  return {
    model,
    fingerprint,
    spec,
    counts,
    seconds,
    methods: methods.map(({ method, metrics, comparison }) => ({
      mode: modeOf(method),
      ...(typeof method === 'number' && { lexical_weight: method }),
      metrics,
      ...(method !== 'dense' && { difference_to_dense: comparison }),
    })),
    best_lexical_weight: best ?? null,
  };
}

/** The report for people: metrics in percent, a line for each way to search. */
export function hybridText({ model, scores: { methods, best } }: HybridReport): string {
  const [{ spec, counts, seconds }] = methods;
  const row = (name: string, cells: string[], rest: string): string =>
    `  ${name.padEnd(12)}${cells.map((cell) => cell.padStart(11)).join('')}  ${rest}`.trimEnd();
  return [
    `${model} on ${spec}  (${counts.documents.toLocaleString('en')} documents, ${counts.queries.toLocaleString('en')} queries; ${seconds.toFixed(1)} s)`,
    row('percent', SHOWN, 'map@100 less that of dense, 95 % interval'),
    ...methods.map(({ method, metrics, comparison: { difference, low, high, p } }) =>
      row(
        typeof method === 'number' ? `hybrid ${method}` : method,
        SHOWN.map((name) => percent(metrics[name])),
        method === 'dense'
          ? ''
          : `${signed(difference)} (${signed(low)} to ${signed(high)}), p = ${p.toPrecision(2)}`,
      ),
    ),
    advice(methods, best),
  ].join('\n');
}

function advice(methods: readonly MethodScores[], best: number | undefined): string {
  if (best === undefined)
    return 'No weight is better than dense beyond chance: stay with "mode": "dense", the default.';
  const queries = methods[0].counts.queries.toLocaleString('en');
  return (
    `Best: --lexical-weight ${best}. Start the server with it, and search with "mode": "hybrid".\n` +
    `The best of ${methods.length - 2} weights on the same ${queries} queries flatters itself a little.`
  );
}

function modeOf(method: MethodScores['method']): string {
  return typeof method === 'number' ? 'hybrid' : method;
}
