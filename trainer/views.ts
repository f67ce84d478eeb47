import { UserError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import type { View } from './types.js';

interface ViewOptions {
  /** Fewest words of a crop; a text with fewer is taken whole. */
  minCropWords: number;
  /** Share of the words that a deletion takes away. */
  deletionShare?: number;
}

const VIEWS: Readonly<Record<string, (options: ViewOptions) => View['apply']>> = {
  same: () => (text) => text,
  'word-crop':
    ({ minCropWords }) =>
    (text, random) =>
      wordCrop(text, minCropWords, random),
  deletion:
    ({ deletionShare = 0.6 }) =>
    (text, random) =>
      deletion(text, deletionShare, random),
};

export const VIEW_NAMES: readonly string[] = Object.keys(VIEWS);

/** The view of that name. @throws UserError `usage`, naming the views there are */
export function makeView(name: string, options: ViewOptions): View {
  if (!Object.hasOwn(VIEWS, name))
    throw new UserError('usage', `view: expected one of ${VIEW_NAMES.join(', ')}, found "${name}"`);
  return { name, apply: VIEWS[name](options) };
}

/**
 * A run of words of the text, joined by one space: the start is uniform among those that leave room for m
 * words, then the length is uniform in m..n-start. With m = 1 this is the published sketch's law: start in
 * 0..n-1, length in 1..n-start.
 */
function wordCrop(text: string, m: number, random: Random): string {
  const words = text.trim().split(/\s+/);
  const n = words.length;
  if (n <= m) return words.join(' ');
  const start = random.below(n - m + 1);
  const length = m + random.below(n - start - m + 1);
  return words.slice(start, start + length).join(' ');
}

/** Each word is taken away with a chance of `share`; one at least is left (Wang et al. 2021, arXiv 2104.06979). */
function deletion(text: string, share: number, random: Random): string {
  const words = text.trim().split(/\s+/);
  const kept = words.filter(() => random.float() >= share);
  return kept.length > 0 ? kept.join(' ') : words[random.below(words.length)];
}
