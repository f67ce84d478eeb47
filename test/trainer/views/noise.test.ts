import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { Tokenizer } from '../../../encoder/tokenizer.js';
import { SPECIAL_TOKENS, wordPieceFiles } from '../../../encoder/tokenizer-files.js';
import { NEIGHBOURS } from '../../../trainer/views/typos.js';
import { TITLES, viewsBySeed } from './support.js';

const TEXT = 'how do I mount a usb stick at boot';
const WORDS = TEXT.split(' ');

/** Of a mean of n numbers in 0..1 with that probability: four standard errors. */
const tolerance = (p: number, n: number): number => 4 * Math.sqrt((p * (1 - p)) / n);

describe('deletion', () => {
  it('leaves words out, the rest in their order, and counts them', () => {
    for (const { text, edits } of viewsBySeed('deletion', TEXT, { deletionShare: 0.4 })) {
      const left = text.split(' ');
      let from = 0;
      for (const word of left) {
        from = WORDS.indexOf(word, from) + 1;
        assert.ok(from > 0, text);
      }
      const gone = WORDS.length - left.length;
      assert.deepEqual(edits, gone > 0 ? [{ kind: 'deletion', words: gone }] : []);
    }
  });

  it('takes each word with the probability that is asked for', () => {
    const views = viewsBySeed('deletion', TEXT, { deletionShare: 0.3 }, 3000);
    for (const word of WORDS) {
      const gone = views.filter(({ text }) => !text.split(' ').includes(word)).length / views.length;
      assert.ok(Math.abs(gone - 0.3) < tolerance(0.3, views.length), `${word}: ${gone}`);
    }
  });

  it('leaves one word, any, when it would leave none', () => {
    const left = viewsBySeed('deletion', TEXT, { deletionShare: 1 }).map(({ text }) => text);
    assert.deepEqual(new Set(left), new Set(WORDS));
  });
});

describe('word order', () => {
  it('moves no word farther than the distance, loses none, and counts those moved', () => {
    const farthest = new Map<number, number>();
    for (const distance of [1, 3])
      for (const { text, edits } of viewsBySeed('word-order', TEXT, { orderDistance: distance })) {
        const moved = text.split(' ').map((word, i) => Math.abs(WORDS.indexOf(word) - i));
        assert.deepEqual(text.split(' ').sort(), [...WORDS].sort());
        farthest.set(distance, Math.max(farthest.get(distance) ?? 0, ...moved));
        const words = moved.filter((places) => places > 0).length;
        assert.deepEqual(edits, words > 0 ? [{ kind: 'order', words }] : []);
      }
    assert.deepEqual(
      [...farthest],
      [
        [1, 1],
        [3, 3],
      ],
    );
  });

  it('swaps two words with the probability of Lample et al.: u0 > 1 + u1 of two uniform in [0, 2)', () => {
    const views = viewsBySeed('word-order', 'a b', { orderDistance: 1 }, 4000);
    const swapped = views.filter(({ text }) => text === 'b a').length / views.length;
    // The corner of a square of side 2 above the line u0 = 1 + u1: a triangle of legs 1.
    assert.ok(Math.abs(swapped - 1 / 8) < tolerance(1 / 8, views.length), String(swapped));
  });
});

describe('masking', () => {
  it('hides words with the probability that is asked for, in their places, and counts them', () => {
    const views = viewsBySeed('masking', TEXT, { maskingShare: 0.3 }, 3000);
    let hidden = 0;
    for (const { text, edits } of views) {
      const words = text.split(' ');
      assert.ok(words.every((word, i) => word === WORDS[i] || word === '[MASK]'));
      const count = words.filter((word) => word === '[MASK]').length;
      assert.deepEqual(edits, count > 0 ? [{ kind: 'masking', words: count }] : []);
      hidden += count;
    }
    const share = hidden / views.length / WORDS.length;
    assert.ok(Math.abs(share - 0.3) < tolerance(0.3, views.length * WORDS.length), String(share));
  });

  it('leaves one word to see', () => {
    for (const { text } of viewsBySeed('masking', TEXT, { maskingShare: 1 }))
      assert.equal(text.split(' ').filter((word) => word !== '[MASK]').length, 1);
  });

  it('is read by a tokenizer as its mask token, beside other words too', () => {
    const vocabulary = [...SPECIAL_TOKENS, 'usb', 'stick', 'm', '[', ']'];
    const files = wordPieceFiles(vocabulary, { lowerCase: true, maxTokens: 16 });
    const tokenizer = new Tokenizer(files, 16);
    const { cls, sep, mask } = tokenizer.special;
    const ids = tokenizer.encode('[MASK] usb [MASK] [MASK] stick');
    assert.deepEqual([...ids], [cls, mask, 5, mask, mask, 6, sep]);
  });
});

/** Letters that have to be put in, taken out, replaced or exchanged with the next one (Damerau 1964). */
function distance(a: string, b: string): number {
  const d = Array.from({ length: a.length + 1 }, (_, i) =>
    Array.from({ length: b.length + 1 }, (_, j) => (i === 0 ? j : j === 0 ? i : 0)),
  );
  for (let i = 1; i <= a.length; i++)
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      d[i][j] = Math.min(d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        d[i][j] = Math.min(d[i][j], d[i - 2][j - 2] + 1);
    }
  return d[a.length][b.length];
}

describe('typos', () => {
  it('are one slip a word behind its first letter, whose capital may be lost; each is counted', () => {
    for (const title of TITLES) {
      const words = title.trim().split(/\s+/);
      for (const { text, edits } of viewsBySeed('typos', title, { typoShare: 0.5 })) {
        const typed = text.split(' ');
        assert.equal(typed.length, words.length);
        const wrong = words.flatMap((word, i) => (word === typed[i] ? [] : [[word, typed[i]]]));
        for (const [word, found] of wrong) {
          assert.equal(distance(word.toLowerCase(), found.toLowerCase()), 1, `${word} -> ${found}`);
          const [first] = /\p{L}/u.exec(word)!;
          assert.equal(/\p{L}/u.exec(found)![0].toLowerCase(), first.toLowerCase(), `${word} -> ${found}`);
        }
        assert.deepEqual(edits, wrong.length > 0 ? [{ kind: 'typo', words: wrong.length }] : []);
      }
    }
  });

  it('are never made in words with digits, paths, commands, [MASK] or fewer than four letters', () => {
    const text = 'the 12.04.2 /dev/sda1 RTL8188 ~/.ssh user@host a.b x86-64 C++ my_file [MASK] (usb)';
    for (const view of viewsBySeed('typos', text, { typoShare: 1 }))
      assert.deepEqual(view, { text, edits: [], words: 12 });
  });

  it('leave the punctuation around a word, and come to every word at share 1', () => {
    for (const { text, edits } of viewsBySeed('typos', '"screen" (black)?', { typoShare: 1 })) {
      assert.match(text, /^"[a-z]+" \([a-z]+\)\?$/);
      assert.deepEqual(edits, [{ kind: 'typo', words: 2 }]);
    }
  });

  it('are neighbour keys, doubled, dropped and transposed letters, missing apostrophes and capitals', () => {
    const found = new Set(viewsBySeed('typos', "Don't", { typoShare: 1 }, 2000).map(({ text }) => text));
    for (const typo of ["Dpn't", "Doon't", "Do't", "Dno't", 'Dont', 'dont', "don'r"])
      assert.ok(found.has(typo), typo);
    assert.ok(!found.has("don't"), 'a lost capital alone');
    for (const typo of found) assert.ok(!/^don't$/i.test(typo), typo);
  });

  it('know the keyboard', () => {
    assert.deepEqual([...NEIGHBOURS.get('g')!].sort().join(''), 'bfhtvy');
    assert.deepEqual([...NEIGHBOURS.get('q')!].sort().join(''), 'aw');
    assert.deepEqual([...NEIGHBOURS.get('m')!].sort().join(''), 'jkn');
    for (const [key, near] of NEIGHBOURS)
      for (const other of near) assert.ok(NEIGHBOURS.get(other)!.includes(key), `${key} and ${other}`);
  });
});
