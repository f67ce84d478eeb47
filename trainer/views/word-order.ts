import type { Transformation, ViewOptions } from './transformation.js';

/**
 * Words change places with those near to them, none by more than k: words are sorted by i + u, u uniform in
 * [0, k + 1) (Lample et al. 2018, arXiv 1711.00043, section 2.3).
 */
export function wordOrder({ orderDistance: k }: ViewOptions): Transformation {
  return (words, random) => {
    const place = words.map((_, i) => i + (k + 1) * random.float());
    const order = words.map((_, i) => i).sort((a, b) => place[a] - place[b]);
    return {
      words: order.map((i) => words[i]),
      edited: order.filter((from, to) => words[from] !== words[to]).length,
    };
  };
}
