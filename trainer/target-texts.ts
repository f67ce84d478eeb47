import { Random } from '../base/random.js';
import type { Partners } from './partners.js';
import { POOL_SIZE } from './tensorflow/nearest.js';

const SAMPLE = 28;

/**
 * The texts of which targets in context are made: those that a run's steps learn, with their partners, and of all the
 * others as many as there is room for: each has to be encoded several times.
 *
 * @param all in the order of the data
 */
export function targetTexts(
  all: ReadonlySet<string>,
  learned: ReadonlySet<string>,
  partners: Partners | undefined,
  seed: number,
  most = POOL_SIZE,
): Set<string> {
  if (all.size <= most) return new Set(all);
  const texts = new Set(learned);
  for (const text of learned) for (const partner of partners?.get(text) ?? []) texts.add(partner);
  const others = [...all].filter((text) => !texts.has(text));
  const room = Math.max(0, most - texts.size);
  for (const text of new Random(seed, SAMPLE).shuffle(others).slice(0, room)) texts.add(text);
  return texts;
}
