import type { Comparison } from '../evaluation/bootstrap.js';
import type { EmbeddingDiagnostics, Scores } from '../evaluation/evaluation.js';

/** Who was judged: an encoder, or a method without one. */
export interface Judged {
  name: string;
  dimensions?: number;
  maxTokens?: number;
  fingerprint?: string;
  /** In the order of the evaluations; with diagnostics where there are vectors. */
  results: (Scores & { diagnostics?: EmbeddingDiagnostics })[];
}

export interface Report {
  judged: Judged;
  compared?: Judged;
  /** judged - compared, one for each evaluation. */
  comparisons?: Comparison[];
}

/**
 * The one JSON object of --json. Metrics are fractions under their standard names; they are at the top as
 * well, each name that only one evaluation measures.
 */
export function jsonReport({ judged, compared, comparisons }: Report): object {
  const names = judged.results.flatMap(({ metrics }) => Object.keys(metrics));
  const unambiguous = judged.results.flatMap(({ metrics }) =>
    Object.entries(metrics).filter(([name]) => names.indexOf(name) === names.lastIndexOf(name)),
  );
  return {
    ...sideOf(judged),
    ...Object.fromEntries(unambiguous),
    evaluations: judged.results.map(evaluationOf),
    ...(compared && {
      compare: {
        ...sideOf(compared),
        evaluations: compared.results.map(evaluationOf),
        differences: comparisons,
      },
    }),
  };
}

function sideOf({ name, dimensions, maxTokens, fingerprint }: Judged): object {
  return { model: name, dimensions, maxTokens, fingerprint };
}

function evaluationOf({ spec, metrics, counts, diagnostics, seconds }: Judged['results'][number]): object {
  return { spec, metrics, counts, diagnostics, seconds };
}

/** The report for people: metrics in percent, a table for each evaluation. */
export function textReport({ judged, compared, comparisons }: Report): string {
  const lines = compared
    ? [`A: ${describeSide(judged)}`, `B: ${describeSide(compared)}`]
    : [describeSide(judged)];
  judged.results.forEach((result, i) => {
    const other = compared?.results[i];
    lines.push('', `${result.spec}  (${describeCounts(result.counts)}; ${result.seconds.toFixed(1)} s)`);
    const width = Math.max(
      ...Object.keys(result.metrics).map((name) => name.length),
      'signs of collapse'.length,
    );
    const row = (name: string, ...cells: string[]): void => {
      lines.push(`  ${name.padEnd(width)}${cells.map((cell) => cell.padStart(9)).join('')}`.trimEnd());
    };
    row('percent', ...(other ? ['A', 'B', 'A - B'] : []));
    for (const [name, value] of Object.entries(result.metrics)) {
      if (other) row(name, percent(value), percent(other.metrics[name]), signed(value - other.metrics[name]));
      else row(name, percent(value));
    }
    const sides = other ? [result, other] : [result];
    if (sides.some(({ diagnostics }) => diagnostics)) {
      row('signs of collapse');
      const cells = (show: (of: EmbeddingDiagnostics) => string): string[] =>
        sides.map(({ diagnostics }) => (diagnostics ? show(diagnostics) : '-'));
      row('std * sqrt(d)', ...cells(({ std }) => std.toFixed(3)));
      row('mean cosine', ...cells(({ meanCosine }) => meanCosine.toFixed(3)));
      row('effective rank', ...cells(({ effectiveRank }) => effectiveRank.toFixed(1)));
    }
    const comparison = comparisons?.[i];
    if (comparison) lines.push(`  ${describeComparison(comparison)}`);
  });
  return lines.join('\n');
}

function describeSide({ name, dimensions, maxTokens, fingerprint }: Judged): string {
  return dimensions
    ? `${name} (${dimensions} dimensions, ${maxTokens} tokens, fingerprint ${fingerprint?.slice(0, 12)})`
    : name;
}

function describeCounts(counts: Record<string, number>): string {
  return Object.entries(counts)
    .map(([name, count]) => `${count.toLocaleString('en')} ${name}`)
    .join(', ');
}

function describeComparison({ metric, difference, low, high, p }: Comparison): string {
  const verdict =
    low > 0 ? 'A is better' : high < 0 ? 'B is better' : 'no difference beyond chance at this size';
  return `${metric}, A - B: ${signed(difference)}, 95 % interval ${signed(low)} to ${signed(high)}, p = ${p.toPrecision(2)}: ${verdict}`;
}

export function percent(fraction: number): string {
  return (100 * fraction).toFixed(2);
}

export function signed(fraction: number): string {
  return (fraction >= 0 ? '+' : '') + percent(fraction);
}
