import { mkdir } from 'node:fs/promises';
import path from 'node:path';

import { messageOf, UserError } from '../../base/errors.js';
import { exists } from '../../base/files.js';
import { runFinetune } from '../../base/finetune-process.js';
import { hasCheckpoint } from '../../base/run-folder.js';
import type { GenerationInfo, ServedGeneration, TrainableCollection } from '../search/collection.js';
import type { JobChange } from '../search/job-table.js';
import { BACKGROUND_NICE } from '../threads.js';
import type { JobBoard } from './board.js';
import type { JobFolders } from './folders.js';
import { hasEnded, jobIn, jobsIn, now, type Job } from './job.js';
import { judge } from './judge.js';
import { watchMemory } from './memory-limit.js';
import { EMBEDDING_SHARE, type Models } from './models.js';
import { recipeArguments } from './request.js';
import { readTrainingData, writeTrainingData, type TrainingData } from './training-data.js';
import { decide, type Verdict } from './verdict.js';

/** How often a shared job is looked at, for whether it was cancelled. */
const LOOK_MS = 1_000;

export interface JobRunnerOptions {
  collection: TrainableCollection;
  folders: JobFolders;
  board: JobBoard;
  models: Models;
  /** The program that has `finetune`, and what comes before its name. */
  command: readonly string[];
  /** The names that --preset takes; first what a job does without. */
  presets: readonly string[];
  /** The folder, or the name, of what makes a generation's vectors. */
  modelOf(generation: GenerationInfo): Promise<string>;
  /** Puts a trained model where the other processes get theirs from. */
  publish?(folder: string): Promise<void>;
  /** Cores for training. */
  threads: number;
  /** Resident memory of the training process, in bytes: beyond it the process is ended. */
  memoryBytes: number;
  log(message: string): void;
}

/** A job that was cancelled, or that another process goes on with. */
class Superseded extends Error {}

/**
 * Runs training jobs, one after another: the trainer in a process of its own, then the candidate beside the live
 * model, a judgement, and what the policy makes of it. Every step can be done again: after a crash or
 * restart a job goes on where it was, in this process or in another one.
 */
export class JobRunner {
  private current: { id: number; cancel: AbortController; over: Promise<void> } | undefined;

  constructor(private readonly options: JobRunnerOptions) {}

  /**
   * Runs what waits, the earliest first, until nothing does.
   * @param signal stops: what was begun goes on at the next call
   * @throws UserError `unavailable` when what several processes share is away
   */
  async runAll(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const next = (await jobsIn(this.options.collection)).find((job) => !hasEnded(job));
      if (!next) return;
      const cancel = new AbortController();
      const running = this.run(next, cancel, signal);
      this.current = { id: next.id, cancel, over: running.catch(() => undefined) };
      await running.finally(() => (this.current = undefined));
    }
  }

  /** Removes what a cancelled job has made, once it is not worked on here any more. */
  async clear(job: Job): Promise<void> {
    if (this.current?.id !== job.id) return this.removeTraces(job);
    this.current.cancel.abort();
    await this.current.over;
  }

  private async run(job: Job, cancel: AbortController, stop: AbortSignal): Promise<void> {
    const { collection, board, log } = this.options;
    const endLook = board.isShared ? this.lookAfter(job, cancel) : undefined;
    try {
      await this.steps(job, AbortSignal.any([cancel.signal, stop]));
    } catch (error) {
      if (stop.aborted) return;
      const current = await jobIn(collection, job.id);
      if (current?.state === 'cancelled') return await this.removeTraces(job);
      if (error instanceof Superseded) return;
      // It comes back, and whoever has the next turn goes on.
      if (board.isShared && error instanceof UserError && error.kind === 'unavailable') throw error;
      await this.removeTraces(job);
      await collection.changeJob(job, { state: 'failed', ended: now(), error: messageOf(error) });
      log(`job ${job.id} failed: ${messageOf(error)}`);
    } finally {
      endLook?.();
    }
  }

  /** Others may cancel it. @returns what ends it */
  private lookAfter({ id }: Job, cancel: AbortController): () => void {
    const look = async (): Promise<void> => {
      const job = await jobIn(this.options.collection, id);
      if (job?.state === 'cancelled') cancel.abort();
    };
    const timer = setInterval(() => void look().catch(() => undefined), LOOK_MS);
    timer.unref();
    return () => clearInterval(timer);
  }

  private async steps(job: Job, signal: AbortSignal): Promise<void> {
    const { collection, folders, board, models, publish, log } = this.options;
    const folder = folders.model(job.id);
    await folders.claim(job, signal);
    // Trained elsewhere: a generation comes after its model was published.
    const isPublished = board.isShared && collection.generations().some(({ job: made }) => made === job.id);
    if (!isPublished) {
      // Of a training that has ended as well: what it told last may not have been passed on.
      const telling = board.follow(job.id);
      try {
        if (!(await exists(folder))) {
          await this.change(job, { state: 'training', started: job.started ?? now() });
          await this.train(job, folder, signal);
        }
      } finally {
        await telling.stop();
      }
    }
    signal.throwIfAborted();

    await this.change(job, { state: 'embedding' });
    if (!isPublished) await publish?.(folder);
    await models.discardOtherCandidates(job.id);
    const candidate = await models.loadCandidate(job, (await exists(folder)) ? folder : undefined);
    await collection.embedMissing(candidate, {
      share: EMBEDDING_SHARE,
      signal,
      onProgress: (done, total) => void board.tellEmbedding(job.id, { done, total }).catch(() => undefined),
    });

    await this.change(job, { state: 'judging' });
    // After a crash between the switch and the end, the candidate is live: there is nothing to compare it with any more.
    const isLive = collection.served().id === candidate.id;
    const verdict = (isLive && job.verdict) || (await this.judge(job, candidate, signal));
    signal.throwIfAborted();
    if (verdict.decision === 'activated') await models.goLive(candidate);
    await this.removeData(job);
    await this.change(job, { state: 'done', ended: now() });
    log(`job ${job.id}: ${candidate.model} ${verdict.decision}: ${verdict.reason}`);
  }

  private async judge(job: Job, candidate: ServedGeneration, signal: AbortSignal): Promise<Verdict> {
    const { collection } = this.options;
    const judgement = await judge(collection, collection.served(), candidate, signal);
    const verdict: Verdict = { ...judgement, ...decide(judgement, job.request) };
    await this.change(job, { verdict });
    return verdict;
  }

  private async train(job: Job, out: string, signal: AbortSignal): Promise<void> {
    const { folders, command, presets, threads, memoryBytes } = this.options;
    await mkdir(path.dirname(out), { recursive: true });
    const isBegun = await hasCheckpoint(out);
    const data = await this.dataOf(job, isBegun);
    const args = [
      ...['--data', data.texts, '--out', out, '--model', data.model, '--threads', String(threads)],
      ...(data.pairs ? ['--pairs', data.pairs] : []),
      ...(data.dev ? ['--eval', `beir:${data.dev}`] : []),
      ...(isBegun ? ['--resume'] : []),
      ...recipeArguments(job.request, presets[0]),
    ];
    let stopWatching = (): void => undefined;
    let outgrown: string | undefined;
    const ending = await runFinetune(command, args, {
      signal,
      nice: BACKGROUND_NICE,
      onStart: async (pid) => {
        stopWatching = watchMemory(pid, memoryBytes, (bytes) => {
          outgrown = `training took ${mib(bytes)} MiB of memory, the limit is ${mib(memoryBytes)} MiB; a smaller batch takes less ("settings": {"batch": 32})`;
          try {
            process.kill(pid, 'SIGKILL');
          } catch {
            // It has just ended.
          }
        });
        await folders.noteTrainer(job, pid);
      },
    }).finally(() => stopWatching());
    signal.throwIfAborted();
    if (outgrown !== undefined) throw new UserError('backend', outgrown);
    if (ending.status === 'failed') throw new UserError('backend', ending.message);
    if (ending.status === 'interrupted') throw new UserError('backend', 'training was stopped from outside');
  }

  private async dataOf(job: Job, isBegun: boolean): Promise<TrainingData> {
    const { collection, folders, board, modelOf } = this.options;
    const folder = folders.data(job.id);
    const written = isBegun && (await readTrainingData(folder));
    if (written) return written;
    const live = collection.generations().find(({ state }) => state === 'live')!;
    const { sent } = job.request;
    const data = sent === undefined ? {} : await board.kept(sent);
    return writeTrainingData(folder, await modelOf(live), job.request, data, collection);
  }

  /** Nothing of what a job was trained on is needed when it has ended. */
  private async removeData({ id, request: { sent } }: Job): Promise<void> {
    const { folders, board } = this.options;
    await folders.removeData(id);
    if (sent !== undefined) await board.forget(sent);
  }

  private async removeTraces(job: Job): Promise<void> {
    const { collection, folders } = this.options;
    const generation = collection.generations().find((each) => each.job === job.id);
    if (generation && generation.state !== 'live') await collection.discard(generation.id);
    await folders.removeModel(job.id);
    await this.removeData(job);
    await folders.removeTraining(job.id);
  }

  /** @throws Superseded when it is not as it was when this process changed it last */
  private async change(job: Job, change: JobChange): Promise<void> {
    if (!(await this.options.collection.changeJob(job, change))) throw new Superseded();
    Object.assign(job, change);
  }
}

function mib(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(0);
}
