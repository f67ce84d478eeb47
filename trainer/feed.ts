import { Random } from '../base/random.js';
import type { Tokenizer, TokenizerFiles } from '../encoder/tokenizer.js';
import type { Batches } from './batches.js';
import { maskTokens, type MaskingVocabulary } from './masking.js';
import { pack } from './packing.js';
import type { Recipe } from './recipe.js';
import type { TrainingBatch } from './types.js';
import { vocabularyOf } from './vocabulary.js';

/** Tell the random numbers of dropout and masks from those of the order and the views. */
const DROPOUT = 4;
const MASKS = 5;

/** What each step is fed: a function of its number alone. */
export interface Feed {
  /** @param step from 1 */
  at(step: number): Promise<TrainingBatch>;
}

/** Where a text's vector comes from that the student is to learn: [texts, d], each of length 1. */
export type Targets = (texts: readonly string[]) => Promise<Float32Array>;

/**
 * Texts as the model takes them: tokens, and what the recipe's objective wants beside them.
 *
 * @param tokenizer cuts off at the recipe's maxTokens
 * @param files the tokenizer's
 * @param targets for distill
 */
export function feedOf(
  batches: Batches,
  { tokenizer, files }: { tokenizer: Tokenizer; files: TokenizerFiles },
  recipe: Recipe,
  targets?: Targets,
): Feed {
  const { objective, seed, maskShare } = recipe;
  const vocabulary = objective === 'mlm' ? maskingVocabulary(tokenizer, files) : undefined;
  return {
    async at(step) {
      const texts = batches.at(step);
      const views = texts.map((view) => pack(view.map((text) => tokenizer.encode(text))));
      const batch: TrainingBatch = { views, seed: new Random(seed, DROPOUT, step).uint32() };
      if (objective === 'distill') batch.targets = await targets!(texts.flat());
      if (objective === 'mlm') {
        const random = new Random(seed, MASKS, step);
        const masked = views.map((view) => maskTokens(view, vocabulary!, maskShare, random));
        batch.views = masked.map(({ batch: view }) => view);
        batch.masked = masked;
      }
      return batch;
    },
  };
}

function maskingVocabulary({ special, vocabSize }: Tokenizer, files: TokenizerFiles): MaskingVocabulary {
  const continues = new Uint8Array(vocabSize);
  vocabularyOf(files)?.forEach((token, id) => (continues[id] = token.startsWith('##') ? 1 : 0));
  return { special, vocabSize, continues };
}
