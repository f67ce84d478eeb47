/** More words than this in a query only repeat the topic, and each costs a posting list. */
const MAX_TERMS = 64;

/**
 * A text as an FTS5 query: its words, each quoted, so that no character of it is an operator, joined by OR.
 * Words are split as FTS5's unicode61 tokenizer splits them: runs of letters, numbers and marks.
 *
 * @returns undefined when the text has no word at all
 */
export function ftsQuery(text: string): string | undefined {
  const words = new Set(text.toLowerCase().match(/[\p{L}\p{N}\p{M}\p{Co}]+/gu));
  if (words.size === 0) return undefined;
  return [...words]
    .slice(0, MAX_TERMS)
    .map((word) => `"${word}"`)
    .join(' OR ');
}
