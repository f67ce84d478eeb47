import { randomUUID } from 'node:crypto';
import { mkdir, readdir, rm } from 'node:fs/promises';
import path from 'node:path';

import { messageOf, UserError } from '../../base/errors.js';
import { exists, readJson, writeFileAtomic } from '../../base/files.js';
import { runFinetune } from '../../base/finetune-process.js';
import type { Inference } from '../batching/inference.js';
import type { GenerationInfo, ServedGeneration, TrainableCollection } from '../search/collection.js';
import { ENDED_JOBS, type JobChange, type JobRecord } from '../search/job-table.js';
import { trainedModelFolder } from '../search/store.js';
import { BACKGROUND_NICE } from '../threads.js';
import { judge } from './judge.js';
import { watchMemory } from './memory-limit.js';
import { recipeArguments, type FinetuneRequest, type SentData } from './request.js';
import { startSchedule, type Schedule } from './schedule.js';
import { readTrainingData, writeTrainingData } from './training-data.js';
import { decide, type Verdict } from './verdict.js';

export type Job = JobRecord<FinetuneRequest, Verdict>;

/** Share of the time in which a candidate embeds the collection: the rest is left to requests. */
const EMBEDDING_SHARE = 0.5;
/** Of the trainer's folder, what is worth keeping of a job that failed. */
const TOLD = ['log.jsonl', 'report.html'];

export interface JobRunnerOptions {
  collection: TrainableCollection;
  dataDir: string;
  /** The program that has `finetune`, and what comes before its name. */
  command: readonly string[];
  /** The names that its --preset takes; first what it does without. */
  presets: readonly string[];
  /** Loads a model for serving, in the precision of the live one; `background`: by threads that give way. */
  openModel(model: string, options?: { background?: boolean }): Promise<Inference>;
  /** Cores for training. */
  threads: number;
  /** Resident memory of the training process, in bytes: beyond it the process is ended. */
  memoryBytes: number;
  /** When to train without being asked. */
  schedule?: Schedule;
  log(message: string): void;
  /** Why this server does not train; undefined: it does. */
  refusal?: string;
}

/** Where a job stands, beyond its record. */
export interface JobProgress {
  done: number;
  total: number;
}

/** A candidate's name, and its model folder's. */
export function modelNameOf(job: number): string {
  return `finetuned-${job}`;
}

/**
 * Training jobs, one after another: the trainer in a process of its own, then the candidate beside the live
 * model, a judgement, and what the policy makes of it. Every step can be done again: after a crash or
 * restart a job goes on where it was.
 */
export class JobRunner {
  private readonly stopping = new AbortController();
  private working: Promise<void> | undefined;
  /** The job under way, and what cancels it. */
  private current:
    { id: number; cancel: AbortController; progress?: JobProgress; isGoingLive?: boolean } | undefined;
  /** After a start, until what can be switched to is loaded. */
  private isLoading = false;
  /** Activations, one after another. */
  private switching: Promise<unknown> = Promise.resolve();
  private listed: Job[] = [];
  /** Generations whose models are computed by threads that give way. */
  private readonly inBackground = new Set<number>();
  private endSchedule = (): void => undefined;

  constructor(private readonly options: JobRunnerOptions) {}

  /** Loads what can be switched to, and goes on with what was not finished. */
  async start(): Promise<void> {
    this.listed = (await this.options.collection.jobs()) as Job[];
    if (this.options.refusal !== undefined) return;
    await this.sweep();
    this.isLoading = true;
    this.working = this.loadOthers().then(() => {
      this.isLoading = false;
      this.working = undefined;
      this.work();
    });
    const { schedule, collection, log } = this.options;
    if (schedule) this.endSchedule = startSchedule(schedule, collection, this, log);
  }

  /** All jobs, the latest last. */
  get jobs(): readonly Job[] {
    return this.listed;
  }

  get isBusy(): boolean {
    return this.listed.some(({ state }) => !ENDED_JOBS.includes(state));
  }

  /** What a job may name; first what it does without. */
  get presets(): readonly string[] {
    return this.options.presets;
  }

  /** @throws UserError `not-found` */
  job(id: number): Job {
    const found = this.listed.find((job) => job.id === id);
    if (!found) throw new UserError('not-found', `there is no job ${id}`);
    return found;
  }

  progress(id: number): JobProgress | undefined {
    return this.current?.id === id ? this.current.progress : undefined;
  }

  /**
   * Queues a job.
   * @throws UserError `usage` for a preset that the trainer does not know, `empty` when there is nothing to train on
   */
  async submit(request: FinetuneRequest, data: SentData = {}): Promise<Job> {
    this.checkAllowed();
    const { presets } = this.options;
    if (request.preset !== undefined && !presets.includes(request.preset))
      throw new UserError(
        'usage',
        `preset: expected ${presets.join(', ')}, came ${JSON.stringify(request.preset)}`,
      );
    if (!data.texts && this.options.collection.info().documents === 0)
      throw new UserError(
        'empty',
        'the collection is empty: expected documents to train on; add some, or send "texts"',
      );
    const sent = data.texts || data.pairs ? `sent-${randomUUID()}.json` : undefined;
    if (sent) {
      await mkdir(this.folder, { recursive: true });
      await writeFileAtomic(path.join(this.folder, sent), JSON.stringify(data));
    }
    const job = (await this.options.collection.addJob({ ...request, sent })) as Job;
    this.listed.push(job);
    this.work();
    return job;
  }

  /**
   * Ends a job that has not ended, and removes what it has made.
   * @throws UserError `not-found`, `exists` when it has ended
   */
  async cancel(id: number): Promise<Job> {
    this.checkAllowed();
    const job = this.job(id);
    if (ENDED_JOBS.includes(job.state))
      throw new UserError('exists', `job ${id} has ended already: ${job.state}`);
    if (this.current?.id === id && this.current.isGoingLive)
      throw new UserError(
        'exists',
        `job ${id} has found its model better, which is going live; roll back instead`,
      );
    await this.change(job, { state: 'cancelled', ended: now() });
    if (this.current?.id === id) {
      this.current.cancel.abort();
      while (this.current?.id === id) await new Promise((resolve) => setTimeout(resolve, 20));
    } else await this.removeTraces(job);
    return job;
  }

  /**
   * @throws UserError `not-found` for a model that there is not, `not-ready` while it is loaded after a start, `exists` while
   *   its job goes on
   */
  activate(model: string): Promise<ServedGeneration> {
    return this.alone(() => this.activateNow(model));
  }

  /** Back to the model before the live one. @throws UserError `not-found` when there is none */
  rollback(): Promise<ServedGeneration> {
    return this.alone(() => {
      const retired = this.options.collection.generations().find(({ state }) => state === 'retired');
      if (!retired)
        throw new UserError('not-found', 'there is no earlier model to go back to (GET /models lists all)');
      return this.activateNow(retired.model);
    });
  }

  /** @throws UserError `usage` */
  private checkAllowed(): void {
    if (this.options.refusal !== undefined) throw new UserError('usage', this.options.refusal);
  }

  /** One switch at a time, each of which begins with what the one before has left. */
  private alone<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.switching.catch(() => undefined).then(() => this.options.collection.alone(work));
    this.switching = mine;
    return mine;
  }

  private async activateNow(model: string): Promise<ServedGeneration> {
    const { collection } = this.options;
    const known = collection.generations().find((each) => each.model === model);
    if (known && this.listed.some(({ id, state }) => id === known.job && !ENDED_JOBS.includes(state)))
      throw new UserError(
        'exists',
        `job ${known.job} has not judged ${model} yet; wait for it, or cancel it`,
      );
    if (known && !known.served) {
      if (this.isLoading)
        throw new UserError('not-ready', `${model} is being loaded since the start; try again in a moment`);
      await this.loadOther(known);
    }
    return this.switchTo(collection.served(model));
  }

  private async switchTo(generation: ServedGeneration): Promise<ServedGeneration> {
    const served = await this.inForeground(generation);
    await this.options.collection.activate(served, this.stopping.signal);
    this.options.log(`${served.model} is live`);
    await this.sweep();
    return served;
  }

  private async inForeground(served: ServedGeneration): Promise<ServedGeneration> {
    if (!this.inBackground.has(served.id)) return served;
    const inference = await this.options.openModel(this.modelFolder(served.model));
    this.inBackground.delete(served.id);
    return this.options.collection.exchange(served, inference);
  }

  async close(): Promise<void> {
    this.stopping.abort();
    this.endSchedule();
    await this.switching.catch(() => undefined);
    await this.working;
  }

  /** A job's folder: data, verdict. */
  folderOf(id: number): string {
    return path.join(this.folder, String(id));
  }

  private get folder(): string {
    return path.join(this.options.dataDir, 'jobs');
  }

  /** Where the trainer keeps a job's log, report and checkpoints. */
  trainingFolderOf(id: number): string {
    return `${this.modelFolder(modelNameOf(id))}.training`;
  }

  private modelFolder(name: string): string {
    return trainedModelFolder(this.options.dataDir, name);
  }

  /** Runs what is queued, when nothing runs. */
  private work(): void {
    if (this.working || this.stopping.signal.aborted) return;
    const next = this.listed.find(({ state }) => !ENDED_JOBS.includes(state));
    if (!next) return;
    this.working = this.run(next)
      .catch((error: unknown) => this.options.log(`job ${next.id}: ${messageOf(error)}`))
      .then(() => {
        this.working = undefined;
        this.work();
      });
  }

  private async run(job: Job): Promise<void> {
    const cancel = new AbortController();
    this.current = { id: job.id, cancel };
    const signal = AbortSignal.any([cancel.signal, this.stopping.signal]);
    try {
      await this.steps(job, signal);
    } catch (error) {
      // Stopped: it goes on at the next start.
      if (this.stopping.signal.aborted) return;
      await this.removeTraces(job);
      if (cancel.signal.aborted) return;
      await this.change(job, { state: 'failed', ended: now(), error: messageOf(error) });
      this.options.log(`job ${job.id} failed: ${messageOf(error)}`);
    } finally {
      this.current = undefined;
    }
  }

  private async steps(job: Job, signal: AbortSignal): Promise<void> {
    const { collection, log } = this.options;
    const folder = this.modelFolder(modelNameOf(job.id));
    if (!(await exists(folder))) {
      await this.change(job, { state: 'training', started: job.started ?? now() });
      await this.train(job, folder, signal);
    }
    signal.throwIfAborted();

    await this.change(job, { state: 'embedding' });
    await this.discardOtherCandidates(job.id);
    const candidate = await this.loadCandidate(folder, job.id);
    await collection.embedMissing(candidate, {
      share: EMBEDDING_SHARE,
      signal,
      onProgress: (done, total) => this.report({ done, total }),
    });

    await this.change(job, { state: 'judging' });
    this.report(undefined);
    // After a crash between the switch and the end, the candidate is live: there is nothing to compare it with any more.
    const isLive = collection.served().id === candidate.id;
    const verdict = (isLive && job.verdict) || (await this.judge(job, candidate, signal));
    signal.throwIfAborted();
    if (verdict.decision === 'activated') {
      if (this.current) this.current.isGoingLive = true;
      await this.alone(() => this.switchTo(candidate));
    }
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
    const { collection, command, threads, memoryBytes } = this.options;
    await mkdir(path.dirname(out), { recursive: true });
    const isBegun = await exists(this.trainingFolderOf(job.id));
    const folder = path.join(this.folderOf(job.id), 'data');
    const live = collection.generations().find(({ state }) => state === 'live')!;
    const data =
      (isBegun && (await readTrainingData(folder))) ||
      (await writeTrainingData(
        folder,
        this.sourceOf(live),
        job.request,
        await this.sentWith(job),
        collection,
      ));
    const args = [
      ...['--data', data.texts, '--out', out, '--model', data.model, '--threads', String(threads)],
      ...(data.pairs ? ['--pairs', data.pairs] : []),
      ...(data.dev ? ['--eval', `beir:${data.dev}`] : []),
      ...(isBegun ? ['--resume'] : []),
      ...recipeArguments(job.request),
    ];
    let stopWatching = (): void => undefined;
    let outgrown: string | undefined;
    const ending = await runFinetune(command, args, {
      signal,
      nice: BACKGROUND_NICE,
      onStart: async (pid) => {
        stopWatching = watchMemory(pid, memoryBytes, (bytes) => {
          outgrown = `training took ${mib(bytes)} MiB of memory, the limit is ${mib(memoryBytes)} MiB; a smaller batch takes less ("settings": {"batch": 32})`;
          process.kill(pid!, 'SIGKILL');
        });
      },
      onLine: () => undefined,
    }).finally(() => stopWatching());
    signal.throwIfAborted();
    if (outgrown !== undefined) throw new UserError('backend', outgrown);
    if (ending.status === 'failed') throw new UserError('backend', ending.message);
    if (ending.status === 'interrupted') throw new UserError('backend', 'training was stopped from outside');
  }

  private async sentWith({ request: { sent } }: Job): Promise<SentData> {
    return sent === undefined ? {} : readJson<SentData>(path.join(this.folder, sent));
  }

  /** Nothing of what a job was trained on is needed when it has ended. */
  private async removeData({ id, request: { sent } }: Job): Promise<void> {
    await rm(path.join(this.folderOf(id), 'data'), { recursive: true, force: true });
    if (sent !== undefined) await rm(path.join(this.folder, sent), { force: true });
  }

  /** What `finetune --model` takes for a generation's model. */
  private sourceOf(generation: Pick<GenerationInfo, 'model' | 'source' | 'job'>): string {
    return generation.job === undefined
      ? (generation.source ?? generation.model)
      : this.modelFolder(generation.model);
  }

  private async loadCandidate(folder: string, job: number): Promise<ServedGeneration> {
    const { collection, openModel } = this.options;
    const known = collection.generations().find((generation) => generation.job === job);
    if (known?.served) return collection.served(known.model);
    const inference = await openModel(folder, { background: true });
    // Trained once more, after a backup was restored in between.
    if (known && known.fingerprint !== inference.fingerprint) await collection.discard(known.id);
    try {
      const served = await collection.prepare({ inference, job });
      this.inBackground.add(served.id);
      return served;
    } catch (error) {
      await inference.close();
      if (error instanceof UserError && error.kind === 'exists')
        throw new UserError(
          'exists',
          'training changed nothing: of all weights those before the first step were the best on the queries that choose',
        );
      throw error;
    }
  }

  /** The model before the live one, and a candidate that waits: loaded behind the live one, so that a switch takes no time. */
  private async loadOthers(): Promise<void> {
    const { collection, log } = this.options;
    for (const generation of collection.generations()) {
      const { model, state, job, served } = generation;
      if (served || this.stopping.signal.aborted) continue;
      const waits = job !== undefined && this.listed.find(({ id }) => id === job)?.state === 'done';
      if (state !== 'retired' && !waits) continue;
      try {
        await this.loadOther(generation);
      } catch (error) {
        if (!this.stopping.signal.aborted) log(`${model} can't be switched to: ${messageOf(error)}`);
      }
    }
  }

  /** @throws UserError `fingerprint-mismatch` when its folder has another model now */
  private async loadOther(generation: GenerationInfo): Promise<void> {
    const { collection, openModel } = this.options;
    const { model, fingerprint, job } = generation;
    const inference = await openModel(this.sourceOf(generation));
    if (inference.fingerprint !== fingerprint) {
      await inference.close();
      throw new UserError('fingerprint-mismatch', `${model}: its model is another one now`);
    }
    const loaded = await collection.prepare({ inference, job });
    await collection.embedMissing(loaded, { share: EMBEDDING_SHARE, signal: this.stopping.signal });
  }

  private async discardOtherCandidates(job: number): Promise<void> {
    const { collection } = this.options;
    for (const { id, state, job: made } of collection.generations())
      if (state === 'building' && made !== job) await collection.discard(id);
    await this.sweep();
  }

  private async removeTraces(job: Job): Promise<void> {
    const { collection } = this.options;
    const generation = collection.generations().find((each) => each.job === job.id);
    if (generation && generation.state !== 'live') await collection.discard(generation.id);
    await rm(this.modelFolder(modelNameOf(job.id)), { recursive: true, force: true });
    await this.removeData(job);
    // What the trainer told stays, for whoever wants to know why.
    const training = this.trainingFolderOf(job.id);
    const names = await readdir(training).catch(() => []);
    for (const name of names)
      if (!TOLD.includes(name)) await rm(path.join(training, name), { recursive: true, force: true });
  }

  /** Removes models that no generation and no job under way needs. */
  private async sweep(): Promise<void> {
    const { collection } = this.options;
    const generations = collection.generations();
    for (const { id, state } of this.listed)
      if (ENDED_JOBS.includes(state) && !generations.some(({ job }) => job === id))
        await rm(this.modelFolder(modelNameOf(id)), { recursive: true, force: true });
  }

  private report(progress: JobProgress | undefined): void {
    if (this.current) this.current.progress = progress;
  }

  private async change(job: Job, change: JobChange): Promise<void> {
    // Cancelled stays cancelled, whatever step notices it.
    if (job.state === 'cancelled') return;
    // At once, so that of two changes the second sees the first.
    Object.assign(job, change);
    await this.options.collection.changeJob(job.id, change);
  }
}

function now(): string {
  return new Date().toISOString();
}

function mib(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(0);
}
