import { loadOptional } from './optional.js';
import { plainWord } from './words.js';

export type PartOfSpeech = 'noun' | 'verb' | 'adj' | 'adv';

export interface Tagged {
  pos: PartOfSpeech;
  /** Its dictionary form, in small letters. */
  lemma: string;
}

/** Names and auxiliary verbs are of no part that has other words in their place. */
const PARTS: Readonly<Record<string, PartOfSpeech | undefined>> = {
  NOUN: 'noun',
  VERB: 'verb',
  ADJ: 'adj',
  ADV: 'adv',
};

/** The part of wink-nlp that is used: the package may be absent when this is compiled. */
interface Wink {
  readDoc(text: string): { tokens(): { out(its: unknown): string[] } };
  its: Record<'value' | 'pos' | 'lemma', unknown>;
}

export type Tagger = (words: readonly string[]) => (Tagged | undefined)[];

/** @throws UserError `unavailable` without wink-nlp */
export function openTagger(needs: string): Tagger {
  const winkNLP = loadOptional<(model: unknown, pipe: string[]) => Wink>('wink-nlp', needs);
  const nlp = winkNLP(loadOptional('wink-eng-lite-web-model', needs), ['pos']);
  return (words) => tag(nlp, words);
}

/** The part of speech of each word that has one of the four, and is plain. */
function tag({ readDoc, its }: Wink, words: readonly string[]): (Tagged | undefined)[] {
  const tokens = readDoc(words.join(' ')).tokens();
  const values = tokens.out(its.value);
  const parts = tokens.out(its.pos);
  const lemmas = tokens.out(its.lemma);
  const tags: (Tagged | undefined)[] = words.map(() => undefined);
  // Tokens are the words' own characters in their order, cut finer.
  let word = 0;
  let at = 0;
  values.forEach((value, t) => {
    const plain = at < words[word].length ? plainWord(words[word]) : undefined;
    const pos = PARTS[parts[t]];
    if (pos && plain?.core === value && plain.before.length === at) tags[word] = { pos, lemma: lemmas[t] };
    at += value.length;
    if (at >= words[word].length && word + 1 < words.length) {
      word++;
      at = 0;
    }
  });
  return tags;
}
