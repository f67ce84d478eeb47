import type { TrainableCollection } from '../search/collection.js';
import { ENDED_JOBS, type JobRecord } from '../search/job-table.js';
import type { FinetuneRequest } from './request.js';
import type { Verdict } from './verdict.js';

/** A training job. */
export type Job = JobRecord<FinetuneRequest, Verdict>;

/** All jobs, the latest last. */
export async function jobsIn(collection: TrainableCollection): Promise<Job[]> {
  return (await collection.jobs()) as Job[];
}

export async function jobIn(collection: TrainableCollection, id: number): Promise<Job | undefined> {
  return (await jobsIn(collection)).find((job) => job.id === id);
}

export function hasEnded({ state }: Pick<Job, 'state'>): boolean {
  return ENDED_JOBS.includes(state);
}

/** A candidate's name, and its model folder's. */
export function modelNameOf(job: number): string {
  return `finetuned-${job}`;
}

/** ISO 8601. */
export function now(): string {
  return new Date().toISOString();
}
