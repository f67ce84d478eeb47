import { UserError } from '../base/errors.js';
import type { ObjectiveName, Recipe } from './recipe.js';

const base: Recipe = {
  objective: 'vicreg',
  batch: 64,
  epochs: 1,
  maxSteps: 0,
  seed: 1,
  chunk: 0,
  precision: 'fp32',
  maxTokens: 64,
  pooling: 'model',

  views: ['same', 'word-crop'],
  minCropWords: 4,

  // A batch of 64 has too few directions to keep 1,536 dimensions apart: the covariance term would hold the
  // variance down.
  expander: [512, 512, 128],
  expanderBias: false,
  invariance: 'mse',
  lambda: 25,
  mu: 25,
  nu: 1,

  vectorWeight: 1,
  similarityWeight: 1,

  maskShare: 0.15,

  learningRate: 1e-5,
  expanderLearningRate: 1e-3,
  schedule: 'linear',
  warmup: 0.1,
  weightDecay: 0.01,
  clip: 1,
  dropout: 'model',

  evaluateEvery: 100,
  checkpointEvery: 100,
  collapseStd: 0.1,
};

/**
 * Recipes by name.
 *
 * `sketch-2022` is the published sketch that this grew from, to the letter: a full title against one crop,
 * CLS pooling, the square of the invariance term, a bias in the last layer, and a variance term that is not
 * halved, so that its mu of 25 is 50 here. What it doesn't say (weight decay, longest text) is PyTorch's AdamW
 * and BERT's own.
 */
export const PRESETS: Readonly<Record<string, Readonly<Recipe>>> = Object.freeze({
  default: Object.freeze(base),
  'sketch-2022': Object.freeze<Recipe>({
    ...base,
    batch: 8,
    maxSteps: 20_000,
    maxTokens: 512,
    pooling: 'cls',
    minCropWords: 1,
    expander: [1536, 1536, 1536],
    expanderBias: true,
    invariance: 'mse-squared',
    mu: 50,
    learningRate: 3e-5,
    expanderLearningRate: 3e-5,
    schedule: 'constant',
    warmup: 0,
    evaluateEvery: 1000,
    checkpointEvery: 500,
  }),
  distill: Object.freeze<Recipe>({
    ...base,
    objective: 'distill',
    views: ['same'],
    // Against a collapse only: the teacher's own vectors are correlated, and those are what is to be learned. Of 64
    // vectors the covariance is mostly chance, too.
    mu: 0.01,
    nu: 0.001,
    learningRate: 5e-4,
    warmup: 0.05,
    dropout: 0,
    evaluateEvery: 500,
    checkpointEvery: 500,
    // A student from nothing begins near to one point, and the loss says how far it is from its teacher.
    collapseStd: 0,
  }),
  mlm: Object.freeze<Recipe>({
    ...base,
    objective: 'mlm',
    views: ['same'],
    learningRate: 5e-4,
    expanderLearningRate: 5e-4,
    evaluateEvery: 1000,
    checkpointEvery: 500,
    // Words are guessed from hidden states; what their mean does is of no concern here.
    collapseStd: 0,
  }),
});

/** The preset of an objective when none is named. */
const PRESET_OF: Readonly<Record<ObjectiveName, string>> = {
  vicreg: 'default',
  distill: 'distill',
  mlm: 'mlm',
};

export const OBJECTIVES = Object.keys(PRESET_OF) as ObjectiveName[];

/**
 * The preset that a command means.
 *
 * @throws UserError `usage` when the preset is of another objective
 */
export function choosePreset(preset?: string, objective?: ObjectiveName): string {
  if (preset === undefined) return PRESET_OF[objective ?? 'vicreg'];
  const { objective: found } = presetNamed(preset);
  if (objective !== undefined && objective !== found)
    throw new UserError(
      'usage',
      `--preset ${preset}: expected a recipe for --objective ${objective}, found one for ${found}; leave one of the two out`,
    );
  return preset;
}

/** @throws UserError `usage` for an unknown name */
export function presetNamed(name: string): Readonly<Recipe> {
  if (!Object.hasOwn(PRESETS, name))
    throw new UserError('usage', `--preset: expected ${Object.keys(PRESETS).join(' or ')}, found "${name}"`);
  return PRESETS[name];
}
