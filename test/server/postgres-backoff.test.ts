import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { Backoff } from '../../server/postgres/backoff.js';

describe('backoff', () => {
  it('tries after 1 s, then after twice as long up to its bound, and fails as before in between', async () => {
    let now = 0;
    let tries = 0;
    const backoff = new Backoff(5_000, () => now);
    const fail = (): Promise<void> =>
      assert.rejects(
        backoff.run(() => Promise.reject(new Error(`try ${++tries}`))),
        (error: Error) => error.message === `try ${tries}`,
      );
    await fail();
    for (const [i, wait] of [1_000, 2_000, 4_000, 5_000, 5_000].entries()) {
      now += wait - 1;
      await fail();
      assert.equal(tries, i + 1);
      now += 1;
      await fail();
      assert.equal(tries, i + 2);
    }
    now += 5_000;
    assert.equal(await backoff.run(() => Promise.resolve(7)), 7);
    await fail();
    now += 1_000;
    assert.equal(backoff.isWaiting, false, 'what has worked begins with 1 s again');
  });
});
