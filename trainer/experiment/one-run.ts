import { rm } from 'node:fs/promises';
import path from 'node:path';

import { firstDifference } from '../../base/difference.js';
import { UserError } from '../../base/errors.js';
import { exists } from '../../base/files.js';
import { runFinetune, waitUntilGone } from '../../base/finetune-process.js';
import { hasCheckpoint, runFolderOf } from '../../base/run-folder.js';
import { untilRunIsFree } from '../../base/run-lock.js';
import { readRun } from '../log-file.js';
import { secondsOf } from '../throughput.js';
import type { ExperimentOptions } from './experiment.js';
import type { Judges } from './judges.js';
import type { PlannedRun } from './plan.js';
import { isDone, runName, type Records, type RunRecord } from './records.js';

export interface Surroundings {
  options: ExperimentOptions;
  model: string;
  judges: Judges;
  records: Records;
  /** What there is so far, by name. */
  known: ReadonlyMap<string, RunRecord>;
}

/**
 * Trains and judges one run, or goes on with it.
 *
 * @param begun its record as it is before the first step
 * @returns nothing when it was interrupted
 */
export async function oneRun(
  begun: RunRecord,
  run: PlannedRun,
  { options, model, judges, records, known }: Surroundings,
): Promise<RunRecord | undefined> {
  const { signal, onNote } = options;
  const name = runName(begun);
  const out = path.resolve(options.out, name);
  // The same under another name, as the middle of several grids is.
  const twin = [...known.values()].find(
    (other) => isDone(other) && firstDifference(other.identity, begun.identity) === undefined,
  );
  if (twin) {
    const record = { ...twin, run: run.name };
    await records.write(record);
    return record;
  }
  const before = known.get(name);
  // What lies there without a record was made by another definition.
  if (!before)
    for (const folder of [out, runFolderOf(out)]) await rm(folder, { recursive: true, force: true });
  if (before?.pid !== undefined) await waitUntilGone(before.pid, out, signal);
  // Killed before its process was noted, it has left it as well.
  await untilRunIsFree(runFolderOf(out), signal);
  const log = path.join(runFolderOf(out), 'log.jsonl');
  const resume = await hasCheckpoint(out);
  await records.write(begun);
  const record: RunRecord = { ...begun };
  // Trained by an earlier process that did not come to judge it.
  if (!(await exists(out))) {
    const { select } = begun.identity;
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
  // One that failed early has no log, or not a line of it.
  const trained = await readRun(log).catch(() => undefined);
  if (trained) {
    const { steps, end } = trained;
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
    try {
      record.results = await judges.judge(out);
      if (!record.results) return undefined;
      record.status = 'finished';
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      record.status = 'failed';
      record.message = error.message;
    }
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
