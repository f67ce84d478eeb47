import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { UserError } from '../../base/errors.js';
import type { Inference } from '../../server/batching/inference.js';
import { ownModel } from '../../server/jobs/folders.js';
import { hasEnded, type Job } from '../../server/jobs/job.js';
import { Jobs, type JobsOptions } from '../../server/jobs/jobs.js';
import type { FinetuneRequest } from '../../server/jobs/request.js';
import type { TrainableCollection } from '../../server/search/collection.js';
import { removeFolder } from '../support/remove-folder.js';
import { fakeInference } from './fake-inference.js';
import { openOnTestStore } from './test-collection.js';

export const LIVE = 'beginner';
const DIMENSIONS = 64;

/**
 * An encoder by what it reads of a text: the first one overlooks things of odd numbers, a better one overlooks
 * nothing, a worse one knows no words, only whole texts.
 */
export function encoderNamed(name: string, behave: string): Inference {
  const read = (text: string): string =>
    behave === 'worse'
      ? createHash('sha256').update(text).digest('hex')
      : behave === 'beginner'
        ? text.replace(/(subject|thing)\d*[13579]\b/g, 'something')
        : text;
  const seed = behave === 'slow' || behave === 'held' ? 'better' : behave;
  const words = fakeInference({ dimensions: DIMENSIONS, seed: 'words' });
  return {
    ...words,
    name,
    fingerprint: createHash('sha256').update(`${seed}${name}`).digest('hex'),
    encode: (texts, options) => words.encode(texts.map(read), options),
  };
}

export function documentsOf(n: number): { id: string; text: string }[] {
  return Array.from({ length: n }, (_, i) => ({
    id: `d${i}`,
    text: `question about subject${i} and some thing${i}`,
  }));
}

export function feedbackOf(n: number): { query: string; id: string; relevant: boolean }[] {
  return Array.from({ length: n }, (_, i) => ({
    query: `how does subject${i} do with thing${i}`,
    id: `d${i}`,
    relevant: true,
  }));
}

export interface Around {
  dataDir: string;
  collection: TrainableCollection;
  jobs: Jobs;
  close(): Promise<void>;
}

/** What a server has: a collection and jobs, with the trainer made up. */
export async function openAround(
  dataDir = mkdtempSync(path.join(tmpdir(), 'jobs-')),
  options: Partial<JobsOptions> & { model?: Inference } = {},
): Promise<Around> {
  const { model = encoderNamed(LIVE, 'beginner'), ...rest } = options;
  const collection = await openOnTestStore({ dataDir, inference: model, source: LIVE });
  const jobs = new Jobs({
    collection,
    dataDir,
    command: [process.execPath, fileURLToPath(new URL('./fake-trainer.js', import.meta.url))],
    presets: ['context', 'pairs'],
    openModel: async (folder) => openFake(folder),
    modelOf: async (generation) => ownModel(generation, dataDir),
    threads: 1,
    memoryBytes: 2 ** 32,
    log: () => undefined,
    ...rest,
  });
  jobs.work();
  return {
    dataDir,
    collection,
    jobs,
    async close() {
      await jobs.close();
      await collection.close();
    },
  };
}

export function openFake(model: string): Inference {
  if (model === LIVE) return encoderNamed(LIVE, 'beginner');
  try {
    const { behave } = JSON.parse(readFileSync(path.join(model, 'model.json'), 'utf8')) as { behave: string };
    return encoderNamed(path.basename(model), behave);
  } catch (error) {
    throw new UserError('not-found', `${model}: no model`, { cause: error });
  }
}

export function requestOf(behave: string, more: Partial<FinetuneRequest> = {}): FinetuneRequest {
  return { settings: { behave }, feedback: true, activate: 'manual', margin: 0, ...more };
}

/** Whose training does not end before the file is there. */
export function heldUntil(file: string, more: Partial<FinetuneRequest> = {}): FinetuneRequest {
  return requestOf('held', { settings: { behave: 'held', until: file }, ...more });
}

/** Waits until a job has come so far, or has ended. */
export async function until(jobs: Jobs, id: number, ...states: Job['state'][]): Promise<Job> {
  const wanted = states.length > 0 ? states : (['done', 'failed', 'cancelled'] as const);
  for (;;) {
    const job = await jobs.job(id);
    if ((wanted as readonly string[]).includes(job.state)) return job;
    if (hasEnded(job)) throw new Error(`job ${id} ended: ${job.state} ${job.error ?? ''}`);
    await sleep(10);
  }
}

export async function withAround(
  use: (around: Around) => Promise<void>,
  options?: Parameters<typeof openAround>[1],
): Promise<void> {
  const around = await openAround(undefined, options);
  try {
    await use(around);
  } finally {
    await around.close();
    await removeFolder(around.dataDir);
  }
}
