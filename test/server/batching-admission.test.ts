import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { UserError } from '../../base/errors.js';
import { Admission } from '../../server/batching/admission.js';

function refusal(work: () => void): UserError {
  try {
    work();
  } catch (error) {
    assert.ok(error instanceof UserError);
    assert.equal(error.kind, 'overloaded');
    return error;
  }
  return assert.fail('it was let in');
}

describe('admission', () => {
  it('lets in what fits beside what waits, and anything when nothing of its priority waits', () => {
    const admission = new Admission({ tokens: 100, seconds: 60 });
    admission.check('interactive', 40, { interactive: 60, bulk: 400 }, 1);
    admission.check('interactive', 1_000, { interactive: 0, bulk: 400 }, 1);
    admission.check('bulk', 40, { interactive: 100, bulk: 360 }, 1);
    refusal(() => admission.check('interactive', 41, { interactive: 60, bulk: 0 }, 1));
    refusal(() => admission.check('bulk', 41, { interactive: 0, bulk: 360 }, 1));
  });

  it('says when there will be room, from the speed of the last batches', () => {
    const admission = new Admission({ tokens: 100, seconds: 60 });
    const waiting = { interactive: 100, bulk: 400 };
    assert.equal(refusal(() => admission.check('interactive', 50, waiting, 1)).retryAfter, 1);
    admission.measured(20, 2);
    assert.equal(admission.rate(1), 10);
    // 50 tokens at 10 a second; two workers do twice as much.
    assert.equal(refusal(() => admission.check('interactive', 50, waiting, 1)).retryAfter, 5);
    assert.equal(refusal(() => admission.check('interactive', 50, waiting, 2)).retryAfter, 3);
    // Bulk work waits for the interactive requests as well.
    assert.equal(refusal(() => admission.check('bulk', 50, waiting, 1)).retryAfter, 15);
    // What is larger than the limit waits until nothing waits.
    assert.equal(refusal(() => admission.check('interactive', 500, waiting, 1)).retryAfter, 10);
  });

  it('refuses what short requests would wait for too long, as soon as it knows how long that is', () => {
    const admission = new Admission({ tokens: 1_000, seconds: 2 });
    admission.check('interactive', 500, { interactive: 100, bulk: 0 }, 1);
    admission.measured(100, 1);
    admission.check('interactive', 100, { interactive: 100, bulk: 3_000 }, 1);
    const { message, retryAfter } = refusal(() =>
      admission.check('interactive', 101, { interactive: 100, bulk: 3_000 }, 1),
    );
    assert.match(message, /limit of 200 for interactive requests \(--max-queue-seconds 2\)/);
    assert.equal(retryAfter, 1);
    admission.check('interactive', 101, { interactive: 100, bulk: 3_000 }, 2);
    // What is computed has to be done before.
    refusal(() => admission.check('interactive', 100, { interactive: 100, bulk: 0 }, 1, 1));
    admission.check('interactive', 50, { interactive: 100, bulk: 0 }, 1, 50);
    // Bulk work is for nobody who waits: it is bounded by tokens alone.
    admission.check('bulk', 900, { interactive: 0, bulk: 3_000 }, 1);
  });

  it('counts on the speed that nearly all of the last stretches had', () => {
    const waiting = { interactive: 100, bulk: 0 };
    const allowed = (speeds: number[]): number => {
      const admission = new Admission({ tokens: 10_000, seconds: 2 });
      for (const speed of speeds) for (let i = 0; i < 2; i++) admission.measured(speed / 8, 1 / 8);
      const { message } = refusal(() => admission.check('interactive', 10_000, waiting, 1));
      return Number(/the limit of (\d+)/.exec(message)![1]);
    };
    // One slow stretch is an accident, two are not.
    assert.ok(allowed([1000, 1000, 500, 1000, 1000, 1000]) > 1800);
    assert.equal(allowed([1000, 500, 1000, 500, 1000, 1000]), 1000);
    // What is long ago does not count.
    assert.ok(allowed([500, 500, 500, ...Array<number>(20).fill(1000)]) > 1900);
  });

  it('follows a speed that changes', () => {
    const admission = new Admission({ tokens: 100, seconds: 60 });
    for (let i = 0; i < 200; i++) admission.measured(10, 1);
    for (let i = 0; i < 200; i++) admission.measured(10, 0.1);
    assert.ok(Math.abs(admission.rate(1) - 100) < 1);
  });
});
