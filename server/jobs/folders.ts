import { mkdir, readdir, rm } from 'node:fs/promises';
import path from 'node:path';

import { exists, readJson, writeFileAtomic } from '../../base/files.js';
import { waitUntilGone } from '../../base/finetune-process.js';
import { runFolderOf } from '../../base/run-folder.js';
import { untilRunIsFree } from '../../base/run-lock.js';
import type { GenerationInfo } from '../search/collection.js';
import { trainedModelFolder } from '../search/store.js';
import { modelNameOf, type Job } from './job.js';

/** Of the trainer's folder, what is worth keeping of a job that failed. */
const TOLD: readonly string[] = ['log.jsonl', 'report.html'];

/** Whose a job's folders are, and the process that trains in them. */
interface Claim {
  created: string;
  pid?: number;
}

/** What a generation's model is loaded from on this machine: the folder that a job made, or what --model said. */
export function ownModel(
  { model, source, job }: Pick<GenerationInfo, 'model' | 'source' | 'job'>,
  dataDir: string,
): string {
  return job === undefined ? (source ?? model) : trainedModelFolder(dataDir, model);
}

/** Where the files of jobs and of the models that they make are on this machine. */
export class JobFolders {
  /** @param dataDir absolute */
  constructor(private readonly dataDir: string) {}

  /** What belongs to no job yet. */
  get common(): string {
    return path.join(this.dataDir, 'jobs');
  }

  /** What a job is trained on. */
  data(id: number): string {
    return path.join(this.own(id), 'data');
  }

  /** The model that comes of a job. */
  model(id: number): string {
    return trainedModelFolder(this.dataDir, modelNameOf(id));
  }

  /** Where the trainer keeps a job's log, report and checkpoints. */
  training(id: number): string {
    return runFolderOf(this.model(id));
  }

  /**
   * Begins with a job, or goes on with it: a trainer that was left behind is waited for, and what another database's job of the
   * same number has left here goes.
   */
  async claim({ id, created }: Job, signal: AbortSignal): Promise<void> {
    const found = (await exists(this.claimFile(id))) ? await readJson<Claim>(this.claimFile(id)) : undefined;
    if (found?.pid !== undefined) await waitUntilGone(found.pid, this.model(id), signal);
    // Whoever was killed before it could note its trainer has left one as well.
    await untilRunIsFree(this.training(id), signal);
    // It may be there still, and whoever comes next has to know.
    signal.throwIfAborted();
    if (found && found.created !== created)
      for (const folder of [this.own(id), this.model(id), this.training(id)])
        await rm(folder, { recursive: true, force: true });
    await this.note(id, { created });
  }

  /** Who trains. */
  noteTrainer({ id, created }: Job, pid?: number): Promise<void> {
    return this.note(id, { created, pid });
  }

  async removeModel(id: number): Promise<void> {
    await rm(this.model(id), { recursive: true, force: true });
  }

  async removeData(id: number): Promise<void> {
    await rm(this.data(id), { recursive: true, force: true });
  }

  /** All but what the trainer told, for whoever wants to know why it failed. */
  async removeTraining(id: number): Promise<void> {
    const folder = this.training(id);
    for (const name of await readdir(folder).catch(() => []))
      if (!TOLD.includes(name)) await rm(path.join(folder, name), { recursive: true, force: true });
  }

  private own(id: number): string {
    return path.join(this.common, String(id));
  }

  private claimFile(id: number): string {
    return path.join(this.own(id), 'claim.json');
  }

  private async note(id: number, claim: Claim): Promise<void> {
    await mkdir(this.own(id), { recursive: true });
    await writeFileAtomic(this.claimFile(id), JSON.stringify(claim));
  }
}
