import { mkdir, readdir, rm } from 'node:fs/promises';
import path from 'node:path';

import { firstDifference, type Difference } from '../base/difference.js';
import { UserError } from '../base/errors.js';
import { exists, readJson, sha256File, writeFileAtomic } from '../base/files.js';
import { CHECKPOINT } from '../base/run-folder.js';
import {
  floatTensors,
  readSafetensors,
  writeSafetensors,
  type TensorSource,
} from '../encoder/safetensors.js';
import type { HostTensor, NamedTensors } from './types.js';

/** The best weights so far, by the first evaluation's primary metric. */
export interface Best {
  step: number;
  value: number;
  /** Of the weights, in the run's folder. */
  file: string;
}

/** What a run took, in steps, evaluations and checkpoints, over all processes that worked on it. */
export interface Spent {
  seconds: number;
  /** Of all threads. */
  cpuSeconds: number;
}

/** Where a run stood. */
export interface Checkpoint extends Spent {
  /** Steps made. */
  step: number;
  best?: Best;
  /** Whether the evaluation that is due behind that step, if any, was made. */
  evaluated: boolean;
  /** Evaluations in a row that were no better than the best one. */
  worse: number;
  /** Steps in a row that looked like a collapse. */
  collapsing: number;
  /** What the steps were computed in: another processor would choose another one. */
  precision: 'fp32' | 'bf16';
}

interface Manifest extends Checkpoint {
  format: 1;
  file: string;
  sha256: string;
  /** What must be the same for the run to go on: recipe, data, encoder. */
  identity: unknown;
}

/**
 * A run's checkpoints in its folder. The manifest names the files that count, and is replaced in one rename
 * after they are written: a run that is killed at any moment finds its last checkpoint whole.
 */
export class Checkpoints {
  /** @param identity plain data; a checkpoint of another one is refused */
  constructor(
    private readonly folder: string,
    private readonly identity: unknown,
  ) {}

  async exists(): Promise<boolean> {
    return exists(this.path(CHECKPOINT));
  }

  async save(state: ReadonlyMap<string, TensorSource>, checkpoint: Checkpoint): Promise<void> {
    await mkdir(this.folder, { recursive: true });
    const file = `state-${checkpoint.step}.safetensors`;
    await writeSafetensors(this.path(file), state);
    const { identity } = this;
    const sha256 = await sha256File(this.path(file));
    const manifest: Manifest = { format: 1, ...checkpoint, file, sha256, identity };
    await writeFileAtomic(this.path(CHECKPOINT), JSON.stringify(manifest, null, 2) + '\n');
    await this.removeOthers(file, checkpoint.best?.file);
  }

  /**
   * The state is read when it is gone through.
   *
   * @throws UserError `not-found` when there is none; `invalid` when it is of another recipe, data or encoder;
   *   `corrupt` when a file is not what the manifest says
   */
  async load(): Promise<{ state: NamedTensors; checkpoint: Checkpoint }> {
    if (!(await this.exists()))
      throw new UserError(
        'not-found',
        `${this.folder}: expected a checkpoint to resume from, found none; leave --resume out to start`,
      );
    const { file, sha256, identity, ...checkpoint } = await readJson<Manifest>(this.path(CHECKPOINT));
    const difference = firstDifference(this.identity, identity);
    if (difference)
      throw new UserError(
        'invalid',
        `${this.path(CHECKPOINT)}: the run was started with ${inWords(difference)}; resume with the options it was started with, or remove ${this.folder} to start anew`,
      );
    const found = await sha256File(this.path(file));
    if (found !== sha256)
      throw new UserError(
        'corrupt',
        `${this.path(file)}: expected SHA-256 ${sha256}, found ${found}; remove ${this.folder} to start anew`,
      );
    return { state: floatTensors(this.path(file)), checkpoint };
  }

  async saveBest(weights: ReadonlyMap<string, HostTensor>, step: number, value: number): Promise<Best> {
    await mkdir(this.folder, { recursive: true });
    const file = `best-${step}.safetensors`;
    await writeSafetensors(this.path(file), weights);
    return { step, value, file };
  }

  async loadBest({ file }: Best): Promise<Map<string, HostTensor>> {
    return readSafetensors(this.path(file));
  }

  /** Once the run is done nothing goes on from here. */
  async remove(): Promise<void> {
    await rm(this.path(CHECKPOINT), { force: true });
    await this.removeOthers();
  }

  private async removeOthers(...kept: (string | undefined)[]): Promise<void> {
    for (const name of await readdir(this.folder))
      if (/^(state|best)-\d+\.safetensors$/.test(name) && !kept.includes(name)) await rm(this.path(name));
  }

  private path(name: string): string {
    return path.join(this.folder, name);
  }
}

/** "recipe.batch 32, and now has 64" */
function inWords({ at, a: now, b: before }: Difference): string {
  return `${at} ${JSON.stringify(before) ?? 'unset'}, and now has ${JSON.stringify(now) ?? 'unset'}`;
}
