import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';

import { msWithoutCore } from '../../base/run-delay.js';

describe('the wait for a core', { skip: existsSync('/proc/self/schedstat') ? false : 'no schedstat' }, () => {
  it('grows while more threads are ready than there are cores', async () => {
    const before = msWithoutCore();
    const threads = Array.from(
      { length: availableParallelism() + 1 },
      () => new Worker('for (;;);', { eval: true }),
    );
    try {
      while (msWithoutCore() < before + 20) await delay(10);
    } finally {
      await Promise.all(threads.map((thread) => thread.terminate()));
    }
    assert.ok(before >= 0);
  });
});
