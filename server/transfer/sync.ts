import type { Generation } from '../search/store.js';
import { ENDED_JOBS } from '../search/job-table.js';
import type { Keyed, KeptFeedback, KeptJob, StoreReader, StoreWriter } from './stores.js';

/** Keys that are compared at a time. */
const KEYS = 4096;
/** Rows that are read and written at a time: what is in memory of a collection of any size. */
export const ROWS = 256;

export type OnProgress = (done: number, total: number) => void;

/** What of a collection is worth taking along: all but jobs under way and what they have made so far. */
export interface Contents {
  generations: Generation[];
  jobs: KeptJob[];
  jobsLeft: number;
}

export async function contentsOf(store: StoreReader): Promise<Contents> {
  const all = await store.jobs();
  const jobs = all.filter(({ state }) => ENDED_JOBS.includes(state));
  const left = new Set(all.filter((job) => !jobs.includes(job)).map(({ id }) => id));
  const generations = (await store.generations()).filter(
    ({ job, state }) => state !== 'building' || job === null || !left.has(job),
  );
  return { generations, jobs, jobsLeft: left.size };
}

/**
 * Makes a store hold what another one does, wherever it stands: at nothing, where an earlier call was cut off, or at what the
 * other one held some time ago.
 *
 * @returns documents that were added and removed
 * @throws UserError `too-large` before anything is written, when it can't hold them
 */
export async function sync(
  from: StoreReader,
  to: StoreWriter,
  onProgress?: OnProgress,
): Promise<{ added: number; removed: number }> {
  const { generations, jobs } = await contentsOf(from);
  to.checkRoom(generations, await from.count('documents'));
  await to.setGenerations(generations);
  const total = await countRows(from, generations);
  let done = 0;
  const pass = (keys: number): void => onProgress?.((done += keys), total);

  // First what is gone: an id has one document, and its new version may have the lower key.
  let removed = 0;
  for await (const keys of keysOf(to, 'documents')) {
    const gone = without(keys, await from.present('documents', keys));
    for (const rows of slices(gone, ROWS)) await to.removeDocuments(rows);
    removed += gone.length;
  }
  let added = 0;
  for await (const keys of lacking(from, to, 'documents', pass)) {
    await to.addDocuments(await from.documents(keys));
    added += keys.length;
  }
  for (const generation of generations)
    for await (const keys of lacking(from, to, { vectorsOf: generation.id }, pass))
      await to.addVectors(generation, await from.vectors(generation, keys));
  await to.replaceFeedback(feedbackOf(from));
  await to.replaceJobs(jobs);
  await to.setLastKeys(await from.lastKeys());
  return { added, removed };
}

export async function countRows(store: StoreReader, generations: readonly Generation[]): Promise<number> {
  let rows = await store.count('documents');
  for (const { id } of generations) rows += await store.count({ vectorsOf: id });
  return rows;
}

export async function* keysOf(store: StoreReader, of: Keyed, limit = KEYS): AsyncGenerator<number[]> {
  for (let after = 0; ;) {
    const keys = await store.keys(of, after, limit);
    if (keys.length === 0) return;
    yield keys;
    after = keys[keys.length - 1];
  }
}

export async function* feedbackOf(store: StoreReader): AsyncGenerator<KeptFeedback[]> {
  for (let after = { query: '', id: '' }; ;) {
    const page = await store.feedback(after, ROWS);
    if (page.length === 0) return;
    yield page;
    after = page[page.length - 1];
  }
}

/** Keys that one store has and the other lacks, some at a time. @param pass is told how many keys are dealt with */
async function* lacking(
  from: StoreReader,
  to: StoreReader,
  of: Keyed,
  pass: (keys: number) => void,
): AsyncGenerator<number[]> {
  for await (const keys of keysOf(from, of)) {
    const missing = without(keys, await to.present(of, keys));
    pass(keys.length - missing.length);
    for (const rows of slices(missing, ROWS)) {
      yield rows;
      pass(rows.length);
    }
  }
}

function without(keys: readonly number[], others: readonly number[]): number[] {
  const set = new Set(others);
  return keys.filter((key) => !set.has(key));
}

function* slices<T>(items: readonly T[], size: number): Generator<T[]> {
  for (let i = 0; i < items.length; i += size) yield items.slice(i, i + size);
}
