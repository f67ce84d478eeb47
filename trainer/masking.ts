import { UserError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import type { SpecialIds } from '../encoder/tokenizer.js';
import type { PackedBatch } from './types.js';

/** What masking needs to know of a tokenizer. */
export interface MaskingVocabulary {
  special: SpecialIds;
  vocabSize: number;
  /** By id, 1 for a token that goes on with the word of the one before it (`##ing`): [vocabSize]. */
  continues: Uint8Array;
}

export interface MaskedBatch {
  /** What the encoder sees. */
  batch: PackedBatch;
  /** Packed rows of the tokens to guess, ascending. */
  rows: Int32Array;
  /** The ids that belong there. */
  labels: Int32Array;
}

/** Of the tokens to guess (Devlin et al. 2018, section 3.1); the rest stay as they are. */
const MASKED = 0.8;
const RANDOM = 0.1;

/**
 * Hides words of each sequence to be guessed. Whole words are chosen, since a piece is too easy beside the
 * others of its word; each of their tokens then becomes [MASK], a random token, or stays, on its own. Special
 * tokens, [UNK] among them, are neither chosen nor put in.
 *
 * @param share of a sequence's words, and so of its tokens on average; one word when that is less
 * @throws UserError `unsupported-model` when the vocabulary has no [MASK]
 */
export function maskTokens(
  { ids, offsets }: PackedBatch,
  { special, vocabSize, continues }: MaskingVocabulary,
  share: number,
  random: Random,
): MaskedBatch {
  if (special.mask < 0)
    throw new UserError(
      'unsupported-model',
      'tokenizer: expected a [MASK] token to hide words behind, found none in its vocabulary: choose another base model, or another objective',
    );
  const specials = new Set(Object.values(special));
  const randomToken = (): number => {
    let id = random.below(vocabSize);
    while (specials.has(id)) id = random.below(vocabSize);
    return id;
  };

  const masked = ids.slice();
  const rows: number[] = [];
  for (let s = 0; s + 1 < offsets.length; s++) {
    const words = wordsOf(ids, offsets[s], offsets[s + 1], specials, continues);
    const chosen = random
      .shuffle(words)
      .slice(0, countOf(words.length, share, random))
      .flat();
    for (const row of chosen.sort((a, b) => a - b)) {
      rows.push(row);
      const chance = random.float();
      if (chance < MASKED) masked[row] = special.mask;
      else if (chance < MASKED + RANDOM) masked[row] = randomToken();
    }
  }
  return {
    batch: { ids: masked, offsets },
    rows: Int32Array.from(rows),
    labels: Int32Array.from(rows, (row) => ids[row]),
  };
}

/** Rows of each word of a sequence. */
function wordsOf(
  ids: Int32Array,
  start: number,
  end: number,
  specials: ReadonlySet<number>,
  continues: Uint8Array,
): number[][] {
  const words: number[][] = [];
  let inWord = false;
  for (let row = start; row < end; row++) {
    const ordinary = !specials.has(ids[row]);
    if (ordinary && inWord && continues[ids[row]]) words[words.length - 1].push(row);
    else if (ordinary) words.push([row]);
    inWord = ordinary;
  }
  return words;
}

/** share x words, up or down by chance so that it is that on average; at least 1 where there is a word. */
function countOf(words: number, share: number, random: Random): number {
  const expected = share * words;
  const count = Math.floor(expected) + (random.float() < expected % 1 ? 1 : 0);
  return Math.min(words, Math.max(1, count));
}
