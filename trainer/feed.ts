import { UserError } from '../base/errors.js';
import { Random } from '../base/random.js';
import type { Tokenizer } from '../encoder/tokenizer.js';
import type { TokenizerFiles } from '../encoder/tokenizer-files.js';
import type { Batches } from './batches.js';
import { maskTokens, type MaskedBatch, type MaskingVocabulary } from './masking.js';
import { pack } from './packing.js';
import type { Recipe } from './recipe.js';
import { replaceTokens } from './replacing.js';
import type { PackedBatch, TrainingBatch } from './types.js';
import { packEdits } from './views/edits.js';
import { MASK } from './views/masking.js';
import { vocabularyOf } from './vocabulary.js';

/** Tell the random numbers of dropout, masks and replacements from those of the order and the views. */
const DROPOUT = 4;
const MASKS = 5;
const REPLACEMENTS = 24;

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
 * @throws UserError `unsupported-model` when words are to be masked and the tokenizer reads no [MASK]
 */
export function feedOf(
  batches: Batches,
  { tokenizer, files }: { tokenizer: Tokenizer; files: TokenizerFiles },
  recipe: Recipe,
): Feed {
  const { objective, seed, maskShare, mlmWeight, rtdWeight, reconstructionWeight } = recipe;
  if (recipe.views.some((name) => name.split('+').includes('masking'))) checkMask(tokenizer);
  const masks = objective === 'mlm' || mlmWeight > 0;
  const vocabulary = masks ? maskingVocabulary(tokenizer, files) : undefined;
  const packed = (texts: string[]): PackedBatch => pack(texts.map((text) => tokenizer.encode(text)));
  return {
    async at(step) {
      const viewed = batches.at(step);
      const views = viewed.map((view) => packed(view.map(({ text }) => text)));
      const batch: TrainingBatch = {
        views,
        edits: viewed.map(packEdits),
        seed: new Random(seed, DROPOUT, step).uint32(),
      };
      const negatives = batches.negativesAt(step);
      if (negatives.length > 0) batch.negatives = packed(negatives);
      if (objective === 'tsdae' || reconstructionWeight > 0)
        batch.originals = packed(batches.originalsAt(step).at(-1)!);
      if (vocabulary) {
        const random = new Random(seed, MASKS, step);
        // Beside another objective, the first view is the text that is compared with.
        const masked = views.map((view, i) =>
          objective === 'mlm' || i === views.length - 1
            ? maskTokens(view, vocabulary, maskShare, random)
            : unmasked(view),
        );
        batch.views = masked.map(({ batch: view }) => view);
        batch.masked = masked;
      }
      if (rtdWeight > 0) {
        const random = new Random(seed, REPLACEMENTS, step);
        const last = batch.views.length - 1;
        const hidden = batch.masked?.[last].rows;
        const replaced = replaceTokens(batch.views[last], tokenizer.special, maskShare, random, hidden);
        batch.views[last] = replaced.batch;
        batch.replaced = replaced;
      }
      return batch;
    },
  };
}

/** The same, with the vectors that the texts behind the views are to have: for distill, and where vectors are kept. */
export function withTargets(feed: Feed, batches: Batches, targets: Targets): Feed {
  return {
    at: async (step) => ({
      ...(await feed.at(step)),
      targets: await targets([...batches.originalsAt(step).flat(), ...batches.negativesAt(step)]),
    }),
  };
}

function unmasked(batch: PackedBatch): MaskedBatch {
  return { batch, rows: new Int32Array(0), labels: new Int32Array(0) };
}

function maskingVocabulary({ special, vocabSize }: Tokenizer, files: TokenizerFiles): MaskingVocabulary {
  const continues = new Uint8Array(vocabSize);
  vocabularyOf(files)?.forEach((token, id) => (continues[id] = token.startsWith('##') ? 1 : 0));
  return { special, vocabSize, continues };
}

/** The view masking writes [MASK] into a text. */
function checkMask(tokenizer: Tokenizer): void {
  const found = tokenizer.tokens(MASK).filter(({ id }) => id === tokenizer.special.mask);
  if (found.length !== 1)
    throw new UserError(
      'unsupported-model',
      `view masking: expected a tokenizer that reads ${MASK} as its mask token, found one that does not; choose another base model, or another view`,
    );
}
