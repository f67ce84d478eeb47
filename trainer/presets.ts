import { UserError } from '../base/errors.js';
import { AUTO } from './context.js';
import type { ObjectiveName, Recipe } from './recipe.js';

const base: Recipe = {
  objective: 'vicreg',
  batch: 64,
  pairShare: 0,
  hardNegatives: 0,
  epochs: 1,
  maxSteps: 0,
  tokens: 0,
  seed: 1,
  chunk: 0,
  precision: 'auto',
  maxTokens: 64,
  pooling: 'model',

  views: ['same', 'word-crop'],
  minCropWords: 4,
  cropShare: 0,
  deletionShare: 0.2,
  orderDistance: 3,
  maskingShare: 0.15,
  typoShare: 0.15,
  swapShare: 0.3,

  // A batch of 64 has too few directions to keep 1,536 dimensions apart: the covariance term would hold the
  // variance down.
  expander: [512, 512, 128],
  expanderBias: false,
  invariance: 'mse',
  lambda: 25,
  mu: 25,
  nu: 1,
  predictorWidth: 0,
  targetEncoder: 'same',

  barlowLambda: 5e-3,

  temperature: 0.05,
  symmetric: false,

  context: '',
  whitening: 0,
  neighbourTexts: 0,
  neighbourTextWeight: 0.2,
  neighbours: 0,
  neighbourWeight: 0.15,
  pairWeight: 0.5,
  vectorWeight: 1,
  similarityWeight: 1,

  maskShare: 0.15,

  mlmWeight: 0,
  rtdWeight: 0,
  reconstructionWeight: 0,
  editWeight: 0,
  keepWeight: 0,

  learningRate: 1e-5,
  layerDecay: 1,
  expanderLearningRate: 1e-3,
  schedule: 'linear',
  warmup: 0.1,
  weightDecay: 0.01,
  clip: 1,
  averageDecay: 0,
  averageLast: 0,
  baseShare: 0,
  dropout: 'model',

  evaluateEvery: 100,
  patience: 0,
  checkpointEvery: 100,
  collapseStd: 0.1,
};

const sketch: Recipe = {
  ...base,
  precision: 'fp32',
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
};

/**
 * The encoder as its own teacher: what it says of a text alone has to become what it says of the text in its context. It
 * has little to learn, and dropout would be more noise than that.
 */
const context: Recipe = {
  ...base,
  objective: 'distill',
  views: ['same'],
  maxSteps: 300,
  neighbours: 5,
  similarityWeight: 0,
  mu: 0,
  nu: 0,
  learningRate: 2e-4,
  dropout: 0,
};

/**
 * Recipes by name. What a method's paper sets is as there; what it leaves to the encoder that one begins with
 * (pooling) is the encoder's.
 *
 * `sketch-2022` is the published sketch that this grew from, to the letter: a full title against one crop,
 * CLS pooling, the square of the invariance term, a bias in the last layer, and a variance term that is not
 * halved, so that its mu of 25 is 50 here. What it doesn't say (weight decay, longest text) is PyTorch's AdamW
 * and BERT's own. `sketch-fixed` is the same with VICReg as it is defined.
 */
export const PRESETS: Readonly<Record<string, Readonly<Recipe>>> = Object.freeze({
  vicreg: Object.freeze(base),
  'sketch-2022': Object.freeze(sketch),
  'sketch-fixed': Object.freeze<Recipe>({ ...sketch, expanderBias: false, invariance: 'mse', mu: 25 }),
  // Zbontar et al. 2021 (arXiv 2103.03230), section 4.4: lambda. Batch, expander and learning rate are VICReg's here:
  // the paper's 2,048 images and 8,192 dimensions are of another task.
  'barlow-twins': Object.freeze<Recipe>({ ...base, objective: 'barlow-twins' }),
  // Gao et al. 2021 (arXiv 2104.08821), appendix A: unsupervised, base size. Without the layer that they train on top
  // of [CLS] and drop: there is no head.
  simcse: Object.freeze<Recipe>({
    ...base,
    objective: 'simcse',
    maxTokens: 32,
    views: ['same'],
    learningRate: 3e-5,
    expanderLearningRate: 3e-5,
    warmup: 0,
    weightDecay: 0,
  }),
  // MultipleNegativesRankingLoss of sentence-transformers, and the rates of its fit().
  infonce: Object.freeze<Recipe>({
    ...base,
    objective: 'infonce',
    learningRate: 2e-5,
    expanderLearningRate: 2e-5,
  }),
  // Wang et al. 2021 (arXiv 2104.06979), section 4.2.
  tsdae: Object.freeze<Recipe>({
    ...base,
    objective: 'tsdae',
    batch: 8,
    views: ['deletion'],
    deletionShare: 0.6,
    learningRate: 3e-5,
    expanderLearningRate: 3e-5,
    schedule: 'constant',
    warmup: 0,
    weightDecay: 0,
    // An encoder that has learned nothing but words begins near to one point.
    collapseStd: 0,
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
  context: Object.freeze(context),
  // The same, learned longer from a better target, which takes longer to make: each text is encoded three times more, in
  // its context and with a near one behind it.
  surroundings: Object.freeze<Recipe>({
    ...context,
    context: AUTO,
    maxSteps: 500,
    neighbourTexts: 2,
    neighbours: 0,
    learningRate: 1e-4,
  }),
  // A pair's texts find each other among hard negatives, and all of them stay near to what `context` would teach: a few
  // thousand pairs would else undo what the encoder had learned from many more.
  pairs: Object.freeze<Recipe>({
    ...base,
    objective: 'infonce',
    views: ['same'],
    pairShare: 1,
    hardNegatives: 4,
    symmetric: true,
    maxSteps: 150,
    neighbours: 5,
    similarityWeight: 0,
    keepWeight: 10,
    learningRate: 5e-5,
    dropout: 0,
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

/**
 * The recipe when neither a preset nor an objective is named: the one that makes a good encoder better, and can't make
 * it much worse (docs/RESULTS.md).
 */
export const DEFAULT_PRESET = 'surroundings';

/** The preset of an objective when none is named. */
const PRESET_OF: Readonly<Record<ObjectiveName, string>> = {
  vicreg: 'vicreg',
  'barlow-twins': 'barlow-twins',
  simcse: 'simcse',
  infonce: 'infonce',
  tsdae: 'tsdae',
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
  if (preset === undefined) return objective === undefined ? DEFAULT_PRESET : PRESET_OF[objective];
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
