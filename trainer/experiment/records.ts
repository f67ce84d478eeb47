import { readdir } from 'node:fs/promises';
import path from 'node:path';

import { firstDifference } from '../../base/difference.js';
import { UserError } from '../../base/errors.js';
import { exists, readJson, writeFileAtomic } from '../../base/files.js';
import type { EvaluationResult } from '../../evaluation/evaluation.js';
import type { Recipe } from '../recipe.js';

/** All that decides what a run measures: one with another is another run. */
export interface Identity {
  /** Fingerprint of the base encoder. */
  base: string;
  preset: string;
  recipe: Recipe;
  adapt?: string;
  train: boolean;
  /** SHA-256 of the files that are trained on. */
  data: string[];
  pairs: string[];
  field?: string;
  select: 'last' | 'best';
  evaluations: string[];
  split?: string;
}

/** With the name of the metric that decides. */
export type JudgedResult = EvaluationResult & { primary: string };

/** What a run came to. */
export interface RunRecord {
  run: string;
  seed: number;
  identity: Identity;
  /**
   * `begun` by a process that did not see its end; `collapsed` is a result, and is not tried again; `failed` for
   * another reason, and is.
   */
  status: 'begun' | 'finished' | 'collapsed' | 'failed';
  /** begun: of the training's process. */
  pid?: number;
  /** Of a run that collapsed or failed. */
  message?: string;
  steps?: number;
  /** Real tokens of all views. */
  tokens?: number;
  /** Of the steps alone. */
  seconds?: number;
  /** Of the training's process on all cores; not known of a run that was cut off, and where there is no /proc. */
  cpuSeconds?: number;
  /** The step whose weights were judged. */
  judgedStep?: number;
  /** In the order of the experiment's evaluations; with the values of each query. */
  results?: JudgedResult[];
}

/** What the base encoder came to. */
export interface BaseRecord {
  identity: Pick<Identity, 'base' | 'evaluations' | 'split'>;
  results: JudgedResult[];
}

/** The results of an experiment, a file each, replaced in one rename. */
export class Records {
  /** @param folder of the experiment */
  constructor(private readonly folder: string) {}

  fileOf(name: string): string {
    return path.join(this.folder, 'results', `${name}.json`);
  }

  async write(record: RunRecord): Promise<void> {
    await writeFileAtomic(this.fileOf(runName(record)), textOf(record));
  }

  async writeBase(record: BaseRecord): Promise<void> {
    await writeFileAtomic(this.fileOf('base'), textOf(record));
  }

  async base(): Promise<BaseRecord | undefined> {
    const file = this.fileOf('base');
    return (await exists(file)) ? withTypedArrays(await readJson<BaseRecord>(file)) : undefined;
  }

  /** All that are there, in no order. @throws UserError `malformed`, naming the file */
  async runs(): Promise<RunRecord[]> {
    const folder = path.join(this.folder, 'results');
    const names = (await exists(folder)) ? await readdir(folder) : [];
    return Promise.all(
      names
        .filter((name) => name.endsWith('.json') && name !== 'base.json')
        .map(async (name) => withTypedArrays(await readJson<RunRecord>(path.join(folder, name)))),
    );
  }

  /**
   * Whether a record is of the run as it is defined.
   *
   * @returns false for one that failed, so that what is wrong can be put right
   * @throws UserError `invalid` for any other, rather than mix two experiments or lose one
   */
  isSame(record: RunRecord, identity: Identity): boolean {
    if (record.status === 'failed') return firstDifference(record.identity, identity) === undefined;
    this.expectSame(runName(record), record.identity, identity);
    return true;
  }

  /** @throws UserError `invalid` when what was measured before is not what would be measured */
  expectSame(name: string, before: object, now: object): void {
    const difference = firstDifference(before, now);
    if (!difference) return;
    const words = (value: unknown): string => JSON.stringify(value) ?? 'nothing';
    throw new UserError(
      'invalid',
      `${this.fileOf(name)}: expected ${difference.at} ${words(difference.b)}, found a result with ${words(difference.a)}; put the experiment back, name another folder with --out, or remove that file to run it again`,
    );
  }
}

/** A collapse is a result; another failure is tried again. */
export function isDone(record?: RunRecord): boolean {
  return record?.status === 'finished' || record?.status === 'collapsed';
}

/** Names the folder of a run, and the file of its result. */
export function runName({ run, seed }: Pick<RunRecord, 'run' | 'seed'>): string {
  return `${run}-seed${seed}`;
}

function textOf(record: object): string {
  // A typed array would become an object of numbered keys.
  const plain = (_: string, value: unknown): unknown =>
    ArrayBuffer.isView(value) ? [...(value as Float64Array)] : value;
  return JSON.stringify(record, plain) + '\n';
}

function withTypedArrays<T extends { results?: JudgedResult[] }>(record: T): T {
  for (const { perQuery, perPair } of record.results ?? []) {
    if (perQuery) perQuery.values = Float64Array.from(perQuery.values);
    if (perPair) {
      perPair.cosine = Float64Array.from(perPair.cosine);
      perPair.gold = Float64Array.from(perPair.gold);
    }
  }
  return record;
}
