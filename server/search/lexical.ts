/** More words than this in a query only repeat the topic, and each costs a posting list. */
const MAX_TERMS = 64;
/** Of names, each a phrase on top of its words. */
const MAX_NAMES = 16;

/** As FTS5's unicode61 tokenizer splits: runs of letters, numbers and marks. */
const WORD = '[\\p{L}\\p{N}\\p{M}\\p{Co}]+';
const words = new RegExp(WORD, 'gu');
/** libssl1.0.0, 0bda:8179, vm.dirty_ratio: words that hang together. */
const compounds = new RegExp(`${WORD}(?:[-._:/=+@~]{1,2}${WORD})+`, 'gu');

/** A text's words in lower case, in their order. */
export function wordsOf(text: string): string[] {
  return text.toLowerCase().match(words) ?? [];
}

/** A query's words and names, each once and as many as are worth asking for. */
export function termsOf(query: string): { words: string[]; names: string[] } {
  const names = new Set(query.toLowerCase().match(compounds)?.filter(isName));
  return {
    words: [...new Set(wordsOf(query))].slice(0, MAX_TERMS),
    names: [...names].slice(0, MAX_NAMES),
  };
}

/**
 * A text as an FTS5 query: its words, each quoted, so that no character of it is an operator, joined by OR. What
 * looks like a name (a package with its version, a device, a setting) is a phrase beside its words: what holds all of it in
 * this order is worth more than what holds `1` and `0` somewhere.
 *
 * @returns undefined when the text has no word at all
 */
export function ftsQuery(text: string): string | undefined {
  const { words, names } = termsOf(text);
  if (words.length === 0) return undefined;
  return [...words, ...names].map((term) => `"${term}"`).join(' OR ');
}

/** Three parts and more, or letters with numbers: not "dual-boot", and not "14.04", which half a forum's titles hold. */
function isName(compound: string): boolean {
  return compound.match(words)!.length > 2 || (/\p{L}/u.test(compound) && /\p{N}/u.test(compound));
}
