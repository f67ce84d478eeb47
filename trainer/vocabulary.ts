import { UserError } from '../base/errors.js';
import type { Tokenizer } from '../encoder/tokenizer.js';
import {
  LONGEST_WORD,
  SPECIAL_TOKENS,
  type TokenizerFiles,
  vocabTextOf,
} from '../encoder/tokenizer-files.js';

/**
 * WordPiece vocabularies for an encoder that is smaller than its teacher.
 *
 * WordPiece spells a word from the left with the longest token that fits, and the whole word is [UNK] when at
 * some place none does. So single characters, as a beginning and as a continuation, are what makes every
 * other token dispensable: a word that lost its token is spelled with shorter ones, at worst letter by letter.
 */

/** A WordPiece tokenizer's tokens in the order of their ids; nothing for another kind. */
export function vocabularyOf(files: TokenizerFiles): string[] | undefined {
  return vocabTextOf(files)?.split('\n').slice(0, -1);
}

/**
 * How often the texts have each word, split and lower-cased as at inference.
 *
 * @param tokenizer the teacher's, whose normalizer and pre-tokenizer the student will have as well
 */
export function countWords(texts: Iterable<string>, tokenizer: Tokenizer): Map<string, number> {
  const counts = new Map<string, number>();
  for (const text of texts)
    for (const word of tokenizer.words(text)) counts.set(word, (counts.get(word) ?? 0) + 1);
  return counts;
}

/** How often the sequences have each id: [vocabularySize]. */
export function countTokens(sequences: Iterable<Int32Array>, vocabularySize: number): Float64Array {
  const counts = new Float64Array(vocabularySize);
  for (const sequence of sequences) for (const id of sequence) counts[id]++;
  return counts;
}

/**
 * Which of a teacher's tokens a student keeps. In this order, until there are `size`:
 * 1. the special tokens;
 * 2. single characters, `x` and `##x`, that are printable ASCII or in a token that is used, so that an ASCII
 *    word, and any other word of the data that was not [UNK], still is not;
 * 3. tokens by falling count;
 * 4. tokens that are not used, by id (BERT's are roughly by falling frequency in general text), those without
 *    a Latin letter or digit last.
 * `[unused7]` and the like are never kept: no text gives them.
 *
 * @param vocabulary the teacher's tokens in the order of their ids
 * @param counts how often the data uses each: [vocabulary.length]
 * @param size how many to keep; all that can be used when there are not as many
 * @returns ids, ascending, so that tokens keep their order: [size]
 * @throws UserError `usage` when size has no room for 1. and 2.
 */
export function pruneVocabulary(
  vocabulary: readonly string[],
  counts: ArrayLike<number>,
  size: number,
): Int32Array {
  const special = new Set(SPECIAL_TOKENS);
  const spelled = new Set<string>();
  vocabulary.forEach((token, id) => {
    if (counts[id] > 0 && !special.has(token))
      for (const character of charactersOf(token)) spelled.add(character);
  });
  const priorities = vocabulary.map((token, id) => {
    if (special.has(token)) return 1;
    if (spelled.has(token) || /^(##)?[!-~]$/.test(token)) return 2;
    if (counts[id] > 0) return 3;
    return /[\p{Script=Latin}0-9]/u.test(token) ? 4 : 5;
  });
  const needed = priorities.filter((priority) => priority <= 2).length;
  if (size < needed)
    throw new UserError(
      'usage',
      `vocabulary: expected at least ${needed} tokens (the special ones and single characters), found ${size}`,
    );
  const ids = vocabulary.map((_, id) => id).filter((id) => !/^\[unused\d+\]$/.test(vocabulary[id]));
  ids.sort((a, b) => priorities[a] - priorities[b] || counts[b] - counts[a] || a - b);
  return Int32Array.from(ids.slice(0, size)).sort();
}

/** A merge of a pair that the data has once would be a token that is trained on one text. */
const FEWEST = 2;

/** Beyond these many characters are emoji and scripts seen in passing; BERT's own vocabulary has 997. */
const LARGEST_ALPHABET = 1000;

/**
 * A WordPiece vocabulary learned on words: the special tokens, the characters by falling count, the same as
 * continuations, then what each merge makes, in the order of the merges.
 *
 * The next merge is that of the most frequent pair of neighbours, as in byte-pair encoding (Sennrich et al.
 * 2016, arXiv 1508.07909) and Hugging Face's WordPiece trainer, not the pair with the largest
 * count / (count of left x count of right) (Schuster and Nakajima 2012): frequent words become one token with
 * a vector of its own and texts get short, where the ratio spends its tokens on rare letters that come
 * together. Of pairs with equal counts the one with the smaller token goes first, so the order of the words
 * does not matter.
 *
 * A word with a character that found no room, or of more than LONGEST_WORD characters, is [UNK] at inference
 * and takes no part. Costs about as much as the sum over the merges of the words that each changes.
 *
 * @param words how often the data has each word, from `countWords`
 * @param size how many tokens; there are fewer when no pair is left that the data has twice
 * @throws UserError `usage` when size has no room for one character
 */
export function trainVocabulary(words: ReadonlyMap<string, number>, size: number): string[] {
  const room = Math.floor((size - SPECIAL_TOKENS.length) / 2);
  if (room < 1)
    throw new UserError(
      'usage',
      `vocabulary: expected at least ${SPECIAL_TOKENS.length + 2} tokens, found ${size}`,
    );
  const alphabet = frequentCharacters(words, Math.min(room, LARGEST_ALPHABET));
  const vocabulary = [...SPECIAL_TOKENS, ...alphabet, ...alphabet.map((character) => `##${character}`)];
  const ids = new Map(vocabulary.map((token, id) => [token, id]));
  const pairs = new Pairs(vocabulary);
  const spellings: Spelling[] = [];
  for (const [word, count] of words) {
    const spelling = charactersOf(word).map((character) => ids.get(character) ?? -1);
    if (spelling.length > LONGEST_WORD || spelling.includes(-1)) continue;
    const place = spellings.push({ ids: spelling, count }) - 1;
    for (let i = 1; i < spelling.length; i++) pairs.add(spelling[i - 1], spelling[i], count, place);
  }
  while (vocabulary.length < size) {
    const best = pairs.takeMostFrequent();
    if (!best) break;
    // New each time: what lies between two borders of tokens is spelled the same in all words, so that never
    // both "ab" "##c" and "a" "##bc" are there to make "abc".
    const id = vocabulary.push(best.token) - 1;
    for (const place of best.places) merge(spellings[place], place, best, id, pairs);
    best.places = [];
  }
  return vocabulary;
}

/** A word in tokens of the vocabulary as it is so far. */
interface Spelling {
  ids: number[];
  /** How often the data has the word. */
  count: number;
}

/** Two tokens side by side. */
interface Pair {
  left: number;
  right: number;
  /** What they make together. */
  token: string;
  count: number;
  /** Words that have the pair, and some that had it or are here twice. */
  places: number[];
}

/** Puts one token in the place of each such pair in a word, and counts the new neighbours for the old. */
function merge(spelling: Spelling, place: number, pair: Pair, id: number, pairs: Pairs): void {
  const { ids, count } = spelling;
  const merged: number[] = [];
  for (let i = 0; i < ids.length; i++) {
    if (ids[i] !== pair.left || ids[i + 1] !== pair.right) {
      merged.push(ids[i]);
      continue;
    }
    pairs.add(pair.left, pair.right, -count, place);
    if (merged.length > 0) {
      const before = merged[merged.length - 1];
      pairs.add(before, pair.left, -count, place);
      pairs.add(before, id, count, place);
    }
    if (i + 2 < ids.length) {
      pairs.add(pair.right, ids[i + 2], -count, place);
      pairs.add(id, ids[i + 2], count, place);
    }
    merged.push(id);
    i++;
  }
  spelling.ids = merged;
}

/** The counts of all pairs, and the largest. */
class Pairs {
  private readonly byTokens = new Map<number, Pair>();
  /** Pairs whose count rose since they were queued last. */
  private readonly risen = new Set<Pair>();
  /** Binary heap, the pair to merge next on top. An entry's count may be out of date. */
  private readonly queue: { count: number; pair: Pair }[] = [];

  constructor(private readonly vocabulary: readonly string[]) {}

  /** Counts a pair in the word at a place `count` times more, or less. */
  add(left: number, right: number, count: number, place: number): void {
    const key = left * 2 ** 24 + right;
    let pair = this.byTokens.get(key);
    if (!pair) {
      const token = this.vocabulary[left] + this.vocabulary[right].slice(2);
      pair = { left, right, token, count: 0, places: [] };
      this.byTokens.set(key, pair);
    }
    pair.count += count;
    if (count < 0) return;
    if (pair.places.at(-1) !== place) pair.places.push(place);
    this.risen.add(pair);
  }

  /** The most frequent pair, out of the queue now; none when all are too rare. */
  takeMostFrequent(): Pair | undefined {
    for (const pair of this.risen) this.push(pair);
    this.risen.clear();
    while (this.queue.length > 0) {
      const { count, pair } = this.pop();
      if (count === pair.count) return pair;
      // A count that rose was queued as it did; one that fell is queued again only here, on top.
      if (count > pair.count) this.push(pair);
    }
    return undefined;
  }

  private isBefore(a: { count: number; pair: Pair }, b: { count: number; pair: Pair }): boolean {
    return a.count > b.count || (a.count === b.count && a.pair.token < b.pair.token);
  }

  private push(pair: Pair): void {
    if (pair.count < FEWEST) return;
    const { queue } = this;
    const entry = { count: pair.count, pair };
    let i = queue.push(entry) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!this.isBefore(entry, queue[parent])) break;
      queue[i] = queue[parent];
      i = parent;
    }
    queue[i] = entry;
  }

  private pop(): { count: number; pair: Pair } {
    const { queue } = this;
    const top = queue[0];
    const last = queue.pop() ?? top;
    const n = queue.length;
    if (n === 0) return top;
    let i = 0;
    for (let child = 1; child < n; child = 2 * i + 1) {
      if (child + 1 < n && this.isBefore(queue[child + 1], queue[child])) child++;
      if (!this.isBefore(queue[child], last)) break;
      queue[i] = queue[child];
      i = child;
    }
    queue[i] = last;
    return top;
  }
}

/** The characters of a word or token as tokens of their own: `x`, `##y`, `##z`. */
function charactersOf(token: string): string[] {
  const isContinuation = token.length > 2 && token.startsWith('##');
  return [...(isContinuation ? token.slice(2) : token)].map((character, i) =>
    i > 0 || isContinuation ? `##${character}` : character,
  );
}

/** At most n characters, by falling count and then by code. */
function frequentCharacters(words: ReadonlyMap<string, number>, n: number): string[] {
  const counts = new Map<string, number>();
  for (const [word, count] of words)
    for (const character of word) counts.set(character, (counts.get(character) ?? 0) + count);
  const byCount = [...counts].sort(([a, i], [b, j]) => j - i || (a < b ? -1 : 1));
  return byCount.slice(0, n).map(([character]) => character);
}
