import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { MemoryGuard } from '../../server/memory-guard.js';
import { call, post, startTestServer } from './http-support.js';

function guarded(limit: number) {
  const state = { bytes: 0, forgotten: 0, collected: 0 };
  const guard = new MemoryGuard(limit, {
    residentBytes: () => state.bytes,
    forget: () => state.forgotten++,
    collectGarbage: () => state.collected++,
  });
  return { state, guard };
}

describe('the limit of memory', () => {
  it('empties caches first, and refuses when that was not enough, until it is', () => {
    const { state, guard } = guarded(3 * 2 ** 20);
    state.bytes = 3 * 2 ** 20;
    guard.sample();
    guard.check();
    assert.equal(state.forgotten, 0);
    state.bytes++;
    guard.sample();
    guard.check();
    assert.deepEqual([state.forgotten, state.collected], [1, 1]);
    guard.sample();
    assert.throws(() => guard.check(), {
      kind: 'overloaded',
      message: /limit of memory \(3 MiB, --max-memory-mib\)/,
      retryAfter: 5,
    });
    state.bytes--;
    guard.sample();
    guard.check();
  });

  it('frees what can be freed again and again while it lasts, but not each time', () => {
    const { state, guard } = guarded(1);
    state.bytes = 2;
    for (let i = 0; i < 21; i++) guard.sample();
    assert.deepEqual([state.forgotten, state.collected], [3, 3]);
  });

  it('collects what V8 holds', () => {
    let forgotten = 0;
    const guard = new MemoryGuard(1, { forget: () => forgotten++ });
    guard.sample();
    guard.sample();
    assert.equal(forgotten, 1);
    assert.throws(() => guard.check(), { kind: 'overloaded' });
  });

  it('is asked for before work is taken, and does not hide how the server is', async () => {
    // No process is this small.
    const test = await startTestServer({ maxMemoryMib: 1 });
    let forgotten = 0;
    test.inference.forget = () => forgotten++;
    try {
      const refused = async () => (await post(`${test.url}/embed`, { inputs: 'a' })).status === 429;
      while (!(await refused()));
      assert.equal(forgotten, 1);
      const search = await call(`${test.url}/search?q=a`);
      assert.deepEqual([search.status, search.headers.get('retry-after')], [429, '5']);
      for (const path of ['/health', '/ready', '/info', '/documents'])
        assert.equal((await call(test.url + path)).status, 200, path);
      assert.match((await call(`${test.url}/metrics`)).text, /^sentence_jepa_memory_exceeded 1$/m);
    } finally {
      await test.server.close();
    }
  });
});
