import type { Schemas } from '../api/client.js';

export type Pair = Schemas['DuplicatePairs']['pairs'][number];

/** Pairs that are joined by documents which they have in common; the group of the best pair first. */
export function groupsOf(pairs: readonly Pair[]): Pair[][] {
  const groupOf = new Map<string, Pair[]>();
  const groups = new Set<Pair[]>();
  for (const pair of pairs) {
    const a = groupOf.get(pair.a.id);
    const b = groupOf.get(pair.b.id);
    const group = a ?? b ?? [];
    group.push(pair);
    if (a && b && a !== b) {
      a.push(...b);
      groups.delete(b);
      for (const { a: one, b: other } of b) for (const { id } of [one, other]) groupOf.set(id, a);
    }
    groups.add(group);
    groupOf.set(pair.a.id, group);
    groupOf.set(pair.b.id, group);
  }
  return [...groups].map((group) => group.sort((one, other) => other.score - one.score));
}

export const keyOf = ({ a, b }: Pair): string => JSON.stringify([a.id, b.id]);
