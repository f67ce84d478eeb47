import type { Tagged } from './part-of-speech.js';

/** What makes another word's form of its lemma. */
export type Inflection = (lemma: string) => string;

/**
 * How a word came from its lemma: as it is, by -s or by -ing; nothing for other forms, for which there is no rule
 * that would fit another word (went, broken, better).
 */
export function inflectionOf(word: string, { pos, lemma }: Tagged): Inflection | undefined {
  if (word === lemma) return (other) => other;
  const forms = pos === 'verb' ? [withS, withIng] : pos === 'noun' ? [withS] : [];
  const form = forms.find((inflect) => inflect(lemma) === word);
  // Of a term a verb is the first word (log in), a noun the last (hard disk).
  return form && ((other) => other.replace(pos === 'verb' ? /^\S+/ : /\S+$/, form));
}

/** A noun's plural, a verb's third person; regular ones. */
function withS(word: string): string {
  if (/(?:s|x|z|ch|sh)$/.test(word)) return `${word}es`;
  return /[^aeiou]y$/.test(word) ? `${word.slice(0, -1)}ies` : `${word}s`;
}

function withIng(word: string): string {
  if (word.endsWith('ie')) return `${word.slice(0, -2)}ying`;
  if (/[^eoy]e$/.test(word)) return `${word.slice(0, -1)}ing`;
  return /^[^aeiou]*[aeiou][^aeiouwxy]$/.test(word) ? `${word}${word.at(-1)}ing` : `${word}ing`;
}
