import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';

import { Random } from '../../base/random.js';
import { Batches } from '../../trainer/batches.js';
import type { Example } from '../../trainer/data.js';
import { HARD_RANKS, hardCases, type HardCases } from '../../trainer/hard-cases.js';
import { PRESETS } from '../../trainer/presets.js';
import { loadTensorFlow } from '../../trainer/tensorflow/load.js';
import { Ops } from '../../trainer/tensorflow/ops.js';

const D = 4;
const text = (first: string): Example => ({ first, second: first, kind: 'text' });

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

describe('hard cases', () => {
  const examples = Array.from({ length: 60 }, (_, i) => text(String(i)));

  it('are the near neighbours behind the nearest ones', async () => {
    const [cases] = (await hardCases(ops, teacher, examples, examples, 1))([examples[0]]);
    assert.deepEqual(
      cases.map(({ first }) => Number(first)),
      Array.from({ length: HARD_RANKS.to - HARD_RANKS.from + 1 }, (_, i) => HARD_RANKS.from + i),
    );
  });

  it('are all there are, when there are fewer', async () => {
    const [cases, none] = (await hardCases(ops, teacher, examples.slice(0, 8), examples, 1))(
      examples.slice(0, 2),
    );
    assert.deepEqual(
      cases.map(({ first }) => first),
      ['6', '7'],
    );
    assert.deepEqual(none.length, 2);
    const alone = await hardCases(ops, teacher, examples.slice(0, 3), examples, 1);
    assert.deepEqual(alone([examples[0]]), [[]]);
  });

  it('never mean the same, by one pair or by several', async () => {
    const pair = (first: string, second: string): Example => ({ first, second, kind: 'pair' });
    const all = [...examples, pair('0', '100'), pair('100', '200'), pair('10', '200'), pair('12', '300')];
    const anchor = all[60];
    const [cases] = (await hardCases(ops, teacher, all, all, 1))([anchor]);
    const found = cases.map(({ first }) => first);
    assert.ok(found.includes('12') && found.includes('9'), found.join());
    assert.ok(!found.includes('10') && !found.includes('0'), found.join());
  });
});

describe('a batch with hard cases', () => {
  const examples = Array.from({ length: 40 }, (_, i) => text(`text ${i}`));
  const near: HardCases = (anchors) =>
    anchors.map((anchor) => {
      const at = examples.indexOf(anchor);
      return examples.filter((_, i) => i !== at && Math.floor(i / 4) === Math.floor(at / 4));
    });
  const open = async (hardShare: number, cases = near): Promise<Batches> => {
    const batches = new Batches(examples, {
      ...PRESETS.infonce,
      batch: 16,
      hardShare,
      views: ['same'],
      seed: 3,
    });
    await batches.harden(async () => cases);
    return batches;
  };
  const textsAt = (batches: Batches, step: number): string[] => batches.at(step)[0].map(({ text: of }) => of);

  it('has that share of them, each once, and the rest as drawn', async () => {
    for (let step = 1; step <= 6; step++) {
      const drawn = textsAt(await open(0), step);
      const found = textsAt(await open(0.25), step);
      assert.equal(new Set(found).size, 16);
      assert.equal(
        found.slice(0, 12).every((of) => drawn.includes(of)),
        true,
      );
      for (const hard of found.slice(12)) {
        const group = Math.floor(Number(hard.slice(5)) / 4);
        assert.ok(
          found.slice(0, 12).some((of) => Math.floor(Number(of.slice(5)) / 4) === group) ||
            drawn.includes(hard),
        );
      }
    }
  });

  it('is the same at a step whatever was asked for before, view by view', async () => {
    const [one, other] = [await open(0.5), await open(0.5)];
    for (let step = 1; step < 5; step++) one.at(step);
    assert.deepEqual(one.at(5), other.at(5));
    assert.deepEqual(one.originalsAt(5)[0], textsAt(other, 5));
  });

  it('is what was drawn where there are none', async () => {
    const none = await open(0.5, (anchors) => anchors.map(() => []));
    assert.deepEqual(textsAt(none, 2).sort(), textsAt(await open(0), 2).sort());
  });

  it('keeps the share of pairs, and looks for hard cases of either kind among that kind', async () => {
    const pairs = Array.from({ length: 20 }, (_, i): Example => ({
      first: `a ${i}`,
      second: `b ${i}`,
      kind: 'pair',
    }));
    const recipe = {
      ...PRESETS.infonce,
      batch: 16,
      pairShare: 0.5,
      hardShare: 0.5,
      views: ['same'],
      seed: 3,
    };
    const batches = new Batches([...examples, ...pairs], recipe);
    const asked: string[][] = [];
    await batches.harden(async (among) => {
      asked.push([...new Set(among.map(({ kind }) => kind))]);
      return (anchors) => anchors.map(() => [...among]);
    });
    assert.deepEqual(asked, [['text'], ['pair']]);
    for (let step = 1; step <= 4; step++)
      assert.equal(textsAt(batches, step).filter((of) => of.startsWith('a ')).length, 8);
  });

  it('is whole, whatever the cases are', async () => {
    const random = new Random(4);
    const any: HardCases = (anchors) =>
      anchors.map(() =>
        Array.from({ length: random.below(3) }, () => examples[random.below(examples.length)]),
      );
    for (let step = 1; step <= 20; step++)
      assert.equal(new Set(textsAt(await open(0.9, any), step)).size, 16);
  });
});
