import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { Random } from '../../../base/random.js';
import { PRESETS } from '../../../trainer/presets.js';
import { makeView } from '../../../trainer/views/make-view.js';
import { viewsBySeed } from './support.js';

/** How often each crop of the text comes, in `draws` draws. */
function countCrops(text: string, minCropWords: number, draws: number): Map<string, number> {
  const view = makeView('word-crop', { ...PRESETS.vicreg, minCropWords });
  const random = new Random(7);
  const counts = new Map<string, number>();
  for (let i = 0; i < draws; i++) {
    const { text: crop } = view.apply({ first: text }, random);
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

  it('keeps at least the share of the words that is asked for, and at least the minimum', () => {
    const lengths = (options: { minCropWords: number; cropShare: number }): Set<number> =>
      new Set(viewsBySeed('word-crop', text, options).map((view) => view.text.split(' ').length));
    assert.deepEqual(lengths({ minCropWords: 1, cropShare: 0.6 }), new Set([5, 6, 7]));
    assert.deepEqual(lengths({ minCropWords: 6, cropShare: 0.6 }), new Set([6, 7]));
    assert.deepEqual(lengths({ minCropWords: 1, cropShare: 1 }), new Set([7]));
  });

  it('says how many words are gone, and nothing when none is', () => {
    for (const { text: crop, edits, words } of viewsBySeed('word-crop', text, { minCropWords: 1 })) {
      const gone = 7 - crop.split(' ').length;
      assert.deepEqual(edits, gone > 0 ? [{ kind: 'crop', words: gone }] : []);
      assert.equal(words, 7);
    }
  });

  it('depends on nothing but the text and the generator', () => {
    const crops = (seed: number): string[] => {
      const random = new Random(seed);
      const view = makeView('word-crop', { ...PRESETS.vicreg, minCropWords: 1 });
      return Array.from({ length: 20 }, () => view.apply({ first: text }, random).text);
    };
    assert.deepEqual(crops(3), crops(3));
    assert.notDeepEqual(crops(3), crops(4));
  });

  it('draws what it drew when the first encoders were trained: their runs can be repeated', () => {
    const random = new Random(7);
    const view = makeView('word-crop', { ...PRESETS.vicreg, minCropWords: 2 });
    assert.deepEqual(
      Array.from(
        { length: 6 },
        () => view.apply({ first: 'how do I mount a usb stick at boot' }, random).text,
      ),
      ['at boot', 'do I', 'at boot', 'I mount a usb', 'how do I mount', 'at boot'],
    );
    assert.equal(random.uint32(), 2534453144);
  });
});
