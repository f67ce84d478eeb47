import type { Transformation, ViewOptions } from './transformation.js';

/**
 * A run of words: the start is uniform among those that leave room for m words, then the length is uniform in
 * m..n-start. With m = 1 this is the published sketch's law: start in 0..n-1, length in 1..n-start.
 */
export function wordCrop({ minCropWords, cropShare }: ViewOptions): Transformation {
  return (words, random) => {
    const n = words.length;
    const m = Math.max(minCropWords, Math.ceil(cropShare * n));
    if (n <= m) return { words, edited: 0 };
    const start = random.below(n - m + 1);
    const length = m + random.below(n - start - m + 1);
    return { words: words.slice(start, start + length), edited: n - length };
  };
}
