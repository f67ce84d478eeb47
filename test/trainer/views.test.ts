import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { Random } from '../../base/random.js';
import { makeView, VIEW_NAMES } from '../../trainer/views.js';

/** How often each crop of the text comes, in `draws` draws. */
function countCrops(text: string, minCropWords: number, draws: number): Map<string, number> {
  const view = makeView('word-crop', { minCropWords });
  const random = new Random(7);
  const counts = new Map<string, number>();
  for (let i = 0; i < draws; i++) {
    const crop = view.apply(text, random);
    counts.set(crop, (counts.get(crop) ?? 0) + 1);
  }
  return counts;
}

/** Pearson's statistic of counts against probabilities, which must name every outcome. */
function chiSquare(counts: Map<string, number>, law: Record<string, number>): number {
  const draws = [...counts.values()].reduce((sum, count) => sum + count, 0);
  assert.deepEqual([...counts.keys()].sort(), Object.keys(law).sort());
  return Object.entries(law).reduce((sum, [outcome, probability]) => {
    const expected = draws * probability;
    return sum + (counts.get(outcome)! - expected) ** 2 / expected;
  }, 0);
}

describe('views', () => {
  it('are named, and another name is refused with those there are', () => {
    assert.deepEqual(VIEW_NAMES, ['same', 'word-crop', 'deletion']);
    for (const name of VIEW_NAMES) assert.equal(makeView(name, { minCropWords: 1 }).name, name);
    for (const name of ['crop', 'toString'])
      assert.throws(() => makeView(name, { minCropWords: 1 }), {
        kind: 'usage',
        message: `view: expected one of same, word-crop, deletion, found "${name}"`,
      });
  });
});

describe('same', () => {
  it('is the text itself, and takes no chance', () => {
    const random = new Random(1);
    assert.equal(makeView('same', { minCropWords: 1 }).apply('  a  text ', random), '  a  text ');
    assert.equal(random.uint32(), new Random(1).uint32());
  });
});

describe('word crop', () => {
  const text = 'how do I mount a usb stick';

  it('is a run of words of the text, never fewer than the minimum', () => {
    for (const minimum of [1, 2, 5])
      for (const crop of countCrops(text, minimum, 500).keys()) {
        assert.ok(` ${text} `.includes(` ${crop} `), crop);
        assert.ok(crop.split(' ').length >= minimum, crop);
      }
  });

  it('takes a text whole that has no more words than the minimum', () => {
    assert.deepEqual([...countCrops('black screen', 2, 20).keys()], ['black screen']);
    assert.deepEqual([...countCrops('black', 3, 20).keys()], ['black']);
  });

  it('splits at any white space and joins with one space', () => {
    assert.deepEqual([...countCrops(' usb\t\u00a0stick \n', 2, 1).keys()], ['usb stick']);
  });

  it('follows the published sketch with minimum 1: start uniform in 0..n-1, length uniform in 1..n-start', () => {
    const statistic = chiSquare(countCrops('a b c', 1, 30_000), {
      a: 1 / 3 / 3,
      'a b': 1 / 3 / 3,
      'a b c': 1 / 3 / 3,
      b: 1 / 3 / 2,
      'b c': 1 / 3 / 2,
      c: 1 / 3,
    });
    assert.ok(
      statistic < 15.09,
      `chi-square ${statistic}: above the 99th percentile at 5 degrees of freedom`,
    );
  });

  it('with minimum m starts uniformly in 0..n-m and has a length uniform in m..n-start', () => {
    const statistic = chiSquare(countCrops('a b c d', 2, 30_000), {
      'a b': 1 / 3 / 3,
      'a b c': 1 / 3 / 3,
      'a b c d': 1 / 3 / 3,
      'b c': 1 / 3 / 2,
      'b c d': 1 / 3 / 2,
      'c d': 1 / 3,
    });
    assert.ok(
      statistic < 15.09,
      `chi-square ${statistic}: above the 99th percentile at 5 degrees of freedom`,
    );
  });

  it('depends on nothing but the text and the generator', () => {
    const crops = (seed: number): string[] => {
      const random = new Random(seed);
      const view = makeView('word-crop', { minCropWords: 1 });
      return Array.from({ length: 20 }, () => view.apply(text, random));
    };
    assert.deepEqual(crops(3), crops(3));
    assert.notDeepEqual(crops(3), crops(4));
  });
});
