import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';

import { Random } from '../../base/random.js';
import type { Example } from '../../trainer/data.js';
import { takeApart } from '../../trainer/partners.js';
import { targetVectors } from '../../trainer/target-vectors.js';
import { whitened } from '../../trainer/whitening.js';
import { loadTensorFlow } from '../../trainer/tensorflow/load.js';
import { Ops } from '../../trainer/tensorflow/ops.js';
import { assertClose } from './numbers.js';

const D = 6;
const texts = [
  'mount a disk',
  'mount a usb stick',
  'no sound',
  'sound is gone',
  'install a driver',
  'wifi drops',
];

let ops: Ops;
before(async () => {
  ops = new Ops(await loadTensorFlow());
});

const dot = (a: number[], b: number[]): number => a.reduce((sum, value, i) => sum + value * b[i], 0);
const unit = (row: number[]): number[] => row.map((value) => value / Math.sqrt(dot(row, row)));
const add = (a: number[], b: number[], times = 1): number[] => a.map((value, i) => value + times * b[i]);

/** A text's vector is a function of its characters alone. */
function vectorOf(text: string): number[] {
  const random = new Random([...text].reduce((sum, char) => (sum * 31 + char.charCodeAt(0)) >>> 0, 7));
  return unit(Array.from({ length: D }, () => 1 + random.normal()));
}

function fakeTeacher() {
  const prepared: string[] = [];
  return {
    prepared,
    dimensions: D,
    async prepare(asked: ReadonlySet<string>) {
      prepared.push(...asked);
    },
    async read(asked: readonly string[]) {
      return Float32Array.from(asked.flatMap(vectorOf));
    },
    async targets() {
      return async (asked: readonly string[]) => Float32Array.from(asked.flatMap(vectorOf));
    },
  };
}

interface Asked {
  context: string;
  neighbourTexts: number;
  neighbourTextWeight: number;
  neighbours: number;
  neighbourWeight: number;
}

/** As the description of targetVectors reads, in loops over doubles. */
function reference(
  { context, neighbourTexts, neighbourTextWeight, neighbours, neighbourWeight }: Asked,
  pairs: { of: number; others: number[]; weight: number }[] = [],
): number[][] {
  const centred = (rows: number[][]): number[][] => {
    const mean = rows.reduce((sum, row) => add(sum, row, 1 / rows.length), new Array<number>(D).fill(0));
    return rows.map((row) => unit(add(row, mean, -1)));
  };
  const nearTo = (vectors: number[][], i: number): { other: number[]; j: number; cosine: number }[] =>
    vectors
      .map((other, j) => ({ other, j, cosine: dot(vectors[i], other) }))
      .filter(({ j, cosine }) => j !== i && cosine > 0)
      .sort((a, b) => b.cosine - a.cosine);
  const alone = centred(texts.map(vectorOf));
  let rows = alone;
  for (const phrase of context === '' ? [] : context.split('|')) {
    const said = (text: string): string =>
      phrase.includes('{}') ? phrase.replace('{}', text) : `${text} ${phrase}`;
    const others = centred(texts.map((text) => vectorOf(said(text))));
    rows = rows.map((row, i) => add(row, others[i]));
  }
  for (let n = 0; n < neighbourTexts; n++) {
    const behind = centred(
      texts.map((text, i) => {
        const near = nearTo(alone, i).at(n);
        return vectorOf(near ? `${text}. ${texts[near.j]}` : text);
      }),
    );
    rows = rows.map((row, i) => add(row, behind[i], neighbourTextWeight));
  }
  rows = rows.map(unit);
  return rows
    .map((row, i) => {
      const nearest = nearTo(rows, i).slice(0, neighbours);
      const direction = nearest.reduce(
        (sum, { other, cosine }) => add(sum, other, cosine ** 4),
        new Array<number>(D).fill(0),
      );
      const drawn = nearest.length === 0 ? row : add(row, unit(direction), neighbourWeight);
      return pairs
        .filter(({ of }) => of === i)
        .reduce((sum, pair) => {
          const together = pair.others.reduce((all, j) => add(all, rows[j]), new Array<number>(D).fill(0));
          return add(sum, unit(together), pair.weight);
        }, drawn);
    })
    .map(unit);
}

describe('the vectors that a student learns', () => {
  const none = {
    context: '',
    neighbourTexts: 0,
    neighbourTextWeight: 0.7,
    neighbours: 0,
    neighbourWeight: 0.3,
    pairWeight: 0.4,
    whitening: 0,
    seed: 1,
  };

  it('are the teacher’s own, of the texts alone, when nothing else is asked for', async () => {
    const teacher = fakeTeacher();
    const targets = await targetVectors(ops, teacher, new Set(texts), D, none);
    assert.deepEqual(teacher.prepared, texts);
    assert.deepEqual(await targets([texts[2]]), Float32Array.from(vectorOf(texts[2])));
  });

  for (const [name, changes] of [
    ['of the text and of the text in its context, each centred', { context: 'Ubuntu' }],
    ['drawn to the nearest neighbours', { neighbours: 2 }],
    ['drawn to all the neighbours there are, when more are asked for', { neighbours: 50 }],
    ['drawn to the neighbours in the context', { context: 'Ubuntu', neighbours: 3 }],
    ['of the text in each phrasing of the context', { context: 'Ubuntu|Ask Ubuntu: {}' }],
    ['of the text with its nearest behind it, too', { neighbourTexts: 1 }],
    [
      'of all of these, where as many neighbours are asked for as some have not',
      { context: 'Ubuntu', neighbourTexts: 5, neighbours: 2 },
    ],
  ] as const)
    it(`are ${name}`, async () => {
      const recipe = { ...none, ...changes };
      const teacher = fakeTeacher();
      const targets = await targetVectors(ops, teacher, new Set(texts), D, recipe);
      const asked = [texts[3], texts[0], texts[3]];
      const expected = reference(recipe);
      assertClose(await targets(asked), [expected[3], expected[0], expected[3]].flat(), name, 1e-5, 1);
      assert.equal(teacher.prepared.includes('no sound Ubuntu'), recipe.context !== '');
    });

  for (const changes of [{ context: 'Ubuntu' }, { neighbours: 2 }, {}])
    it(`are drawn to those of the texts that mean the same: ${JSON.stringify(changes)}`, async () => {
      const recipe = { ...none, ...changes };
      const partners = new Map([
        [texts[0], [texts[1]]],
        [texts[2], [texts[3], texts[5]]],
      ]);
      const targets = await targetVectors(ops, fakeTeacher(), new Set(texts), D, recipe, { partners });
      const expected = reference(recipe, [
        { of: 0, others: [1], weight: 0.4 },
        { of: 2, others: [3, 5], weight: 0.4 },
      ]);
      assertClose(await targets(texts), expected.flat(), 'targets', 1e-5, 1);
    });

  it('are of no text beside its neighbours that nobody will ask for', async () => {
    const recipe = { ...none, neighbourTexts: 2, pairWeight: 0 };
    const teacher = fakeTeacher();
    const learned = new Set([texts[1], texts[4]]);
    const partners = new Map([[texts[4], [texts[0]]]]);
    await targetVectors(ops, teacher, new Set(texts), D, recipe, { learned, partners });
    const together = teacher.prepared.filter((text) => text.includes('. '));
    assert.deepEqual(
      [...new Set(together.map((text) => text.split('. ')[0]))].sort(),
      [texts[0], texts[1], texts[4]].sort(),
    );
    assert.deepEqual(
      teacher.prepared.filter((text) => !text.includes('. ')),
      texts,
    );
  });

  it('are whitened as far as is asked for, each kind of them before they meet', async () => {
    const many = Array.from({ length: 40 }, (_, i) => `text number ${i * i}`);
    for (const whitening of [0.5, 1]) {
      const recipe = { ...none, whitening };
      const found = await (await targetVectors(ops, fakeTeacher(), new Set(many), D, recipe))(many);
      const rows = Float32Array.from(many.flatMap(vectorOf));
      const mean = Array.from({ length: D }, (_, j) =>
        many.reduce((sum, _text, i) => sum + rows[i * D + j] / 40, 0),
      );
      const centred = rows.map((value, i) => value - mean[i % D]);
      const expected = whitened(ops, centred, D, whitening);
      assertClose(
        found,
        many.flatMap((_, i) => unit([...expected.subarray(i * D, (i + 1) * D)])),
        `share ${whitening}`,
        1e-4,
        1,
      );
    }
  });

  it('have length 1, and keep the larger part of the cosines when they are shorter than the teacher’s', async () => {
    const recipe = { ...none, context: 'Ubuntu' };
    const whole = await (await targetVectors(ops, fakeTeacher(), new Set(texts), D, recipe))(texts);
    const short = await (await targetVectors(ops, fakeTeacher(), new Set(texts), 4, recipe))(texts);
    assert.equal(short.length, texts.length * 4);
    const cosine = (of: Float32Array, d: number, i: number, j: number): number =>
      dot([...of.subarray(i * d, (i + 1) * d)], [...of.subarray(j * d, (j + 1) * d)]);
    let error = 0;
    let size = 0;
    for (let i = 0; i < texts.length; i++) {
      assert.ok(Math.abs(cosine(short, 4, i, i) - 1) < 1e-5);
      for (let j = 0; j < i; j++) {
        error += (cosine(short, 4, i, j) - cosine(whole, D, i, j)) ** 2;
        size += cosine(whole, D, i, j) ** 2;
      }
    }
    assert.ok(error < 0.5 * size, `${error} of ${size}`);
  });
});

describe('pairs taken apart', () => {
  const text = (first: string): Example => ({ first, second: first, kind: 'text' });
  const pair = (first: string, second: string): Example => ({ first, second, kind: 'pair' });

  it('are each text once, behind the others, with what it is said to mean the same as', () => {
    const { texts: found, partners } = takeApart([
      pair('a', 'b'),
      text('c'),
      pair('c', 'a'),
      pair('b', 'a'),
      pair('d', 'd'),
    ]);
    assert.deepEqual(
      found,
      ['c', 'a', 'b', 'd'].map((first) => text(first)),
    );
    assert.deepEqual(
      [...partners],
      [
        ['a', ['b', 'c']],
        ['b', ['a']],
        ['c', ['a']],
      ],
    );
  });
});
