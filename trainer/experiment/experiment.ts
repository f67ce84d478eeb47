import { rm } from 'node:fs/promises';
import path from 'node:path';

import { firstDifference } from '../../base/difference.js';
import { UserError } from '../../base/errors.js';
import { exists, sha256File, writeFileAtomic } from '../../base/files.js';
import { openEncoder } from '../../encoder/open-encoder.js';
import { DEFAULT_MODEL } from '../../encoder/resolve.js';
import type { Evaluation } from '../../evaluation/evaluation.js';
import { openEvaluation } from '../../evaluation/open-evaluation.js';
import { readRun } from '../log-file.js';
import { percent } from '../report/verdict.js';
import { runFolderOf } from '../finetune.js';
import { secondsOf } from '../throughput.js';
import { runFinetune, waitUntilGone } from './child.js';
import { readDefinition, type Definition } from './definition.js';
import { markdownReport } from './markdown.js';
import { chooseRuns, planRuns, recipeOf, type PlannedRun } from './plan.js';
import {
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
  const judges = new Judges(await openEvaluations(options), options);
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
    const identity = identify(run, seed);
    // The same under another name, as the middle of several grids is.
    const twin = [...known.values()].find(
      (other) => isDone(other) && firstDifference(other.identity, identity) === undefined,
    );
    let record: RunRecord | undefined;
    if (twin) {
      record = { ...twin, run: run.name };
      await records.write(record);
    } else {
      // What lies there without a record was made by another definition.
      if (!known.has(name))
        for (const folder of [path.join(out, name), runFolderOf(path.join(out, name))])
          await rm(folder, { recursive: true, force: true });
      const { pid } = known.get(name) ?? {};
      if (pid !== undefined) await waitUntilGone(pid, path.resolve(out, name), options.signal);
      const begun: RunRecord = { run: run.name, seed, identity, status: 'begun' };
      record = await carryOut(begun, run, { options, model, judges, records, select: identity.select });
    }
    if (!record) {
      status = 'interrupted';
      break;
    }
    known.set(name, record);
    onNote(`${name}: ${inWords(record)}`);
    await clearFolders(options, [...known.values()]);
  }
  return report(status, definition, runs, base, [...known.values()], options);
}

/** A collapse is a result; another failure is tried again. */
function isDone(record?: RunRecord): boolean {
  return record?.status === 'finished' || record?.status === 'collapsed';
}

interface Surroundings {
  options: ExperimentOptions;
  model: string;
  judges: Judges;
  records: Records;
  select: 'last' | 'best';
}

/** Trains and judges one run. @returns nothing when it was interrupted */
async function carryOut(
  begun: RunRecord,
  run: PlannedRun,
  { options, model, judges, records, select }: Surroundings,
): Promise<RunRecord | undefined> {
  const { signal, onNote } = options;
  const name = runName(begun);
  const out = path.resolve(options.out, name);
  const log = path.join(runFolderOf(out), 'log.jsonl');
  const resume = await exists(path.join(runFolderOf(out), 'checkpoint.json'));
  await records.write(begun);
  const record: RunRecord = { ...begun };
  // Trained by an earlier process that did not come to judge it.
  if (!(await exists(out))) {
    const args = argumentsOf(run, begun.seed, { out, model, select, resume }, options);
    const ending = await runFinetune(options.command, args, {
      signal,
      onStart: (pid) => records.write({ ...begun, pid }),
      onLine: (line) => onNote(`${name}: ${line}`),
    });
    if (ending.status === 'interrupted') return undefined;
    if (ending.status === 'failed') {
      record.status = 'failed';
      record.message = ending.message;
    } else if (!resume) record.cpuSeconds = ending.cpuSeconds;
  }
  if (await exists(log)) {
    const { steps, end } = await readRun(log);
    record.steps = steps.length;
    record.tokens = steps.reduce((sum, { tokens }) => sum + tokens, 0);
    record.seconds = secondsOf(steps);
    record.judgedStep = end?.bestStep;
    if (end?.reason === 'collapsed') {
      const { std, effectiveRank } = steps[steps.length - 1];
      record.status = 'collapsed';
      record.message = `collapsed at step ${end.step}: std × √d ${std.toFixed(3)}, effective rank ${effectiveRank?.toFixed(1)} of a batch`;
    }
  }
  if (record.status === 'begun') {
    record.results = await judges.judge(out);
    if (!record.results) return undefined;
    record.status = 'finished';
  }
  await records.write(record);
  return record;
}

/** What comes after `finetune`. */
function argumentsOf(
  { preset, settings, data, pairs, adapt, train }: PlannedRun,
  seed: number,
  { out, model, select, resume }: { out: string; model: string; select: 'last' | 'best'; resume: boolean },
  options: ExperimentOptions,
): string[] {
  const listed = (name: string, values: readonly string[]): string[] =>
    values.length > 0 ? [name, ...values] : [];
  const one = (name: string, value?: string | number): string[] =>
    value === undefined ? [] : [name, String(value)];
  return [
    ...['--out', out, '--model', model, '--seed', String(seed)],
    ...(train ? ['--preset', preset, ...listed('--set', settings)] : []),
    ...listed('--data', data ? options.data : []),
    ...listed('--pairs', pairs ? options.pairs : []),
    ...one('--field', options.field),
    ...one('--adapt', adapt),
    ...one('--threads', options.threads),
    // Without evaluations the last weights are exported.
    ...(select === 'best'
      ? [...listed('--eval', options.evaluations), ...one('--split', options.split)]
      : []),
    ...(resume ? ['--resume'] : []),
  ];
}

/** Judges model folders, all by the same. */
class Judges {
  constructor(
    private readonly evaluations: readonly Evaluation[],
    private readonly options: Pick<ExperimentOptions, 'threads' | 'signal' | 'onNote'>,
  ) {}

  /** @returns nothing when it was interrupted */
  async judge(model: string): Promise<JudgedResult[] | undefined> {
    const { threads, signal, onNote } = this.options;
    const encoder = await openEncoder(model, { threads, onNote });
    try {
      const results = [];
      for (const evaluation of this.evaluations)
        results.push({ primary: evaluation.primary, ...(await evaluation.run(encoder, { signal })) });
      return results;
    } catch (error) {
      if (signal?.aborted && error === signal.reason) return undefined;
      throw error;
    } finally {
      await encoder.close();
    }
  }
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

async function openEvaluations({ evaluations, split, onNote }: ExperimentOptions): Promise<Evaluation[]> {
  const opened = [];
  for (const spec of evaluations) {
    const evaluation = await openEvaluation(spec, { split });
    evaluation.notes.forEach(onNote);
    opened.push(evaluation);
  }
  return opened;
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
