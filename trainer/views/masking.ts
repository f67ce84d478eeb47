import { chosenWords } from './deletion.js';
import type { Transformation, ViewOptions } from './transformation.js';

/** As BERT's tokenizers read it: the special token. */
export const MASK = '[MASK]';

/** Words are hidden behind [MASK], each with the same probability, and whatever number of tokens it has. */
export function masking({ maskingShare }: ViewOptions): Transformation {
  return (words, random) => {
    const hidden = chosenWords(words.length, maskingShare, random);
    return {
      words: words.map((word, i) => (hidden[i] ? MASK : word)),
      edited: hidden.filter(Boolean).length,
    };
  };
}
