import { randomUUID } from 'node:crypto';
import { mkdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';

import { exists, readJson, writeFileAtomic } from '../../base/files.js';
import type { JobFolders } from './folders.js';
import type { Job } from './job.js';
import type { SentData } from './request.js';
import { progressOf, TrainingLog, type TrainingProgress } from './training-log.js';

/** Where a job stands, beyond its record. */
export interface JobProgress {
  training?: TrainingProgress;
  embedding?: Embedding;
}

/** Documents that a candidate has vectors of. */
export interface Embedding {
  done: number;
  total: number;
}

/** The trainer's log as it grows. */
export interface JobLog {
  /** Lines that came since the last call. */
  next(): Promise<string[]>;
}

/** What passes between those who ask for jobs and the process that runs them. */
export interface JobBoard {
  /** Whether other processes have it, too: any of them may be asked, and of those that run jobs one does at a time. */
  readonly isShared: boolean;
  /**
   * Works when no other process does.
   * @param signal gives up waiting, and ends the turn
   * @param work its signal says that the turn ends, or was lost
   */
  inTurn(signal: AbortSignal, work: (signal: AbortSignal) => Promise<void>): Promise<void>;

  /** Keeps what came with a request. @returns what it is found by */
  keep(data: SentData): Promise<string>;
  kept(name: string): Promise<SentData>;
  forget(name: string): Promise<void>;

  /** Passes on what the trainer tells, until it is stopped, when all of it is, or the turn is lost. */
  follow(id: number): { stop(): Promise<void> };
  tellEmbedding(id: number, embedding: Embedding): Promise<void>;
  progress(job: Pick<Job, 'id' | 'state'>): Promise<JobProgress>;
  log(id: number): JobLog;
  /** HTML; undefined where the trainer has made none. */
  report(id: number): Promise<string | undefined>;
}

/** Of the only process that has the collection open: what the trainer writes is read where it lies. */
export class FolderBoard implements JobBoard {
  readonly isShared = false;
  private readonly embedding = new Map<number, Embedding>();

  constructor(private readonly folders: JobFolders) {}

  inTurn(signal: AbortSignal, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    return work(signal);
  }

  async keep(data: SentData): Promise<string> {
    const name = `sent-${randomUUID()}.json`;
    await mkdir(this.folders.common, { recursive: true });
    await writeFileAtomic(this.fileOf(name), JSON.stringify(data));
    return name;
  }

  kept(name: string): Promise<SentData> {
    return readJson<SentData>(this.fileOf(name));
  }

  async forget(name: string): Promise<void> {
    await rm(this.fileOf(name), { force: true });
  }

  follow(): { stop(): Promise<void> } {
    return { stop: async () => undefined };
  }

  async tellEmbedding(id: number, embedding: Embedding): Promise<void> {
    this.embedding.set(id, embedding);
  }

  async progress({ id, state }: Pick<Job, 'id' | 'state'>): Promise<JobProgress> {
    if (state === 'training') return { training: progressOf(await this.log(id).next()) };
    return state === 'embedding' ? { embedding: this.embedding.get(id) } : {};
  }

  log(id: number): JobLog {
    return new TrainingLog(logFile(this.folders, id));
  }

  report(id: number): Promise<string | undefined> {
    return readReport(this.folders, id);
  }

  private fileOf(name: string): string {
    return path.join(this.folders.common, name);
  }
}

export function logFile(folders: JobFolders, id: number): string {
  return path.join(folders.training(id), 'log.jsonl');
}

export async function readReport(folders: JobFolders, id: number): Promise<string | undefined> {
  const file = path.join(folders.training(id), 'report.html');
  return (await exists(file)) ? readFile(file, 'utf8') : undefined;
}
