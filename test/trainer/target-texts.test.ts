import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { targetTexts } from '../../trainer/target-texts.js';

describe('the texts that targets are made of', () => {
  const all = new Set(Array.from({ length: 40 }, (_, i) => `text ${i}`));
  const learned = new Set(['text 3', 'text 30']);
  const partners = new Map([
    ['text 3', ['text 7']],
    ['text 5', ['text 8']],
  ]);

  it('are all, in their order, where there is room', () => {
    assert.deepEqual([...targetTexts(all, learned, partners, 1, 40)], [...all]);
  });

  it('are those that are learned, their partners and others by the seed, where there is not', () => {
    const some = targetTexts(all, learned, partners, 1, 10);
    assert.equal(some.size, 10);
    for (const text of ['text 3', 'text 30', 'text 7']) assert.ok(some.has(text));
    for (const text of some) assert.ok(all.has(text));
    assert.deepEqual(targetTexts(all, learned, partners, 1, 10), some);
    assert.notDeepEqual(targetTexts(all, learned, partners, 2, 10), some);
  });

  it('are all that is learned, be it more than there is room for', () => {
    assert.deepEqual([...targetTexts(all, learned, partners, 1, 2)], ['text 3', 'text 30', 'text 7']);
  });
});
