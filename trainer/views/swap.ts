import { inflectionOf } from './inflection.js';
import { openTagger, type Tagger } from './part-of-speech.js';
import type { Transformation, ViewOptions } from './transformation.js';
import { WordNet, type Relation } from './wordnet.js';
import { plainWord } from './words.js';

/** Loaded once, by the first view that asks: WordNet is 30 MB. */
let language: { tag: Tagger; wordnet: WordNet } | undefined;

/**
 * Words are swapped for a related one of the same part of speech and form, each word that has one with the same
 * probability. Names stay, and so do words that are part of a term ("hard" of "hard disk"). English only.
 *
 * An antonym turns the meaning round: no text with one is a positive view. Its edits say so, for an objective that
 * wants it pushed away or predicted.
 *
 * @throws UserError `unavailable`, by what it returns, when a package that it needs isn't installed
 */
export function swap(relation: Relation): (options: ViewOptions) => Transformation {
  return ({ swapShare }) => {
    const needs = `view ${relation}`;
    language ??= { tag: openTagger(needs), wordnet: new WordNet(needs) };
    const { tag, wordnet } = language;

    return (words, random) => {
      const tags = tag(words);
      const lemmaAt = (i: number): string => tags[i]?.lemma ?? words[i]?.toLowerCase() ?? '';
      let edited = 0;
      const swapped = words.flatMap((word, i) => {
        const tagged = tags[i];
        if (!tagged) return [word];
        const { before, core, after } = plainWord(word)!;
        const inflect = inflectionOf(core.toLowerCase(), tagged);
        const others = inflect ? wordnet.related(tagged.lemma, tagged.pos, relation) : [];
        if (others.length === 0 || random.float() >= swapShare) return [word];
        if (wordnet.isTerm(lemmaAt(i - 1), tagged.lemma) || wordnet.isTerm(tagged.lemma, lemmaAt(i + 1)))
          return [word];
        edited++;
        const other = inflect!(others[random.below(others.length)]);
        return `${before}${likeCapital(core, other)}${after}`.split(' ');
      });
      return { words: swapped, edited };
    };
  };
}

/** The word with a capital where the model word has one. */
function likeCapital(model: string, word: string): string {
  return model[0] === model[0].toLowerCase() ? word : word[0].toUpperCase() + word.slice(1);
}
