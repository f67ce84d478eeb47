import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

import type { Inference } from '../../server/batching/inference.js';
import type { Observer } from '../../server/observer.js';
import { openPostgresCollection } from '../../server/postgres/open-collection.js';
import type { TrainableCollection } from '../../server/search/collection.js';
import { openCollection } from '../../server/search/open-collection.js';
import { createDatabase } from './postgres-server.js';

/**
 * The PostgreSQL that servers of the HTTP tests keep their collections in, in databases made for them; in folders
 * without. postgres-http.test.ts runs these tests with it.
 */
const postgres = process.env.SENTENCE_JEPA_TEST_STORE;
export const isOnPostgres = postgres !== undefined;
/** By the folder that a collection would be in. */
const databases = new Map<string, string>();

export interface TestCollectionOptions {
  inference: Inference;
  /** One that was opened before is found again. */
  dataDir: string;
  source?: string;
  observer?: Pick<Observer, 'searched'>;
}

/** Opens a collection on the store that is tried. */
export async function openOnTestStore(options: TestCollectionOptions): Promise<TrainableCollection> {
  if (!postgres) return openCollection(options);
  const { dataDir } = options;
  const url = databases.get(dataDir) ?? (await createDatabase(postgres));
  databases.set(dataDir, url);
  return openPostgresCollection({ ...options, url });
}

export interface TestCollection extends TrainableCollection {
  /** Sizes of the upserts, in order. */
  upserts: number[];
  /** While set, `upsert` waits for it. */
  gate?: Promise<void>;
  closed: boolean;
  /** What is stored, by id. */
  texts(): Promise<Map<string, string>>;
  clear(): Promise<void>;
}

/** An empty collection that a test can look into and hold up. */
export async function openTestCollection(inference: Inference): Promise<TestCollection> {
  const folder = await mkdtemp(path.join(tmpdir(), 'sentence-jepa-http-'));
  const collection = await openOnTestStore({ inference, dataDir: path.join(folder, 'data') });
  const upsert = collection.upsert.bind(collection);
  const close = collection.close.bind(collection);
  const test: TestCollection = Object.assign(collection, {
    upserts: [],
    gate: undefined,
    closed: false,
    async upsert(...[documents, signal]: Parameters<typeof upsert>) {
      test.upserts.push(documents.length);
      await test.gate;
      signal?.throwIfAborted();
      return upsert(documents, signal);
    },
    async texts() {
      const documents = await test.list({ limit: 1_000_000 });
      return new Map(documents.map(({ id, text }) => [id, text]));
    },
    async clear() {
      for (const id of (await test.texts()).keys()) await test.delete(id);
    },
    async close() {
      await close();
      test.closed = true;
      await rm(folder, { recursive: true, force: true });
    },
  });
  return test;
}
