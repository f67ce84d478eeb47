import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';

import type { Hit, ServedGeneration } from '../../server/search/collection.js';
import { Serving } from '../../server/search/serving.js';
import { fakeInference } from './fake-inference.js';

/** Two generations, whose vectors are made when the test says so. */
class Two extends Serving {
  protected readonly known = [];
  /** Ends what is under way. */
  readonly calls: (() => void)[] = [];

  constructor() {
    super();
    const [live, other] = [1, 2].map((id): ServedGeneration => {
      return { id, model: `model ${id}`, inference: fakeInference() };
    });
    this.live = live;
    for (const served of [live, other]) this.loaded.set(served.id, served);
  }

  search(): Promise<Hit[]> {
    throw new Error('nobody asks');
  }

  embedMissing(): Promise<void> {
    return new Promise((resolve) => this.calls.push(resolve));
  }

  wrote(): void {
    this.follow();
  }
}

describe('generations beside the live one', () => {
  it('are looked at again for what was stored while they were looked at', async () => {
    const two = new Two();
    two.wrote();
    two.wrote();
    two.wrote();
    assert.equal(two.calls.length, 1, 'one at a time');
    two.calls[0]();
    await nextTurn();
    assert.equal(two.calls.length, 2);
    two.calls[1]();
    await nextTurn();
    assert.equal(two.calls.length, 2, 'nothing was stored since');
    two.wrote();
    assert.equal(two.calls.length, 3);
  });
});
