import { createHash, type Hash } from 'node:crypto';

import type { Metadata } from '../search/collection.js';
import { toBlob } from '../search/store.js';
import type { Keyed, StoreReader } from './stores.js';
import { contentsOf, feedbackOf, keysOf, ROWS } from './sync.js';

/** What a store holds of one kind, all of it read. */
export interface PartDigest {
  /** `documents`, `feedback`, `jobs`, or `vectors of MODEL (STATE)`. */
  part: string;
  count: number;
  sha256: string;
}

/** @param pass is told how many rows were read */
export async function digestsOf(store: StoreReader, pass: (rows: number) => void): Promise<PartDigest[]> {
  const { generations, jobs } = await contentsOf(store);
  const digests = [
    await digest('documents', async function* (hash) {
      for await (const rows of pagesOf('documents', (keys) => store.documents(keys))) {
        for (const { key, id, text, metadata } of rows) addLine(hash, [key, id, text, sorted(metadata)]);
        yield rows.length;
      }
    }),
  ];
  for (const generation of generations) {
    const { id, model, fingerprint, state } = generation;
    digests.push(
      await digest(`vectors of ${model} (${state})`, async function* (hash) {
        addLine(hash, [fingerprint]);
        for await (const rows of pagesOf({ vectorsOf: id }, (keys) => store.vectors(generation, keys))) {
          for (const { key, vector } of rows) {
            addLine(hash, [key]);
            // -0 is 0, and what one store makes of the other.
            hash.update(toBlob(vector.map((x) => x + 0)));
          }
          yield rows.length;
        }
      }),
    );
  }
  digests.push(
    await digest('feedback', async function* (hash) {
      for await (const rows of feedbackOf(store)) {
        for (const { query, id, relevant, part, created } of rows)
          addLine(hash, [query, id, relevant, part, created]);
        yield rows.length;
      }
    }),
    await digest('jobs', async function* (hash) {
      for (const { id, request, changes, state, created, started, ended, error, verdict } of jobs)
        addLine(hash, [id, request, changes, state, created, started, ended, error, verdict]);
      yield jobs.length;
    }),
  );
  return digests;

  async function* pagesOf<T>(
    of: Keyed,
    read: (keys: readonly number[]) => Promise<T[]>,
  ): AsyncGenerator<T[]> {
    for await (const keys of keysOf(store, of, ROWS)) {
      const rows = await read(keys);
      yield rows;
      pass(rows.length);
    }
  }
}

async function digest(part: string, read: (hash: Hash) => AsyncGenerator<number>): Promise<PartDigest> {
  const hash = createHash('sha256');
  let count = 0;
  for await (const rows of read(hash)) count += rows;
  return { part, count, sha256: hash.digest('hex') };
}

function addLine(hash: Hash, values: readonly unknown[]): void {
  hash.update(`${JSON.stringify(values)}\n`);
}

/** PostgreSQL's jsonb keeps no order of fields. */
function sorted(metadata: Metadata | undefined): unknown {
  return metadata && Object.entries(metadata).sort(([a], [b]) => (a < b ? -1 : 1));
}
