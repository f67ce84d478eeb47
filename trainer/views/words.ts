/** The words of a text: what white space parts. At least one, which is empty when the text is. */
export function wordsOf(text: string): string[] {
  return text.trim().split(/\s+/);
}

/** A word of letters only, hyphens and apostrophes within, and the punctuation around it. */
export interface PlainWord {
  before: string;
  core: string;
  after: string;
}

const PLAIN = /^(["'“‘(]*)(\p{L}+(?:['’-]\p{L}+)*)([)"'”’.,;:!?…]*)$/u;

/**
 * The parts of a word of the language; nothing for what must be left as it is: numbers, versions, paths, commands,
 * addresses, [MASK].
 */
export function plainWord(word: string): PlainWord | undefined {
  const [, before, core, after] = PLAIN.exec(word) ?? [];
  return core === undefined ? undefined : { before, core, after };
}
