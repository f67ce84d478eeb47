import { setTimeout as sleep } from 'node:timers/promises';

import { messageOf, UserError } from '../../base/errors.js';
import type { IngestWorker } from '../search/ingests.js';
import type { Database } from './database.js';
import { beginBatch, giveUpBatch, type QueuedDocument } from './ingest-documents.js';
import type { IngestJob, IngestJobs, IngestTimes } from './ingest-jobs.js';

/** Batches under way at a time: one is embedded while another is stored. */
const AT_A_TIME = 2;
/** Says so many times that it is still at a batch before that would be given to another worker. */
const SIGNS_OF_LIFE = 5;
const WAIT_FIRST_MS = 500;
const WAIT_MOST_MS = 15_000;

export interface BatchWorkerOptions {
  database: Database;
  jobs: IngestJobs;
  times: IngestTimes;
  /** While it can't, it takes nothing. */
  canStore(): boolean;
  /** Embeds and stores documents of an ingest, those that still wait. */
  store(ingest: number, documents: readonly QueuedDocument[], signal: AbortSignal): Promise<void>;
  log(message: string): void;
}

/**
 * Takes batches until it is closed. What is stored and what waits change in one transaction, so it does no harm when two workers
 * have the same batch, or one has it twice: killed before that transaction nothing of it is stored, killed behind it
 * nothing is left to do.
 */
export class BatchWorker implements IngestWorker {
  private readonly stopping = new AbortController();
  /** Leaves to others what is under way. */
  private readonly leaving = new AbortController();
  private readonly underWay = new Set<string>();
  private readonly signs: NodeJS.Timeout;
  private readonly working: Promise<unknown>;
  private complaint: string | undefined;

  constructor(private readonly options: BatchWorkerOptions) {
    const { expireSeconds } = options.times;
    this.signs = setInterval(
      // Where PostgreSQL is away, it gives nothing to others either.
      () => void options.jobs.stillAt([...this.underWay]).catch(() => undefined),
      (1000 * expireSeconds) / SIGNS_OF_LIFE,
    );
    const turns = Array.from({ length: AT_A_TIME }, () => this.repeat(() => this.takeOne()));
    this.working = Promise.all([...turns, this.repeat(() => this.bury())]);
  }

  async close(drainSeconds: number): Promise<void> {
    this.stopping.abort();
    const leave = setTimeout(() => this.leaving.abort(), 1000 * drainSeconds);
    await this.working;
    clearTimeout(leave);
    clearInterval(this.signs);
    await this.options.jobs.close();
  }

  /** @param turn resolves with whether there is more to do at once */
  private async repeat(turn: () => Promise<boolean>): Promise<void> {
    const { signal } = this.stopping;
    while (!signal.aborted) {
      const isMore = await turn().catch((error: unknown) => this.complain(messageOf(error)));
      if (!isMore) await sleep(this.options.times.pollMs, undefined, { signal }).catch(() => undefined);
    }
  }

  private async takeOne(): Promise<boolean> {
    const { jobs, canStore, log } = this.options;
    const job = canStore() ? await jobs.take() : undefined;
    if (!job) return false;
    this.underWay.add(job.batch);
    try {
      await this.work(job);
      await this.patiently(() => jobs.complete(job));
    } catch (error) {
      // What is left is given to another worker when this one has not been heard of for a while.
      if (this.leaving.signal.aborted) return false;
      log(`ingest ${job.ingest}, batch ${job.batch}: ${messageOf(error)}`);
      await this.patiently(() => jobs.fail(job, messageOf(error)));
    } finally {
      this.underWay.delete(job.batch);
    }
    return true;
  }

  private async work({ ingest, batch }: IngestJob): Promise<void> {
    const { database, store, canStore } = this.options;
    const documents = await this.patiently(() => beginBatch(database, ingest, batch));
    if (documents.length === 0) return;
    await this.patiently(() => store(ingest, documents, this.leaving.signal), canStore);
  }

  private async bury(): Promise<boolean> {
    const { jobs, database } = this.options;
    await jobs.buryDead(({ ingest, batch }, reason) => giveUpBatch(database, ingest, batch, reason));
    return false;
  }

  /**
   * What fails because something is away or too busy is no failure of the batch: it is tried until it is back.
   *
   * @param isOurs while not, somebody else may be able to
   */
  private async patiently<T>(work: () => Promise<T>, isOurs = (): boolean => true): Promise<T> {
    for (let wait = WAIT_FIRST_MS; ; wait = Math.min(2 * wait, WAIT_MOST_MS))
      try {
        const result = await work();
        this.complaint = undefined;
        return result;
      } catch (error) {
        if (!isPassing(error) || !isOurs()) throw error;
        this.complain(error.message);
        await sleep(wait, undefined, { signal: this.leaving.signal });
      }
  }

  private complain(reason: string): false {
    if (reason !== this.complaint) this.options.log(reason);
    this.complaint = reason;
    return false;
  }
}

function isPassing(error: unknown): error is UserError {
  return error instanceof UserError && ['unavailable', 'overloaded', 'not-ready'].includes(error.kind);
}
