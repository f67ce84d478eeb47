import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { lockRun } from '../../base/run-lock.js';
import { JobFolders } from '../../server/jobs/folders.js';
import type { Job } from '../../server/jobs/job.js';

const JOB = { id: 1, created: '2026-11-30T00:00:00.000Z' } as Job;
const { signal } = new AbortController();

/** With the folders of a job that is begun. */
async function withFolders(use: (folders: JobFolders) => Promise<void>): Promise<void> {
  const dataDir = await mkdtemp(path.join(tmpdir(), 'job-folders-'));
  try {
    const folders = new JobFolders(dataDir);
    await folders.claim(JOB, signal);
    await use(folders);
  } finally {
    await rm(dataDir, { recursive: true });
  }
}

describe("a job's folders", () => {
  it('are claimed when a trainer that nobody knows of is done with them', () =>
    withFolders(async (folders) => {
      // Its server was killed before it had noted it.
      const unlock = await lockRun(folders.training(JOB.id), assert.fail);
      let isClaimed = false;
      const claiming = folders.claim(JOB, signal).then(() => (isClaimed = true));
      await sleep(50);
      assert.equal(isClaimed, false);
      await assert.rejects(folders.claim(JOB, AbortSignal.abort(new Error('told to stop'))), /told to stop/);
      unlock();
      await claiming;
    }));

  it("of another database's job of the same number go when its trainer is done with them", () =>
    withFolders(async (folders) => {
      const unlock = await lockRun(folders.training(JOB.id), assert.fail);
      const claiming = folders.claim({ ...JOB, created: '2026-11-30T01:00:00.000Z' }, signal);
      await sleep(50);
      assert.ok(existsSync(folders.training(JOB.id)));
      unlock();
      await claiming;
      assert.equal(existsSync(folders.training(JOB.id)), false);
    }));
});
