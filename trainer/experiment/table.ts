import { compareMeans, type Comparison } from '../../evaluation/bootstrap.js';
import { mean } from '../../evaluation/ranking-metrics.js';
import type { PlannedRun } from './plan.js';
import type { JudgedResult, RunRecord } from './records.js';

/** A figure of a run over its seeds. */
export interface Figure {
  mean: number;
  /** Sample standard deviation; none of a single seed. */
  std?: number;
  /** Seed by seed. */
  values: number[];
}

/** A run on one of the evaluations. */
export interface Judged {
  /** Fractions. */
  metrics: Record<string, Figure>;
  std: Figure;
  meanCosine: Figure;
  effectiveRank: Figure;
  /** The primary metric's difference, with the paired bootstrap. */
  toBase?: Comparison;
  toReference?: Comparison;
}

export interface Row {
  name: string;
  family: string;
  /** Of a grid. */
  values: Record<string, string>;
  /** Those that finished. The base encoder has none. */
  seeds: number[];
  /** One for each evaluation; empty when no seed finished. */
  judged: Judged[];
  /** Of the training, means over the seeds that finished. */
  cost: { steps?: number; tokens?: number; seconds?: number; cpuSeconds?: number };
  /** Collapsed and failed ones. */
  failures: { seed: number; message: string }[];
}

export interface ExperimentTable {
  about: string;
  /** The base encoder. */
  model: string;
  reference?: string;
  evaluations: { spec: string; primary: string; counts: Record<string, number> }[];
  /** The base encoder is one of them, named "base". Best first by the first evaluation; those without figures last. */
  rows: Row[];
}

export interface TableInput {
  about: string;
  model: string;
  reference?: string;
  runs: readonly PlannedRun[];
  base: readonly JudgedResult[];
  /** What there is so far, in any order. */
  records: readonly RunRecord[];
}

/** The base encoder's row. */
export const BASE = 'base';

/** Mean and spread of every run over its seeds, and how it differs from the base encoder and the reference. */
export function experimentTable({
  about,
  model,
  reference,
  runs,
  base,
  records,
}: TableInput): ExperimentTable {
  const finishedOf = (name: string): RunRecord[] =>
    records
      .filter(({ run, status }) => run === name && status === 'finished')
      .sort((a, b) => a.seed - b.seed);
  const resultsOf = (name: string): JudgedResult[][] => finishedOf(name).map(({ results }) => results!);
  const compared = reference === undefined ? [] : resultsOf(reference);

  const rows = runs.flatMap(({ name, family, values }): Row[] => {
    const finished = finishedOf(name);
    const failures = records
      .filter(({ run, message }) => run === name && message !== undefined)
      .sort((a, b) => a.seed - b.seed)
      .map(({ seed, message }) => ({ seed, message: message! }));
    if (finished.length + failures.length === 0) return [];
    return [
      {
        ...{ name, family, values, failures },
        seeds: finished.map(({ seed }) => seed),
        judged: judgedOf(resultsOf(name), [[...base]], name === reference ? [] : compared),
        cost: {
          steps: meanOf(finished, ({ steps }) => steps),
          tokens: meanOf(finished, ({ tokens }) => tokens),
          seconds: meanOf(finished, ({ seconds }) => seconds),
          cpuSeconds: meanOf(finished, ({ cpuSeconds }) => cpuSeconds),
        },
      },
    ];
  });
  const baseRow: Row = {
    ...{ name: BASE, family: BASE, values: {}, seeds: [], cost: {}, failures: [] },
    judged: judgedOf([[...base]], [], compared),
  };
  const primary = base[0].primary;
  const value = ({ judged }: Row): number => judged[0]?.metrics[primary].mean ?? -Infinity;
  return {
    ...{ about, model, reference },
    evaluations: base.map(({ spec, primary, counts }) => ({ spec, primary, counts })),
    // Without figures both are -Infinity, and their difference is no number.
    rows: [...rows, baseRow].sort((a, b) => value(b) - value(a) || 0),
  };
}

/** @param sides seeds x evaluations, each; a side without seeds is not compared with */
function judgedOf(
  own: readonly JudgedResult[][],
  base: readonly JudgedResult[][],
  reference: readonly JudgedResult[][],
): Judged[] {
  if (own.length === 0) return [];
  return own[0].map(({ metrics }, e) => {
    const at = (side: readonly JudgedResult[][]): JudgedResult[] => side.map((results) => results[e]);
    const of = (value: (result: JudgedResult) => number): Figure => figure(at(own).map(value));
    const names = Object.keys(metrics);
    return {
      metrics: Object.fromEntries(names.map((name) => [name, of((result) => result.metrics[name])])),
      std: of(({ diagnostics }) => diagnostics.std),
      meanCosine: of(({ diagnostics }) => diagnostics.meanCosine),
      effectiveRank: of(({ diagnostics }) => diagnostics.effectiveRank),
      ...(base.length > 0 && { toBase: compareMeans(at(own), at(base)) }),
      ...(reference.length > 0 && { toReference: compareMeans(at(own), at(reference)) }),
    };
  });
}

export function figure(values: number[]): Figure {
  const center = mean(values);
  const squares = values.reduce((sum, value) => sum + (value - center) ** 2, 0);
  const std = values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : undefined;
  return { mean: center, ...(std !== undefined && { std }), values };
}

/** Of those that have it; nothing when none has. */
function meanOf(
  records: readonly RunRecord[],
  value: (record: RunRecord) => number | undefined,
): number | undefined {
  const values = records.map(value).filter((found) => found !== undefined);
  return values.length > 0 ? mean(values) : undefined;
}
