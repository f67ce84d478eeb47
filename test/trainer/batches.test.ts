import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { Tokenizer } from '../../encoder/tokenizer.js';
import { SPECIAL_TOKENS, wordPieceFiles } from '../../encoder/tokenizer-files.js';
import { Batches } from '../../trainer/batches.js';
import type { Example } from '../../trainer/data.js';
import { feedOf } from '../../trainer/feed.js';
import { PRESETS } from '../../trainer/presets.js';
import type { Recipe } from '../../trainer/recipe.js';
import { EDIT_KINDS } from '../../trainer/views/edits.js';

const TITLES = [
  'how do I mount a usb stick',
  'the screen stays black at login',
  'no sound from my laptop speakers',
  'remove an old kernel package',
];
const examples: Example[] = [
  ...TITLES.map((title): Example => ({ first: title, second: title, kind: 'text' })),
  { first: 'one side', second: 'the other side', kind: 'pair' },
];
const recipeOf = (changes: Partial<Recipe>): Recipe => ({
  ...PRESETS.vicreg,
  batch: 2,
  seed: 3,
  ...changes,
});

const vocabulary = [
  ...SPECIAL_TOKENS,
  ...new Set(examples.flatMap(({ first }) => first.toLowerCase().split(' '))),
];
const files = wordPieceFiles(vocabulary, { lowerCase: true, maxTokens: 16 });
const tokenizer = new Tokenizer(files, 16);

describe('batches', () => {
  it('are what they were when the first encoders were trained: their runs can be repeated', () => {
    const batches = new Batches(examples, recipeOf({ views: ['same', 'word-crop'], minCropWords: 2 }));
    const texts = [1, 2, 3, 4].map((step) => batches.at(step).map((view) => view.map(({ text }) => text)));
    assert.deepEqual(texts, [
      [
        ['no sound from my laptop speakers', 'the screen stays black at login'],
        ['from my', 'screen stays black'],
      ],
      [
        ['remove an old kernel package', 'one side'],
        ['kernel package', 'the other side'],
      ],
      [
        ['no sound from my laptop speakers', 'how do I mount a usb stick'],
        ['sound from my laptop speakers', 'a usb stick'],
      ],
      [
        ['one side', 'remove an old kernel package'],
        ['the other side', 'an old kernel package'],
      ],
    ]);
  });

  it('are the same at a step whatever was asked for before', () => {
    const make = (): Batches => new Batches(examples, recipeOf({ views: ['typos', 'word-crop+synonym'] }));
    const all = make();
    const inOrder = [1, 2, 3, 4, 5].map((step) => all.at(step));
    assert.deepEqual(make().at(5), inOrder[4]);
    assert.deepEqual(make().at(2), inOrder[1]);
  });

  it('take both sides of a pair as they are, whatever the views', () => {
    const pairs: Example[] = Array.from({ length: 2 }, (_, i) => ({
      first: `first side ${i}`,
      second: `second side ${i}`,
      kind: 'pair',
    }));
    const [first, second] = new Batches(pairs, recipeOf({ views: ['deletion', 'masking'] })).at(1);
    for (const view of [...first, ...second]) assert.deepEqual(view.edits, []);
    assert.deepEqual(first.map(({ text }) => text).sort(), ['first side 0', 'first side 1']);
    assert.deepEqual(second.map(({ text }) => text).sort(), ['second side 0', 'second side 1']);
  });

  it('have the share of pairs that is asked for, and an epoch of all texts', () => {
    const pairs: Example[] = Array.from({ length: 3 }, (_, i) => ({
      first: `first side ${i}`,
      second: `second side ${i}`,
      kind: 'pair',
    }));
    const mixed = [...examples.filter(({ kind }) => kind === 'text'), ...pairs];
    const batches = new Batches(mixed, recipeOf({ batch: 4, pairShare: 0.5, views: ['same'] }));
    assert.equal(batches.stepsPerEpoch, 2);
    const firsts = [1, 2].map((step) => batches.at(step)[0].map(({ text }) => text));
    for (const texts of firsts)
      assert.deepEqual(
        texts.map((text) => text.startsWith('first side')),
        [false, false, true, true],
      );
    assert.deepEqual(firsts.flatMap((texts) => texts.slice(0, 2)).sort(), [...TITLES].sort());
    // Three pairs make one draw of two: the next draw is of a new shuffle.
    assert.notDeepEqual(firsts[0].slice(2), firsts[1].slice(2));
    assert.deepEqual(
      batches
        .at(1)[1]
        .slice(2)
        .map(({ text }) => text),
      firsts[0].slice(2).map((text) => text.replace('first', 'second')),
    );
  });

  it('have at least one pair and one text, however small the share or the batch', () => {
    const kinds = (pairShare: number): boolean[] =>
      new Batches(examples, recipeOf({ pairShare, views: ['same'] }))
        .at(1)[0]
        .map(({ text }) => text === 'one side');
    assert.deepEqual(kinds(0.01), [false, true]);
    assert.deepEqual(kinds(0.99), [false, true]);
  });

  it('of more pairs than there are, is an error that says so', () => {
    assert.throws(() => new Batches(examples, recipeOf({ batch: 4, pairShare: 0.5 })), {
      kind: 'invalid',
      message: 'expected at least 2 pairs for a batch of 4, found 1; a smaller --batch is possible',
    });
  });

  it('give title and body of the same text to the two views', () => {
    const posts: Example[] = TITLES.map((title) => ({
      first: `${title} body`,
      second: `${title} body`,
      kind: 'text',
      title,
      body: `body of ${title}`,
    }));
    const [titles, bodies] = new Batches(posts, recipeOf({ views: ['title', 'body'] })).at(1);
    titles.forEach(({ text }, i) => assert.equal(bodies[i].text, `body of ${text}`));
  });
});

describe("what a step's views did to its texts", () => {
  it('is beside them: which kinds of edit, and on which share of the words', async () => {
    const recipe = recipeOf({
      batch: 5,
      views: ['same', 'deletion+masking'],
      deletionShare: 0.3,
      maskingShare: 0.3,
    });
    const batches = new Batches(examples, recipe);
    const feed = feedOf(batches, { tokenizer, files }, recipe);
    for (let step = 1; step <= 20; step++) {
      const viewed = batches.at(step);
      const { edits } = await feed.at(step);
      assert.ok(
        edits![0].kinds.every((kind) => kind === 0) && edits![0].shares.every((share) => share === 0),
      );
      assert.equal(edits![1].kinds.length, 5 * EDIT_KINDS.length);
      viewed[1].forEach(({ text, words }, i) => {
        const of = (kind: (typeof EDIT_KINDS)[number]): [number, number] => {
          const at = i * EDIT_KINDS.length + EDIT_KINDS.indexOf(kind);
          return [edits![1].kinds[at], edits![1].shares[at]];
        };
        const left = text.split(' ');
        const masked = left.filter((word) => word === '[MASK]').length;
        const gone = words - left.length;
        assert.deepEqual(of('deletion'), [gone > 0 ? 1 : 0, Math.fround(gone / words)]);
        assert.deepEqual(of('masking'), [masked > 0 ? 1 : 0, Math.fround(masked / words)]);
        assert.deepEqual(of('typo'), [0, 0]);
      });
    }
  });

  it('adds up where a chain does the same twice, to all words at most', async () => {
    const recipe = recipeOf({ views: ['same', 'word-order+word-order'], orderDistance: 5 });
    const feed = feedOf(new Batches(examples.slice(0, 4), recipe), { tokenizer, files }, recipe);
    const shares: number[] = [];
    for (let step = 1; step <= 20; step++) shares.push(...(await feed.at(step)).edits![1].shares);
    assert.equal(Math.max(...shares), 1);
  });

  it('has columns that never change their order', () => {
    assert.deepEqual(
      [...EDIT_KINDS],
      ['crop', 'deletion', 'order', 'masking', 'typo', 'synonym', 'hyponym', 'sibling', 'antonym'],
    );
    assert.ok(Object.isFrozen(EDIT_KINDS));
  });
});

describe('the view masking', () => {
  it('is refused with a tokenizer that does not read [MASK]', () => {
    const recipe = recipeOf({ views: ['same', 'word-crop+masking'] });
    const lowerCase = new Tokenizer(files, 16, true);
    assert.throws(() => feedOf(new Batches(examples, recipe), { tokenizer: lowerCase, files }, recipe), {
      kind: 'unsupported-model',
      message: /view masking: expected a tokenizer that reads \[MASK\]/,
    });
  });
});
