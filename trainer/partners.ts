import type { Example } from './data.js';

/** Of a text, the texts that are said to mean the same. */
export type Partners = ReadonlyMap<string, readonly string[]>;

/**
 * Pairs taken apart, for an objective that looks at one text at a time: each text once, those of pairs behind the
 * others.
 */
export function takeApart(examples: readonly Example[]): { texts: Example[]; partners: Partners } {
  const texts = examples.filter(({ kind }) => kind === 'text');
  const seen = new Set(texts.map(({ first }) => first));
  const partners = new Map<string, string[]>();
  for (const { first, second, kind } of examples) {
    if (kind === 'text') continue;
    for (const [text, other] of [
      [first, second],
      [second, first],
    ]) {
      if (!seen.has(text)) texts.push({ first: text, second: text, kind: 'text' });
      seen.add(text);
      if (other === text) continue;
      const others = partners.get(text) ?? [];
      if (!others.includes(other)) partners.set(text, [...others, other]);
    }
  }
  return { texts, partners };
}
