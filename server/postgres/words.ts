import { termsOf, wordsOf } from '../search/lexical.js';

/** What PostgreSQL's tsvector and tsquery hold. */
const MAX_WORD_BYTES = 2046;
const MAX_POSITION = 16_383;

/**
 * A text as a tsvector: words as the embedded store finds them, so that both find the same documents by them.
 * PostgreSQL's own parser would take "libssl1.0.0" for a host, and what a letter is it asks the database's locale.
 */
export function tsvectorOf(text: string): string {
  const positions = new Map<string, number[]>();
  wordsOf(plain(text)).forEach((word, i) => {
    if (Buffer.byteLength(word) > MAX_WORD_BYTES) return;
    const places = positions.get(word) ?? [];
    places.push(Math.min(i + 1, MAX_POSITION));
    positions.set(word, places);
  });
  return [...positions].map(([word, places]) => `'${word}':${places.join(',')}`).join(' ');
}

/**
 * A query as a tsquery: any of its words, and each name in it as a phrase. Undefined when it has no word at all.
 * A name is no longer than a word may be: on a phrase of thousands of words PostgreSQL's parser runs out of stack.
 */
export function tsqueryOf(text: string): string | undefined {
  const fits = (term: string): boolean => Buffer.byteLength(term) <= MAX_WORD_BYTES;
  const phrase = (name: string): string => `(${wordsOf(name).map(quoted).join(' <-> ')})`;
  const { words, names } = termsOf(plain(text));
  const terms = words.filter(fits);
  if (terms.length === 0) return undefined;
  return [...terms.map(quoted), ...names.filter(fits).map(phrase)].join(' | ');
}

/** Without accents, as FTS5's unicode61 compares. */
function plain(text: string): string {
  return text.normalize('NFD').replace(/\p{M}/gu, '');
}

/** Words are letters, numbers and marks: there is no quote in them. */
function quoted(word: string): string {
  return `'${word}'`;
}
