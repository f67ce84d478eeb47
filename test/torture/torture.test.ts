import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { Journal } from './journal.js';
import { torture } from './rounds.js';

describe('the journal', () => {
  it('tells lost, phantom and wrong documents from those that may be there', () => {
    const journal = new Journal();
    for (const id of ['kept', 'replaced', 'deleted']) {
      journal.sends([id], 'a');
      journal.acknowledges([id], 'a');
    }
    journal.sends(['replaced'], 'b');
    journal.sends(['deleted'], undefined);
    journal.sends(['new'], 'c');
    const violations = (found: Record<string, string>): string[] =>
      journal.violations(new Map(Object.entries(found)));
    assert.deepEqual(violations({ kept: 'a', replaced: 'a', deleted: 'a' }), []);
    assert.deepEqual(violations({ kept: 'a', replaced: 'b', new: 'c' }), []);
    assert.match(violations({ replaced: 'a' }).join(), /^lost: kept may hold "a", holds nothing$/);
    assert.match(violations({ kept: 'x', replaced: 'a' }).join(), /^wrong: kept/);
    assert.match(
      violations({ kept: 'a', replaced: 'a', other: 'a' }).join(),
      /^phantom: other was never sent$/,
    );
    journal.acknowledges(['deleted'], undefined);
    assert.match(violations({ kept: 'a', replaced: 'b', deleted: 'a' }).join(), /^phantom: deleted/);
    journal.refuses(['replaced']);
    assert.match(violations({ kept: 'a', replaced: 'b' }).join(), /^wrong: replaced/);
  });
});

describe('a server that is killed and whose files are damaged', () => {
  it('loses nothing, and answers nothing wrong', async () => {
    const { violations, acknowledged, refused, survived } = await torture({
      rounds: 2,
      seed: 1,
      damageEvery: 2,
      say: () => undefined,
    });
    assert.deepEqual(violations, []);
    assert.ok(acknowledged > 0);
    assert.equal(refused + survived, 1);
  });
});
