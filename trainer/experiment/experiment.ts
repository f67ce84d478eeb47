import { rm } from 'node:fs/promises';
import path from 'node:path';

import { UserError } from '../../base/errors.js';
import { sha256File, writeFileAtomic } from '../../base/files.js';
import { openEncoder } from '../../encoder/open-encoder.js';
import { DEFAULT_MODEL } from '../../encoder/resolve.js';
import { percent } from '../report/verdict.js';
import { readDefinition, type Definition } from './definition.js';
import { Judges } from './judges.js';
import { markdownReport } from './markdown.js';
import { oneRun } from './one-run.js';
import { chooseRuns, planRuns, recipeOf, type PlannedRun } from './plan.js';
import {
  isDone,
  Records,
  runName,
  type BaseRecord,
  type Identity,
  type JudgedResult,
  type RunRecord,
} from './records.js';
import { experimentReport } from './report.js';
import { experimentTable, type ExperimentTable } from './table.js';

/** Which exported model folders are kept: the results are, always. */
export type Keep = 'none' | 'best' | 'all';

export interface ExperimentOptions {
  /** experiments/*.yaml. */
  file: string;
  /** Everything that the experiment makes. */
  out: string;
  data: string[];
  pairs: string[];
  field?: string;
  /** beir:DIR, sts:FILE, askubuntu:DIR; the first one orders the table. */
  evaluations: string[];
  split?: string;
  /** Instead of the file's. */
  model?: string;
  seeds?: number[];
  /** Names of runs; all when empty. */
  only: string[];
  keep: Keep;
  /** Cores; all when left out. */
  threads?: number;
  /** The program whose `finetune` is called, and its first arguments. */
  command: readonly string[];
  signal?: AbortSignal;
  /** A sentence for the person who waits. */
  onNote(note: string): void;
}

export interface ExperimentResult {
  status: 'finished' | 'interrupted';
  table: ExperimentTable;
  /** Runs that failed for another reason than a collapse; the next call tries them again. */
  failed: number;
  markdown: string;
  files: { markdown: string; json: string; html: string };
}

/**
 * Makes every run of an experiment that is not there yet, one after the other, each in a process of its own, judges
 * its weights, and writes the table of all. Called again it goes on where it stopped: in the middle of a run too.
 *
 * @throws UserError for a file, data or a setting that can't be used; `invalid` when a result that is there was made
 *   by another definition
 */
export async function experiment(options: ExperimentOptions): Promise<ExperimentResult> {
  const { file, out, onNote } = options;
  const definition = await readDefinition(file);
  const runs = planRuns(definition, file);
  const chosen = chooseRuns(runs, options.only);
  checkData(chosen, options);
  const judges = await Judges.open(options);
  const records = new Records(out);
  const model = options.model ?? definition.model ?? DEFAULT_MODEL;
  const base = await judgedBase(model, judges, records, options);

  const identify = await identities(base, definition, options);
  const known = new Map<string, RunRecord>();
  for (const record of await records.runs()) {
    const run = runs.find(({ name }) => name === record.run);
    if (!run) onNote(`${records.fileOf(runName(record))}: no such run in ${file}, left out of the table`);
    else if (records.isSame(record, identify(run, record.seed))) known.set(runName(record), record);
  }

  const seeds = options.seeds ?? definition.seeds;
  // All methods of one seed first: the table says something early.
  const wanted = seeds.flatMap((seed) => chosen.map((run) => ({ run, seed })));
  const open = wanted.filter(({ run, seed }) => !isDone(known.get(runName({ run: run.name, seed }))));
  onNote(`${wanted.length} runs, ${wanted.length - open.length} of them done before`);
  let status: ExperimentResult['status'] = 'finished';
  for (const [i, { run, seed }] of open.entries()) {
    const name = runName({ run: run.name, seed });
    onNote(`${name}: run ${i + 1} of ${open.length}`);
    const record = await oneRun(
      { run: run.name, seed, identity: identify(run, seed), status: 'begun' },
      run,
      {
        ...{ options, model, judges, records, known },
      },
    );
    if (!record) {
      status = 'interrupted';
      break;
    }
    known.set(name, record);
    onNote(`${name}: ${inWords(record)}`);
    await clearFolders(options, [...known.values()]);
  }
  await clearFolders(options, [...known.values()]);
  return report(status, definition, runs, base, [...known.values()], options);
}

/**
 * The base encoder's results, measured the first time.
 *
 * @throws UserError `unavailable` when it was interrupted
 */
async function judgedBase(
  model: string,
  judges: Judges,
  records: Records,
  { evaluations, split, threads, onNote }: ExperimentOptions,
): Promise<BaseRecord> {
  const encoder = await openEncoder(model, { threads, onNote });
  const identity = { base: encoder.fingerprint, evaluations, ...(split !== undefined && { split }) };
  await encoder.close();
  const before = await records.base();
  if (before) {
    records.expectSame('base', before.identity, identity);
    return before;
  }
  const results = await judges.judge(model);
  if (!results)
    throw new UserError(
      'unavailable',
      'stopped while the base encoder was measured; the same command begins anew',
    );
  const record = { identity, results };
  await records.writeBase(record);
  onNote(`${model}: ${metricsInWords(results)}`);
  return record;
}

/** What decides the result of a run with a seed. */
async function identities(
  { identity: { base, evaluations, split } }: BaseRecord,
  { select = 'last' }: Definition,
  { data, pairs, field }: ExperimentOptions,
): Promise<(run: PlannedRun, seed: number) => Identity> {
  const [dataDigests, pairDigests] = await Promise.all(
    [data, pairs].map((files) => Promise.all(files.map(sha256File))),
  );
  return (run, seed) => ({
    base,
    preset: run.preset,
    recipe: recipeOf(run, seed),
    ...(run.adapt !== undefined && { adapt: run.adapt }),
    train: run.train,
    data: run.data ? dataDigests : [],
    pairs: run.pairs ? pairDigests : [],
    ...(field !== undefined && { field }),
    select,
    evaluations,
    ...(split !== undefined && { split }),
  });
}

/** @throws UserError `usage` */
function checkData(runs: readonly PlannedRun[], { data, pairs, evaluations }: ExperimentOptions): void {
  const expect = (holds: boolean, message: string): void => {
    if (!holds) throw new UserError('usage', message);
  };
  expect(evaluations.length > 0, 'nothing to judge by: expected --eval beir:DIR, sts:FILE or askubuntu:DIR');
  for (const { name, ...run } of runs) {
    expect(!run.data || data.length > 0, `${name}: expected texts by --data FILE, found none`);
    expect(!run.pairs || pairs.length > 0, `${name}: expected pairs by --pairs FILE, found none`);
    expect(run.data || run.pairs, `${name}: expected data or pairs to be true, found false for both`);
  }
}

/** A model folder takes as much of the disk as the base encoder: those that are not to be kept go. */
async function clearFolders({ out, keep }: ExperimentOptions, records: readonly RunRecord[]): Promise<void> {
  if (keep === 'all') return;
  const finished = records.filter(({ status }) => status === 'finished');
  const value = ({ results }: RunRecord): number => results![0].metrics[results![0].primary];
  // Runs that are the same under two names have one folder, and one value.
  const best = keep === 'best' ? Math.max(...finished.map(value)) : Infinity;
  for (const record of finished)
    if (value(record) < best) await rm(path.join(out, runName(record)), { recursive: true, force: true });
}

async function report(
  status: ExperimentResult['status'],
  definition: Definition,
  runs: readonly PlannedRun[],
  base: BaseRecord,
  records: readonly RunRecord[],
  { out, model }: ExperimentOptions,
): Promise<ExperimentResult> {
  const table = experimentTable({
    about: definition.about,
    model: model ?? definition.model ?? DEFAULT_MODEL,
    reference: definition.reference,
    runs,
    base: base.results,
    records,
  });
  const markdown = markdownReport(table);
  const at = (name: string): string => path.join(out, name);
  const files = { markdown: at('table.md'), json: at('table.json'), html: at('report.html') };
  await writeFileAtomic(files.markdown, markdown);
  await writeFileAtomic(files.json, JSON.stringify(table, null, 2) + '\n');
  await writeFileAtomic(files.html, experimentReport(table));
  const failed = records.filter((record) => record.status === 'failed').length;
  return { status, table, failed, markdown, files };
}

function inWords({ message, results, steps, seconds }: RunRecord): string {
  if (!results) return message!;
  return `${metricsInWords(results)}, ${steps} steps in ${seconds?.toFixed(0)} s`;
}

function metricsInWords(results: readonly JudgedResult[]): string {
  return results
    .map(({ spec, primary, metrics }) => `${primary} ${percent(metrics[primary])} on ${spec}`)
    .join(', ');
}
