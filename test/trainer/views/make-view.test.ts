import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { Random } from '../../../base/random.js';
import { PRESETS } from '../../../trainer/presets.js';
import { makeView, VIEW_NAMES } from '../../../trainer/views/make-view.js';
import { loadOptional } from '../../../trainer/views/optional.js';
import { TITLES, viewsBySeed } from './support.js';

const options = PRESETS.vicreg;

describe('views', () => {
  it('are named, and another name is refused with those there are', () => {
    for (const name of VIEW_NAMES) assert.equal(makeView(name, options).name, name);
    for (const name of ['crop', 'toString', ''])
      assert.throws(() => makeView(name, options), {
        kind: 'usage',
        message: `view: expected one of same, title, body, word-crop, deletion, word-order, masking, typos, synonym, hyponym, sibling, antonym, found "${name}"`,
      });
  });

  it('never empty a text, and say that they did nothing only when they did nothing', () => {
    // Shares of 1 do all that can be done.
    const most = { minCropWords: 1, deletionShare: 1, maskingShare: 1, typoShare: 1, swapShare: 1 };
    for (const name of [...VIEW_NAMES, VIEW_NAMES.slice(3).join('+')])
      for (const title of TITLES)
        for (const { text, edits } of viewsBySeed(name, title, most, 20)) {
          const words = (of: string): string => of.trim().split(/\s+/).join(' ');
          assert.ok(words(text).length > 0, `${name} of ${title}`);
          assert.equal(words(text) === words(title), edits.length === 0, `${name} of ${title}: ${text}`);
          assert.ok(edits.every(({ words }) => words >= 1));
        }
  });

  it('are the same for the same seed, and others for another', () => {
    const name = 'word-crop+synonym+word-order+typos';
    const views = (): string[] => viewsBySeed(name, TITLES[2], {}, 20).map(({ text }) => text);
    assert.deepEqual(views(), views());
    assert.ok(new Set(views()).size > 15);
  });
});

describe('same', () => {
  it('is the text itself, and takes no chance', () => {
    const random = new Random(1);
    const view = makeView('same', options).apply({ first: '  a  text ' }, random);
    assert.deepEqual(view, { text: '  a  text ', edits: [], words: 2 });
    assert.equal(random.uint32(), new Random(1).uint32());
  });
});

describe('title and body', () => {
  const read = (name: string, source: { first: string; title?: string; body?: string }): string =>
    makeView(name, options).apply(source, new Random(1)).text;

  it('are the two sides of a text that has them', () => {
    const source = { first: 'Screen It stays black.', title: 'Screen', body: 'It stays black.' };
    assert.equal(read('title', source), 'Screen');
    assert.equal(read('body', source), 'It stays black.');
    assert.equal(read('same', source), source.first);
  });

  it('are the text where there is no such side', () => {
    assert.equal(read('title', { first: 'one', body: 'two' }), 'one');
    assert.equal(read('body', { first: 'one', title: 'one' }), 'one');
  });
});

describe('a chain of views', () => {
  it('does one after another, and says all that was done', () => {
    const chains = viewsBySeed(
      'deletion+masking',
      'how do I mount a usb stick',
      { deletionShare: 0.5, maskingShare: 0.5 },
      200,
    );
    for (const { text, edits, words } of chains) {
      const count = (kind: string): number => edits.find((edit) => edit.kind === kind)?.words ?? 0;
      assert.equal(count('deletion'), 7 - text.split(' ').length);
      assert.equal(count('masking'), text.split('[MASK]').length - 1);
      assert.equal(words, 7);
    }
    assert.ok(chains.some(({ edits }) => edits.length === 2));
  });

  it('can begin with a side of the text', () => {
    const view = makeView('body+deletion', { ...options, deletionShare: 1 });
    const { text } = view.apply({ first: 'a b', body: 'c d' }, new Random(1));
    assert.match(text, /^[cd]$/);
  });

  it('has a side nowhere else, and no part without a name', () => {
    assert.throws(() => makeView('typos+title', options), {
      kind: 'usage',
      message: 'view: expected title in front of what is done to it, found "typos+title"',
    });
    assert.throws(() => makeView('typos+', options), { kind: 'usage', message: /found ""/ });
  });
});

describe('a package that a view needs', () => {
  it('is named with the way to install it when it is not there', () => {
    assert.throws(() => loadOptional('no-such-package-here', 'view synonym'), {
      kind: 'unavailable',
      message:
        'view synonym: expected the package no-such-package-here, which is not installed; install it with: npm install no-such-package-here',
    });
  });
});
