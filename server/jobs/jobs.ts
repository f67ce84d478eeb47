import { setTimeout as sleep } from 'node:timers/promises';

import { messageOf, UserError } from '../../base/errors.js';
import type { ServedGeneration } from '../search/collection.js';
import { FolderBoard, type JobBoard, type JobLog, type JobProgress } from './board.js';
import { JobFolders } from './folders.js';
import { hasEnded, jobIn, jobsIn, now, type Job } from './job.js';
import { Models, type ModelsOptions } from './models.js';
import type { FinetuneRequest, SentData } from './request.js';
import { JobRunner, type JobRunnerOptions } from './runner.js';
import { startSchedule, type Schedule } from './schedule.js';

/** How often one that shares the jobs looks for one that another process was asked for. */
const LOOK_MS = 1_000;
/** Until jobs that can't be looked at, or gone on with, are tried again. */
const AGAIN_MS = 5_000;
/** The longest that a timer takes. */
const FOREVER_MS = 2 ** 31 - 1;

type Parts = 'folders' | 'board' | 'models';

export interface JobsOptions extends Omit<ModelsOptions, Parts>, Omit<JobRunnerOptions, Parts> {
  /** Where files of jobs and models are on this machine; absolute. */
  dataDir: string;
  /** What the trainer says of a recipe before it reads any data. @throws UserError `usage` */
  check?(request: FinetuneRequest, data: SentData): Promise<void>;
  /** When to train without being asked. */
  schedule?: Schedule;
  /** Why no job may be asked for; undefined: it may. */
  refusal?: string;
}

/** Training jobs, and the models that come of them. Who runs the jobs is this process where it was told to `work`, or another one. */
export class Jobs {
  private readonly stopping = new AbortController();
  private readonly board: JobBoard;
  private readonly models: Models;
  private readonly runner: JobRunner;
  private working: Promise<void> | undefined;
  /** Aborted when a job is asked for here. */
  private asked = new AbortController();

  constructor(private readonly options: JobsOptions) {
    const folders = new JobFolders(options.dataDir);
    this.board = options.collection.jobBoard?.(folders) ?? new FolderBoard(folders);
    this.models = new Models({ ...options, folders });
    this.runner = new JobRunner({ ...options, folders, board: this.board, models: this.models });
  }

  /** From here on this process runs what is queued, and what was not finished: alone, or when it has its turn. */
  work(): void {
    this.working ??= this.takeTurns();
  }

  /** All jobs, the latest last. */
  list(): Promise<Job[]> {
    return jobsIn(this.options.collection);
  }

  /** @throws UserError `not-found` */
  async job(id: number): Promise<Job> {
    const found = await jobIn(this.options.collection, id);
    if (!found) throw new UserError('not-found', `there is no job ${id}`);
    return found;
  }

  /** What a job may name; first what it does without. */
  get presets(): readonly string[] {
    return this.options.presets;
  }

  progress(job: Job): Promise<JobProgress> {
    return this.board.progress(job);
  }

  /** The trainer's own. */
  log(id: number): JobLog {
    return this.board.log(id);
  }

  /** The trainer's own, as HTML; undefined while there is none. */
  report(id: number): Promise<string | undefined> {
    return this.board.report(id);
  }

  /**
   * Queues a job.
   * @throws UserError `usage` for a preset or a setting that the trainer does not know, `empty` when there is nothing to train on
   */
  async submit(request: FinetuneRequest, data: SentData = {}): Promise<Job> {
    const { collection, refusal, check } = this.options;
    if (refusal !== undefined) throw new UserError('usage', refusal);
    await check?.(request, data);
    // Not by their number, which does not know at once what another server has stored.
    if (!data.texts && (await collection.list({ limit: 1 })).length === 0)
      throw new UserError(
        'empty',
        'the collection is empty: expected documents to train on; add some, or send "texts"',
      );
    const sent = data.texts || data.pairs ? await this.board.keep(data) : undefined;
    const job = (await collection.addJob({ ...request, sent })) as Job;
    this.asked.abort();
    return job;
  }

  /**
   * Ends a job that has not ended, and removes what it has made; what another process is making goes within a second.
   * @throws UserError `not-found`, `exists` when it has ended
   */
  async cancel(id: number): Promise<Job> {
    for (;;) {
      const job = await this.job(id);
      if (hasEnded(job)) throw new UserError('exists', `job ${id} has ended already: ${job.state}`);
      if (job.verdict?.decision === 'activated')
        throw new UserError(
          'exists',
          `job ${id} has found its model better, which is going live; roll back instead`,
        );
      const change = { state: 'cancelled', ended: now() } as const;
      // It has come further meanwhile.
      if (!(await this.options.collection.changeJob(job, change))) continue;
      await this.runner.clear(job);
      return { ...job, ...change };
    }
  }

  /** @throws UserError as Models.activate */
  activate(model: string): Promise<ServedGeneration> {
    return this.models.activate(model);
  }

  /** @throws UserError `not-found` when there is none */
  rollback(): Promise<ServedGeneration> {
    return this.models.rollback();
  }

  async close(): Promise<void> {
    this.stopping.abort();
    await this.models.close();
    await this.working;
  }

  private async takeTurns(): Promise<void> {
    const { log } = this.options;
    const { signal } = this.stopping;
    let complaint: string | undefined;
    while (!signal.aborted)
      try {
        await this.board.inTurn(signal, (turn) => this.turn(turn));
        complaint = undefined;
      } catch (error) {
        if (signal.aborted) return;
        if (messageOf(error) !== complaint) log(`training jobs: ${messageOf(error)}`);
        complaint = messageOf(error);
        await sleep(AGAIN_MS, undefined, { signal, ref: false }).catch(() => undefined);
      }
  }

  private async turn(signal: AbortSignal): Promise<void> {
    const { collection, schedule, log } = this.options;
    const { isShared } = this.board;
    const endSchedule = schedule && startSchedule(schedule, collection, this, log);
    try {
      if (!isShared) await this.models.loadOthers();
      await this.models.sweep();
      while (!signal.aborted) {
        this.asked = new AbortController();
        await this.runner.runAll(signal);
        await this.untilAsked(signal, isShared ? LOOK_MS : FOREVER_MS);
      }
    } finally {
      endSchedule?.();
    }
  }

  /** Waits for a job that is asked for here, or so long. */
  private async untilAsked(signal: AbortSignal, ms: number): Promise<void> {
    const end = AbortSignal.any([signal, this.asked.signal]);
    await sleep(ms, undefined, { signal: end, ref: false }).catch(() => undefined);
  }
}
