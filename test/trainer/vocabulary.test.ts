import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { Random } from '../../base/random.js';
import { Tokenizer } from '../../encoder/tokenizer.js';
import { SPECIAL_TOKENS, wordPieceFiles } from '../../encoder/tokenizer-files.js';
import {
  countTokens,
  countWords,
  pruneVocabulary,
  trainVocabulary,
  vocabularyOf,
} from '../../trainer/vocabulary.js';

const tokenizerOf = (vocabulary: readonly string[]): Tokenizer =>
  new Tokenizer(wordPieceFiles(vocabulary, { lowerCase: true, maxTokens: 512 }), 512);
const textsOf = (tokenizer: Tokenizer, text: string): string[] =>
  tokenizer
    .tokens(text)
    .slice(1, -1)
    .map((token) => token.text);

describe("a tokenizer's vocabulary", () => {
  it('is in the order of the ids, numbers too', () => {
    const vocabulary = [...SPECIAL_TOKENS, 'boot', '7', '##7', '10', '2'];
    const files = wordPieceFiles(vocabulary, { lowerCase: true, maxTokens: 16 });
    assert.deepEqual(vocabularyOf(files), vocabulary);
  });

  it('is none when it is not WordPiece', () => {
    const tokenizerJson = JSON.stringify({ model: { type: 'BPE', vocab: { a: 0 }, merges: [] } });
    assert.equal(vocabularyOf({ tokenizerJson, tokenizerConfig: {} }), undefined);
  });
});

describe('a pruned vocabulary', () => {
  // As in BERT's: special tokens are not all in front, [unused] lies between them.
  const TEACHER = [
    ...['[PAD]', '[unused0]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', '[unused1]'],
    ...['a', 'b', 'я', 'ж', '中', '##a', '##b', '##я', '##ж', '##中'],
    ...['the', 'он', 'boot', '##ing', '...', 'disk', 'жя', 'usb'],
  ];
  const CHARACTERS = ['a', 'b', '##a', '##b'];
  const kept = (used: Record<string, number>, size: number): string[] => {
    const counts = TEACHER.map((token) => used[token] ?? 0);
    return [...pruneVocabulary(TEACHER, counts, size)].map((id) => TEACHER[id]);
  };

  it('has the special tokens and ASCII characters in any case, in their order', () => {
    assert.deepEqual(kept({}, 9), [...SPECIAL_TOKENS, ...CHARACTERS]);
  });

  it('then has what the data uses most, and of equals the first', () => {
    const used = { the: 1, boot: 2, '##ing': 9, disk: 2, '[CLS]': 50 };
    assert.deepEqual(kept(used, 10), [...SPECIAL_TOKENS, ...CHARACTERS, '##ing']);
    assert.deepEqual(kept(used, 11), [...SPECIAL_TOKENS, ...CHARACTERS, 'boot', '##ing']);
    assert.deepEqual(kept(used, 13), [...SPECIAL_TOKENS, ...CHARACTERS, 'the', 'boot', '##ing', 'disk']);
  });

  it('fills up with unused tokens in their order, those without a Latin letter or digit last', () => {
    const filled = (size: number): string[] => kept({ disk: 1 }, size).slice(9);
    assert.deepEqual(filled(12), ['the', 'boot', 'disk']);
    assert.deepEqual(filled(14), ['the', 'boot', '##ing', 'disk', 'usb']);
    assert.deepEqual(kept({ disk: 1 }, 16).slice(5, 9), ['a', 'b', 'я', 'ж']);
  });

  it('is all but [unused] when there is room', () => {
    const all = TEACHER.filter((token) => !token.startsWith('[unused'));
    assert.deepEqual(kept({ '[unused1]': 7 }, all.length), all);
    assert.deepEqual(kept({}, 10_000), all);
  });

  it('has other characters that the data uses, alone or in a token that may be dropped', () => {
    assert.deepEqual(kept({ 中: 1 }, 10), [...SPECIAL_TOKENS, 'a', 'b', '中', '##a', '##b']);
    assert.deepEqual(kept({ жя: 1, the: 9 }, 12), [
      ...SPECIAL_TOKENS,
      'a',
      'b',
      'ж',
      '##a',
      '##b',
      '##я',
      'the',
    ]);
  });

  it('refuses a size without room for these', () => {
    assert.throws(() => kept({ 中: 1 }, 9), { kind: 'usage', message: /expected at least 10 .* found 9$/ });
    assert.doesNotThrow(() => kept({ 中: 1 }, 10));
  });

  it('spells every ASCII text and every word that it was counted on, however small it is', () => {
    const random = new Random(1);
    const ascii = Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i));
    const cyrillic = [...'абвгдежз'];
    const letters = [...new Set(ascii.map((letter) => letter.toLowerCase())), ...cyrillic];
    const some = (from: readonly string[], n: number): string =>
      Array.from({ length: n }, () => from[random.below(from.length)]).join('');
    const long = Array.from({ length: 300 }, () => {
      const token = some(random.below(2) ? ascii.slice(65, 90) : cyrillic, 2 + random.below(4));
      return random.below(2) ? token : `##${token}`;
    });
    const teacher = [
      ...new Set([...SPECIAL_TOKENS, ...letters, ...letters.map((letter) => `##${letter}`), ...long]),
    ];
    const data = Array.from({ length: 50 }, () => some(cyrillic.slice(0, 5), 8));
    const sequences = data.map((text) => tokenizerOf(teacher).encode(text));
    const counts = countTokens(sequences, teacher.length);
    const smallest = SPECIAL_TOKENS.length + 2 * 68 + 2 * 5;
    for (const size of [smallest, smallest + 20, teacher.length]) {
      const student = tokenizerOf([...pruneVocabulary(teacher, counts, size)].map((id) => teacher[id]));
      assert.equal(student.vocabSize, size);
      for (let trial = 0; trial < 100; trial++) data.push(some([...ascii, ' '], 1 + random.below(60)));
      for (const text of data)
        assert.ok(!student.encode(text).includes(student.special.unknown), `${size}: ${text}`);
    }
  });
});

describe('a trained vocabulary', () => {
  // The words of Sennrich et al. 2016.
  const WORDS = new Map([
    ['low', 5],
    ['lower', 2],
    ['newest', 6],
    ['widest', 3],
  ]);
  const LETTERS = ['e', 'w', 's', 't', 'l', 'o', 'n', 'd', 'i', 'r'];

  it('merges the most frequent pair, the smaller token first', () => {
    const merges = [
      '##es', // 6 + 3, as often as "##st"
      '##est', // 9
      '##ow', // 5 + 2, as often as "lo"
      'low', // 7
      '##ew', // 6, as often as "ne" and "##west"
      '##ewest', // 6, as often as "new"
      'newest', // 6
      '##dest', // 3, as often as "##id" and "wi"
      '##idest', // 3, as often as "wi"
      'widest', // 3
      '##er', // 2, as often as "lowe"
      'lower', // 2
    ];
    const all = [...SPECIAL_TOKENS, ...LETTERS, ...LETTERS.map((letter) => `##${letter}`), ...merges];
    assert.deepEqual(trainVocabulary(WORDS, all.length), all);
    assert.deepEqual(trainVocabulary(WORDS, 29), all.slice(0, 29));
  });

  it('ends early when no pair is left that occurs twice', () => {
    assert.equal(trainVocabulary(WORDS, 1000).length, 5 + 2 * 10 + 12);
    assert.deepEqual(trainVocabulary(new Map([['ab', 1]]), 1000).slice(5), ['a', 'b', '##a', '##b']);
  });

  it('learns what counting all pairs anew before each merge learns', () => {
    const random = new Random(2);
    for (let trial = 0; trial < 20; trial++) {
      // Few letters, so that pairs overlap ("aaa") and counts tie.
      const words = new Map<string, number>();
      for (let i = 0; i < 60; i++) {
        const word = Array.from({ length: 1 + random.below(9) }, () => 'aab'[random.below(3)]).join('');
        words.set(word, 1 + random.below(5));
      }
      const vocabulary = trainVocabulary(words, 60);
      assert.deepEqual(vocabulary, trainedByCountingAnew(words, 60));
      assert.equal(new Set(vocabulary).size, vocabulary.length);
    }
  });

  it('does not depend on the order of the words', () => {
    const random = new Random(3);
    const words = Array.from({ length: 300 }, (): [string, number] => {
      const word = Array.from({ length: 1 + random.below(8) }, () => 'etaoin'[random.below(6)]).join('');
      return [word, 1 + word.length];
    });
    const vocabulary = trainVocabulary(new Map(words), 120);
    assert.equal(vocabulary.length, 120);
    assert.deepEqual(trainVocabulary(new Map(random.shuffle(words)), 120), vocabulary);
  });

  it('spells every word that it was trained on', () => {
    const texts = [
      'How do I boot Ubuntu from an USB disk?',
      'Übergrößen: naïve café',
      "can't open /etc/fstab",
    ];
    const words = countWords(texts, tokenizerOf([...SPECIAL_TOKENS, 'a']));
    for (const size of [85, 100, 1000]) {
      const tokenizer = tokenizerOf(trainVocabulary(words, size));
      for (const text of texts)
        assert.ok(!tokenizer.encode(text).includes(tokenizer.special.unknown), `${size}: ${text}`);
    }
    assert.deepEqual(textsOf(tokenizerOf(trainVocabulary(WORDS, 36)), 'lowest newer'), [
      ...['low', '##est'],
      ...['n', '##ew', '##er'],
    ]);
  });

  it('leaves out the rarest characters when there is no room, and words that nothing can spell', () => {
    const words = new Map([
      ['aab', 3],
      ['ay', 2],
      ['c'.repeat(101), 2],
    ]);
    // "y" is rarest of a, b, c, y. "ay" is as frequent as "##ab", but can't be spelled; nor can 101 letters.
    assert.deepEqual(trainVocabulary(words, 11).slice(5), ['c', 'a', 'b', '##c', '##a', '##b']);
    assert.deepEqual(trainVocabulary(words, 12).slice(11), ['##ab']);
    assert.throws(() => trainVocabulary(words, 6), { kind: 'usage', message: /at least 7 tokens, found 6/ });
  });
});

describe('words and tokens of texts', () => {
  it('are counted as the tokenizer makes them', () => {
    const tokenizer = tokenizerOf([...SPECIAL_TOKENS, 'boot', '##s', '?']);
    const texts = ['Boot? BOOTS', 'boot [SEP] ?'];
    assert.deepEqual(
      countWords(texts, tokenizer),
      new Map([
        ['boot', 2],
        ['?', 2],
        ['boots', 1],
      ]),
    );
    const counts = countTokens(
      texts.map((text) => tokenizer.encode(text)),
      8,
    );
    // [PAD] [UNK] [CLS] [SEP] [MASK] boot ##s ?
    assert.deepEqual([...counts], [0, 0, 2, 3, 0, 3, 1, 2]);
  });
});

/** The same rules, read off the definition. */
function trainedByCountingAnew(words: ReadonlyMap<string, number>, size: number): string[] {
  const letters = new Map<string, number>();
  const spellings = [...words].map(([word, count]) => {
    for (const letter of word) letters.set(letter, (letters.get(letter) ?? 0) + count);
    return { tokens: [...word].map((letter, i) => (i > 0 ? `##${letter}` : letter)), count };
  });
  const alphabet = [...letters.keys()].sort((a, b) => letters.get(b)! - letters.get(a)! || (a < b ? -1 : 1));
  const vocabulary = [...SPECIAL_TOKENS, ...alphabet, ...alphabet.map((letter) => `##${letter}`)];
  while (vocabulary.length < size) {
    const counts = new Map<string, number>();
    for (const { tokens, count } of spellings)
      for (let i = 1; i < tokens.length; i++) {
        const pair = `${tokens[i - 1]} ${tokens[i]}`;
        counts.set(pair, (counts.get(pair) ?? 0) + count);
      }
    const best = [...counts.keys()]
      .map((pair) => ({ pair, token: pair.replace(' ##', '') }))
      .filter(({ pair }) => counts.get(pair)! >= 2)
      .sort((a, b) => {
        const byCount = counts.get(b.pair)! - counts.get(a.pair)!;
        return byCount || (a.token < b.token ? -1 : 1);
      })[0];
    if (!best) break;
    vocabulary.push(best.token);
    for (const spelling of spellings)
      for (let i = 1; i < spelling.tokens.length; i++)
        if (`${spelling.tokens[i - 1]} ${spelling.tokens[i]}` === best.pair)
          spelling.tokens.splice(i - 1, 2, best.token);
  }
  return vocabulary;
}
