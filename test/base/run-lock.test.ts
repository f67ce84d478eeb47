import assert from 'node:assert/strict';
import { readdirSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { UserError } from '../../base/errors.js';
import { emptyRun, lockRun, untilRunIsFree } from '../../base/run-lock.js';

describe("the lock of a run's folder", () => {
  let scratch: string;
  let folder: string;
  beforeEach(async () => {
    scratch = await mkdtemp(path.join(tmpdir(), 'run-lock-'));
    folder = path.join(scratch, 'out', 'x.training');
  });
  afterEach(() => rm(scratch, { recursive: true }));

  const lock = (): Promise<() => void> => lockRun(folder, assert.fail);
  const isAtWork = (error: unknown): boolean =>
    error instanceof UserError && error.kind === 'unavailable' && /at work there/.test(error.message);

  it('is had by one at a time', async () => {
    const unlock = await lock();
    await assert.rejects(lock(), isAtWork);
    unlock();
    (await lock())();
  });

  it('is waited for, but not by who is told to stop', async () => {
    await untilRunIsFree(folder);
    const unlock = await lock();
    let isFree = false;
    const waiting = untilRunIsFree(folder).then(() => (isFree = true));
    const stop = new AbortController();
    const stopped = untilRunIsFree(folder, stop.signal);
    stop.abort();
    await stopped;
    await sleep(10);
    assert.equal(isFree, false);
    unlock();
    await waiting;
    assert.deepEqual(readdirSync(folder), ['.lock']);
  });

  it('stays when what an earlier run has left is removed', async () => {
    const unlock = await lock();
    writeFileSync(path.join(folder, 'log.jsonl'), '');
    await emptyRun(folder);
    await assert.rejects(lock(), isAtWork);
    unlock();
    assert.deepEqual(readdirSync(folder), ['.lock']);
  });
});
