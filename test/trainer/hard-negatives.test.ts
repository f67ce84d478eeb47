import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';

import { Random } from '../../base/random.js';
import { Batches } from '../../trainer/batches.js';
import type { Example } from '../../trainer/data.js';
import { HARD_RANKS, hardNegatives, type HardNegatives } from '../../trainer/hard-negatives.js';
import { PRESETS } from '../../trainer/presets.js';
import { loadTensorFlow } from '../../trainer/tensorflow/load.js';
import { Ops } from '../../trainer/tensorflow/ops.js';

const D = 4;
const text = (first: string): Example => ({ first, second: first, kind: 'text' });
const pair = (first: string, second: string): Example => ({ first, second, kind: 'pair' });

/** Texts are angles: the nearer the numbers, the nearer the vectors. */
const teacher = {
  dimensions: D,
  async read(texts: readonly string[]) {
    return Float32Array.from(
      texts.flatMap((number) => [Math.cos(Number(number) / 100), Math.sin(Number(number) / 100), 0, 0]),
    );
  },
};

let ops: Ops;
before(async () => {
  ops = new Ops(await loadTensorFlow());
});

describe('hard negatives', () => {
  const examples = Array.from({ length: 60 }, (_, i) => text(String(i)));
  const all = HARD_RANKS.to - HARD_RANKS.from + 1;
  const find = async (of: readonly Example[], batch: readonly Example[], each: number): Promise<number[]> => {
    const negatives = await hardNegatives(ops, teacher, of, 1);
    return negatives(batch, each, new Random(1)).map(Number);
  };
  const sorted = (numbers: number[]): number[] => numbers.sort((a, b) => a - b);

  it('are near neighbours behind the nearest ones, drawn anew each time', async () => {
    assert.deepEqual(
      sorted(await find(examples, [examples[0]], all)),
      Array.from({ length: all }, (_, i) => HARD_RANKS.from + i),
    );
    const negatives = await hardNegatives(ops, teacher, examples, 1);
    const draws = [1, 2, 1].map((seed) => negatives([examples[0]], 3, new Random(seed)).join());
    assert.equal(draws[0].split(',').length, 3);
    assert.notEqual(draws[0], draws[1]);
    assert.equal(draws[0], draws[2]);
  });

  it('are as many as there are, when there are fewer', async () => {
    assert.deepEqual(sorted(await find(examples.slice(0, 8), [examples[0]], 5)), [6, 7]);
    assert.deepEqual(await find(examples.slice(0, 3), [examples[0]], 5), []);
  });

  it('are different for the texts of a batch, and none of them is in it', async () => {
    const batch = examples.slice(20, 30);
    const found = await find(examples, batch, 1);
    assert.equal(found.length, 10);
    assert.equal(new Set(found).size, 10);
    assert.ok(found.every((number) => number < 20 || number >= 30));
  });

  it('never mean the same as one of the batch, by one pair or by several', async () => {
    const pairs = [pair('0', '100'), pair('100', '200'), pair('10', '200'), pair('12', '300')];
    const found = await find([...examples, ...pairs], [pairs[0], text('12')], all);
    assert.ok(found.includes(9) && found.includes(13), found.join());
    for (const same of [0, 10, 12, 100, 200, 300]) assert.ok(!found.includes(same), found.join());
  });

  it('can be either text of a pair', async () => {
    const pairs = Array.from({ length: 20 }, (_, i) => pair(String(i), String(i + 1000)));
    const found = await find(pairs, [pairs[0]], all);
    assert.ok(found.some((number) => number < 20) && found.some((number) => number >= 1000), found.join());
  });
});

describe('a batch with hard negatives', () => {
  const texts = Array.from({ length: 40 }, (_, i) => text(`text ${i}`));
  const pairs = Array.from({ length: 20 }, (_, i) => pair(`a ${i}`, `b ${i}`));
  const others: HardNegatives = (batch, each, random) =>
    batch.map(({ first }) => `${first}, like it ${each} ${random.below(1000)}`);
  const open = (pairShare: number, each = 2): Batches => {
    const recipe = {
      ...PRESETS.infonce,
      batch: 16,
      pairShare,
      hardNegatives: each,
      views: ['same'],
      seed: 3,
    };
    const batches = new Batches([...texts, ...pairs], recipe);
    batches.harden(others);
    return batches;
  };

  it('is what it is without them, and has the same ones whatever was asked for before', () => {
    const [one, other] = [open(0.5), open(0.5)];
    for (let step = 1; step < 5; step++) one.negativesAt(step);
    assert.deepEqual(one.negativesAt(5), other.negativesAt(5));
    assert.notDeepEqual(one.negativesAt(5), one.negativesAt(6));
    assert.deepEqual(
      one.negativesAt(5).map((of) => of.split(',')[0]),
      one.originalsAt(5)[0],
    );
    assert.deepEqual(one.at(5), open(0.5, 0).at(5));
    assert.deepEqual(open(0.5, 0).negativesAt(5), []);
  });

  it('is pairs alone with a share of 1, and the texts make no epoch', () => {
    const batches = open(1);
    assert.equal(batches.stepsPerEpoch, 1);
    for (let step = 1; step <= 3; step++) {
      const [first, second] = batches.originalsAt(step);
      assert.ok(first.every((of) => of.startsWith('a ')));
      assert.deepEqual(
        second,
        first.map((of) => of.replace('a', 'b')),
      );
    }
  });
});
