import type { Scored } from './vectors.js';

/** How many of each ranking are considered. */
export const HYBRID_CANDIDATES = 200;

/** The n best of a ranking but for some keys. Before `fuse`: what nobody is shown is no scale for the others either. */
export function without(excluded: ReadonlySet<number>, ranking: readonly Scored[], n: number): Scored[] {
  return ranking.filter(({ key }) => !excluded.has(key)).slice(0, n);
}

/**
 * Fuses two rankings of one query: cosine + lexicalWeight x BM25 scaled to 0..1 by its least and greatest.
 * What the lexical ranking lacks counts as its least. Fusing by rank costs quality on short questions.
 *
 * @param cosineOf the cosine of a key that only the lexical ranking has
 * @returns the union, best first, equal scores by key
 */
export function fuse(
  dense: readonly Scored[],
  lexical: readonly Scored[],
  cosineOf: (key: number) => number,
  lexicalWeight: number,
): Scored[] {
  const greatest = lexical.length > 0 ? lexical[0].score : 0;
  const least = lexical.length > 0 ? lexical[lexical.length - 1].score : 0;
  const range = greatest - least;
  const fused = new Map<number, number>(dense.map(({ key, score }) => [key, score]));
  for (const { key, score } of lexical) {
    const scaled = range > 0 ? (score - least) / range : 1;
    fused.set(key, (fused.get(key) ?? cosineOf(key)) + lexicalWeight * scaled);
  }
  return [...fused]
    .map(([key, score]) => ({ key, score }))
    .sort((a, b) => b.score - a.score || a.key - b.key);
}
