import type { Comparison } from '../../evaluation/bootstrap.js';
import { percent } from '../report/verdict.js';
import { BASE, type ExperimentTable, type Figure, type Row } from './table.js';

/** The columns of an experiment's tables, as text, for Markdown and HTML. */

/** @param e which evaluation */
export function judgedColumns({ evaluations, reference, rows }: ExperimentTable, e: number): string[] {
  const { primary } = evaluations[e];
  return [
    'run',
    'seeds',
    primary,
    'to base',
    ...(reference === undefined ? [] : [`to ${reference}`]),
    ...otherMetrics(rows, e, primary),
    'std × √d',
    'effective rank',
  ];
}

/** Of a row with figures. */
export function judgedCells(
  { evaluations, reference, rows }: ExperimentTable,
  row: Row,
  e: number,
): string[] {
  const { primary } = evaluations[e];
  const { metrics, std, effectiveRank, toBase, toReference } = row.judged[e];
  return [
    row.name,
    seedsOf(row),
    metric(metrics[primary]),
    comparison(toBase),
    ...(reference === undefined ? [] : [comparison(toReference)]),
    ...otherMetrics(rows, e, primary).map((name) => metric(metrics[name])),
    std.mean.toFixed(3),
    effectiveRank.mean.toFixed(1),
  ];
}

export const COST_COLUMNS = ['run', 'steps', 'real tokens', 'seconds in steps', 'CPU seconds'];

export function costCells({ name, cost: { steps, tokens, seconds, cpuSeconds } }: Row): string[] {
  return [name, ...[steps, tokens, seconds, cpuSeconds].map(whole)];
}

/** "1, 2, 3"; nothing of the base encoder. */
function seedsOf({ name, seeds }: Row): string {
  return name === BASE ? '' : seeds.join(', ');
}

function otherMetrics(rows: readonly Row[], e: number, primary: string): string[] {
  const measured = rows.find(({ judged }) => judged.length > 0)!;
  return Object.keys(measured.judged[e].metrics).filter((name) => name !== primary);
}

/** 44.05 ± 0.12 */
function metric({ mean, std }: Figure): string {
  return std === undefined ? percent(mean) : `${percent(mean)} ± ${percent(std)}`;
}

/** +0.52 [+0.10, +0.95], p = 0.021 */
function comparison(found?: Comparison): string {
  if (!found) return '';
  const { difference, low, high, p } = found;
  return `${signed(difference)} [${signed(low)}, ${signed(high)}], p = ${Number(p.toPrecision(2))}`;
}

function signed(fraction: number): string {
  return `${fraction >= 0 ? '+' : ''}${percent(fraction)}`;
}

function whole(value?: number): string {
  return value === undefined ? '' : Math.round(value).toLocaleString('en');
}
