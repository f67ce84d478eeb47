import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { it } from 'node:test';

import { withFolderTarget } from '../../server/search/folder-transfer.js';
import type { Generation } from '../../server/search/store.js';
import type { StoreReader, TransferSource } from '../../server/transfer/stores.js';
import { transfer } from '../../server/transfer/transfer.js';

const live = { id: 1, model: 'm', dimensions: 384, state: 'live', job: null } as Generation;

it('a migration into a folder that could not hold the vectors is refused before anything is copied', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'sentence-jepa-folder-transfer-'));
  const documents = 3_000_000;
  // Whatever else is read fails.
  const reader = {
    jobs: async () => [],
    generations: async () => [live],
    count: async () => documents,
  } as Partial<StoreReader> as StoreReader;
  const source: TransferSource = {
    name: 'elsewhere',
    hold: async () => true,
    snapshot: (use) => use(reader),
  };
  try {
    await withFolderTarget(folder, source.name, async ({ name, store, finish }) => {
      await assert.rejects(transfer(source, { name, store, finish }), {
        kind: 'too-large',
        message: /^expected at most 27\d{5} documents, .* came 3000000/,
      });
      assert.deepEqual(await store.generations(), []);
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
