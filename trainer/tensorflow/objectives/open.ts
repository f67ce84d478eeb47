import type { BertConfig } from '../../../encoder/bert.js';
import type { Pooling } from '../../../encoder/model-folder.js';
import { EDIT_KINDS } from '../../views/edits.js';
import type { Recipe } from '../../recipe.js';
import type { ExpanderShape } from '../expander.js';
import type { Ops } from '../ops.js';
import { barlowTwinsLoss } from './barlow-twins.js';
import { distillObjective, keepObjective } from './distill.js';
import { editsLoss } from './edits.js';
import { infoNceLoss } from './infonce.js';
import { mlmObjective } from './mlm.js';
import type { Objective } from './objective.js';
import { replacedTokensLoss } from './replaced-tokens.js';
import { sum } from './sum.js';
import { tsdaeObjective } from './tsdae.js';
import { twoViews, type EmbeddingLoss } from './two-views.js';
import { predictiveVicregLoss, vicregLoss } from './vicreg.js';

/** What of the encoder an objective needs to know. */
interface Encoder {
  config: BertConfig;
  pooling: Pooling;
}

/** A recipe's objective: the main one, and beside it those whose weight is above 0. */
export function openObjective(ops: Ops, recipe: Recipe, encoder: Encoder): Objective {
  const { objective, mlmWeight, reconstructionWeight, keepWeight, seed } = recipe;
  const objectives = [mainObjective(ops, recipe, encoder)];
  if (mlmWeight > 0) objectives.push(mlmObjective(ops, seed, encoder, mlmWeight));
  if (reconstructionWeight > 0) objectives.push(tsdaeObjective(ops, seed, encoder, reconstructionWeight));
  if (objective !== 'distill' && keepWeight > 0) objectives.push(keepObjective(ops, recipe, encoder.pooling));
  return objectives.length === 1 ? objectives[0] : sum(ops, objectives);
}

function mainObjective(ops: Ops, recipe: Recipe, encoder: Encoder): Objective {
  const { objective, seed, targetEncoder } = recipe;
  switch (objective) {
    case 'distill':
      return distillObjective(ops, recipe, encoder.pooling);
    case 'mlm':
      return mlmObjective(ops, seed, encoder);
    case 'tsdae':
      return tsdaeObjective(ops, seed, encoder);
    default: {
      const { config, pooling } = encoder;
      const d = config.hiddenSize;
      const expander = expanderOf(recipe, d);
      const D = expander ? expander.widths.at(-1)! : d;
      const losses = [embeddingLoss(ops, recipe, D)];
      if (recipe.editWeight > 0) losses.push(editsLoss(ops, recipe, D, EDIT_KINDS.length));
      if (recipe.rtdWeight > 0) losses.push(replacedTokensLoss(ops, recipe, d, D));
      return twoViews(ops, { pooling, expander, seed, targetEncoder }, losses);
    }
  }
}

/** InfoNCE compares the pooled vectors themselves. */
function expanderOf({ objective, expander, expanderBias }: Recipe, d: number): ExpanderShape | undefined {
  if (objective === 'simcse' || objective === 'infonce') return undefined;
  return { name: 'expander', input: d, widths: expander, bias: expanderBias };
}

function embeddingLoss(ops: Ops, recipe: Recipe, D: number): EmbeddingLoss {
  switch (recipe.objective) {
    case 'simcse':
    case 'infonce':
      return infoNceLoss(ops, recipe);
    case 'barlow-twins':
      return barlowTwinsLoss(ops, recipe);
    default:
      return recipe.predictorWidth > 0
        ? predictiveVicregLoss(ops, recipe, D, EDIT_KINDS.length)
        : vicregLoss(ops, recipe);
  }
}
