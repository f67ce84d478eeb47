import * as stopword from 'stopword';

/** A word in a smaller share of the texts is one of their subjects, and not what they are about. */
const LEAST_SHARE = 0.2;
/** Words by which the language is told, and among which the one is looked for. */
const FREQUENT = 50;

/** In fewer texts than this a word can be by chance. */
const LEAST_TEXTS = 10;
/** As many as these tell shares to a percent. */
const MOST_TEXTS = 20_000;
const WORD = /\p{L}[\p{L}\p{M}\p{N}'’]{2,}/gu;

/**
 * The word that most texts share, as they mostly write it: of a forum's titles often its subject. Words that every text
 * of a language has (npm's stopword) do not count, nor do numbers and words of one or two letters.
 *
 * @returns with the share of the texts that have it, 0.2 at least; undefined where no word has as much
 */
export function sharedWord(all: readonly string[]): { word: string; share: number } | undefined {
  const nth = Math.ceil(all.length / MOST_TEXTS);
  const texts = all.filter((_, i) => i % nth === 0);
  const counts = new Map<string, number>();
  for (const text of texts) for (const word of new Set(text.toLowerCase().match(WORD))) add(counts, word);
  const frequent = mostOf(counts, FREQUENT);
  const common = stopWords(frequent);
  const word = frequent.find((each) => !common.has(each)) ?? '';
  const count = counts.get(word) ?? 0;
  if (count < LEAST_TEXTS || count < LEAST_SHARE * texts.length) return undefined;
  const spellings = new Map<string, number>();
  for (const text of texts)
    for (const found of text.match(WORD) ?? []) if (found.toLowerCase() === word) add(spellings, found);
  return { word: mostOf(spellings, 1)[0], share: count / texts.length };
}

function add(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

/** Of the language whose list has the most of some frequent words. */
function stopWords(frequent: readonly string[]): ReadonlySet<string> {
  const lists = Object.values(stopword).filter((each) => Array.isArray(each));
  const covered = lists.map((list) => frequent.filter((word) => list.includes(word)).length);
  return new Set(lists[covered.indexOf(Math.max(...covered))]);
}

/** The keys with the highest counts, highest first. */
function mostOf(counts: ReadonlyMap<string, number>, n: number): string[] {
  const entries = [...counts].sort(([a, of], [b, other]) => other - of || (a < b ? -1 : 1));
  return entries.slice(0, n).map(([key]) => key);
}
