import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { Random } from '../../base/random.js';
import { Tokenizer } from '../../encoder/tokenizer.js';
import { mostTokens, wordPieceFiles } from '../../encoder/tokenizer-files.js';
import { TINY_VOCABULARY } from '../support/tiny-model.js';

const files = wordPieceFiles(TINY_VOCABULARY, { lowerCase: true, maxTokens: 16 });
const tokenizer = new Tokenizer(files, 16);
const tokensOf = (text: string): string[] => tokenizer.tokens(text).map((token) => token.text);

describe('a WordPiece tokenizer', () => {
  it('frames a text with [CLS] and [SEP], lower-cases it, splits off punctuation', () => {
    assert.deepEqual(tokensOf('How to boot?'), ['[CLS]', 'how', 'to', 'boot', '?', '[SEP]']);
  });

  it('takes the longest piece that fits first (Wu et al. 2016)', () => {
    // "booting" is "boot" and "##ing"; "usbs" has no "##s" but as a letter; "quit" is letters only.
    assert.deepEqual(tokensOf('booting usbs quit').slice(1, -1), [
      'boot',
      '##ing',
      'usb',
      '##s',
      'q',
      '##u',
      '##i',
      '##t',
    ]);
  });

  it('strips accents, and makes a word with a character that it does not know [UNK]', () => {
    assert.deepEqual(tokensOf('bóot Ωmega').slice(1, -1), ['boot', '[UNK]']);
  });

  it('gives ids by the order of the vocabulary', () => {
    const id = (token: string): number => TINY_VOCABULARY.indexOf(token);
    assert.deepEqual([...tokenizer.encode('boot disk')], [2, id('boot'), id('disk'), 3]);
    assert.deepEqual([...tokenizer.encode('')], [2, 3]);
    assert.deepEqual([...tokenizer.encode(' \t\n ')], [2, 3]);
    assert.deepEqual(tokenizer.special, { cls: 2, sep: 3, pad: 0, unknown: 1, mask: 4 });
    assert.equal(tokenizer.vocabSize, TINY_VOCABULARY.length);
  });

  it('cuts off a long text so that maxTokens holds [CLS] and [SEP] too', () => {
    const ids = tokenizer.encode('disk '.repeat(50));
    assert.equal(ids.length, 16);
    assert.equal(ids[0], 2);
    assert.equal(ids[15], 3);
    assert.ok(ids.subarray(1, 15).every((id) => id === TINY_VOCABULARY.indexOf('disk')));
    assert.equal(tokenizer.encode('disk '.repeat(14)).length, 16);
    assert.equal(tokenizer.count('disk '.repeat(50)), 52);
    assert.equal(tokenizer.tokens('disk '.repeat(50)).length, 52);
  });

  it('cuts off the same however long the rest is, and whatever the text is made of', () => {
    const random = new Random(1);
    const parts = [
      'disk',
      'booting',
      'Ω',
      '漢',
      '?!',
      ' ',
      ' ',
      '  ',
      '\t',
      '\n',
      '\u3000',
      '[SEP]',
      'é',
      '😀',
      '\0',
    ];
    for (let trial = 0; trial < 500; trial++) {
      const length = 1 + random.below(2000);
      const some = Array.from(
        { length: 1 + random.below(parts.length) },
        () => parts[random.below(parts.length)],
      );
      const text = Array.from({ length }, () => some[random.below(some.length)]).join('');
      const all = tokenizer.tokens(text).map(({ id }) => id);
      const expected = all.length > 16 ? [...all.slice(0, 15), 3] : all;
      assert.deepEqual([...tokenizer.encode(text)], expected, JSON.stringify(text.slice(0, 300)));
    }
  });

  it('tells apart what it put around a text, as the special_tokens_mask of tokenizers: not what stands for a word', () => {
    const tokens = tokenizer.tokens('Ω disk [SEP]');
    assert.deepEqual(
      tokens.map(({ text }) => text),
      ['[CLS]', '[UNK]', 'disk', '[SEP]', '[SEP]'],
    );
    assert.deepEqual(
      tokens.map(({ special }) => special),
      [true, false, false, false, true],
    );
  });

  it('gives the words that it looks up: normalized, split, without special tokens', () => {
    assert.deepEqual(tokenizer.words("Bóot\tan ΩMEGA-disk, don't! [SEP] 漢字"), [
      ...['boot', 'an', 'ωmega', '-', 'disk', ',', 'don', "'", 't', '!', '漢', '字'],
    ]);
    assert.deepEqual(tokenizer.words(' \n '), []);
    const text = 'Booting USBs: quit the déSKTOP';
    const pieces = tokensOf(text).slice(1, -1).join(' ').replaceAll(' ##', '');
    assert.equal(tokenizer.words(text).join(' '), pieces);
  });

  it('never makes more tokens of a text than its length allows', () => {
    const random = new Random(5);
    // Every letter is a token in this vocabulary, and so is what it does not know: the most that can be.
    const letters = wordPieceFiles([...TINY_VOCABULARY, 'ᄀ', '##ᅡ', '##ᆨ'], {
      lowerCase: true,
      maxTokens: 16,
    });
    const tokenizers = [tokenizer, new Tokenizer(letters, 16)];
    const ranges = [0x20, 0xc0, 0x390, 0x1e00, 0x3042, 0x4e00, 0xac00, 0x1f600, 0x1d160];
    for (let round = 0; round < 300; round++) {
      const text = Array.from({ length: random.below(12) }, () =>
        String.fromCodePoint(ranges[random.below(ranges.length)] + random.below(60)),
      ).join('');
      for (const each of tokenizers) assert.ok(each.count(text) <= mostTokens(text), JSON.stringify(text));
    }
    assert.ok(mostTokens('usb stick') < 20);
  });

  it('does not depend on what it saw before', () => {
    const once = tokenizer.encode('install the driver');
    for (let i = 0; i < 100; i++) tokenizer.encode(`word ${i}`);
    assert.deepEqual(tokenizer.encode('install the driver'), once);
  });

  it('keeps upper case only where nothing lower-cases it', () => {
    const cased = wordPieceFiles(TINY_VOCABULARY, { lowerCase: false, maxTokens: 16 });
    assert.deepEqual([...new Tokenizer(cased, 16).encode('BOOT')], [2, 1, 3]);
    assert.deepEqual(
      [...new Tokenizer(cased, 16, true).encode('BOOT')],
      [2, TINY_VOCABULARY.indexOf('boot'), 3],
    );
  });

  it('refuses a vocabulary without [CLS], a file that is no tokenizer, and a text without frame', () => {
    const without = TINY_VOCABULARY.filter((token) => token !== '[CLS]');
    assert.throws(() => wordPieceFiles(without, { lowerCase: true, maxTokens: 16 }), {
      kind: 'unsupported-model',
      message: /expected the token \[CLS\]/,
    });
    assert.throws(() => new Tokenizer({ tokenizerJson: '{}', tokenizerConfig: {} }, 16), {
      kind: 'malformed',
    });
    const bare = JSON.stringify({ ...(JSON.parse(files.tokenizerJson) as object), post_processor: null });
    assert.throws(() => new Tokenizer({ ...files, tokenizerJson: bare }, 16), {
      kind: 'unsupported-model',
      message: /expected the empty text to become \[CLS\] \[SEP\], found \[\]/,
    });
  });
});
