import assert from 'node:assert/strict';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';

import { UserError } from '../../base/errors.js';
import { emptyRun, lockRun } from '../../trainer/run-lock.js';

describe("the lock of a run's folder", () => {
  let scratch: string;
  let folder: string;
  const notes: string[] = [];
  const onNote = (note: string): void => void notes.push(note);
  beforeEach(async () => {
    scratch = await mkdtemp(path.join(tmpdir(), 'run-lock-'));
    folder = path.join(scratch, 'out', 'x.training');
    notes.length = 0;
  });
  afterEach(() => rm(scratch, { recursive: true }));

  it('is waited for, and says so once', async () => {
    const unlock = await lockRun(folder, { onNote });
    let isOver = false;
    const next = lockRun(folder, { onNote }).then((release) => ((isOver = true), release));
    while (notes.length === 0) await new Promise((resolve) => setImmediate(resolve));
    assert.equal(isOver, false);
    unlock();
    (await next)();
    assert.deepEqual(notes, [`${folder}: another training is at work there; it is waited for, 60 s at most`]);
  });

  it('is refused when the other one goes on, and not waited for by one that is told to stop', async () => {
    const unlock = await lockRun(folder, { onNote });
    await assert.rejects(
      lockRun(folder, { onNote, waitSeconds: 0.1 }),
      (error) => error instanceof UserError && error.kind === 'unavailable' && /at work/.test(error.message),
    );
    const stop = new AbortController();
    const waiting = lockRun(folder, { onNote, signal: stop.signal });
    stop.abort(new Error('told to stop'));
    await assert.rejects(waiting);
    unlock();
  });

  it('leaves what a run has made, and no folder where there is nothing', async () => {
    (await lockRun(folder, { onNote }))();
    assert.equal(existsSync(folder), false);
    const unlock = await lockRun(folder, { onNote });
    writeFileSync(path.join(folder, 'log.jsonl'), '');
    unlock();
    assert.deepEqual(readdirSync(folder), ['log.jsonl']);
  });

  it('stays when what an earlier run has left is removed', async () => {
    const unlock = await lockRun(folder, { onNote });
    writeFileSync(path.join(folder, 'log.jsonl'), '');
    await emptyRun(folder);
    await assert.rejects(lockRun(folder, { onNote, waitSeconds: 0 }), /another training/);
    assert.deepEqual(readdirSync(folder), ['lock']);
    unlock();
  });
});
