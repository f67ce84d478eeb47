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

describe("a job's folders", () => {
  it('are claimed when a trainer that nobody knows of is done with them', async () => {
    const dataDir = await mkdtemp(path.join(tmpdir(), 'job-folders-'));
    try {
      const folders = new JobFolders(dataDir);
      const job = { id: 1, created: '2026-11-30T00:00:00.000Z' } as Job;
      const { signal } = new AbortController();
      await folders.claim(job, signal);
      // Its server was killed before it had noted it.
      const unlock = await lockRun(folders.training(job.id), assert.fail);
      let isClaimed = false;
      const claiming = folders.claim(job, signal).then(() => (isClaimed = true));
      await sleep(50);
      assert.equal(isClaimed, false);
      await assert.rejects(folders.claim(job, AbortSignal.abort(new Error('told to stop'))), /told to stop/);
      unlock();
      await claiming;
    } finally {
      await rm(dataDir, { recursive: true });
    }
  });

  it("of another database's job of the same number go when its trainer is done with them", async () => {
    const dataDir = await mkdtemp(path.join(tmpdir(), 'job-folders-'));
    try {
      const folders = new JobFolders(dataDir);
      const job = { id: 1, created: '2026-11-30T00:00:00.000Z' } as Job;
      const { signal } = new AbortController();
      await folders.claim(job, signal);
      const unlock = await lockRun(folders.training(job.id), assert.fail);
      const claiming = folders.claim({ ...job, created: '2026-11-30T01:00:00.000Z' }, signal);
      await sleep(50);
      assert.ok(existsSync(folders.training(job.id)));
      unlock();
      await claiming;
      assert.equal(existsSync(folders.training(job.id)), false);
    } finally {
      await rm(dataDir, { recursive: true });
    }
  });
});
