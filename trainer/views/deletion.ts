import type { Random } from '../../base/random.js';
import type { Transformation, ViewOptions } from './transformation.js';

/** Words are left out, each with the same probability (Wang et al. 2021, TSDAE, section 3). */
export function deletion({ deletionShare }: ViewOptions): Transformation {
  return (words, random) => {
    const gone = chosenWords(words.length, deletionShare, random);
    return {
      words: words.filter((_, i) => !gone[i]),
      edited: gone.filter(Boolean).length,
    };
  };
}

/** Each of n words with that probability; when that would be all, one is spared, uniformly. */
export function chosenWords(n: number, probability: number, random: Random): boolean[] {
  const chosen = Array.from({ length: n }, () => random.float() < probability);
  if (chosen.every(Boolean)) chosen[random.below(n)] = false;
  return chosen;
}
