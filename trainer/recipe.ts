import type { Pooling } from '../encoder/model-folder.js';

/**
 * What an encoder is trained to do:
 * - `vicreg`: two views of a text predict each other (Bardes et al. 2022);
 * - `distill`: a text's vector is the one that a teacher gives it;
 * - `mlm`: masked words are guessed (Devlin et al. 2018).
 */
export type ObjectiveName = 'vicreg' | 'distill' | 'mlm';

/** Everything that decides what a training run computes, apart from its data and the encoder it starts from. */
export interface Recipe {
  objective: ObjectiveName;
  /** Texts (or pairs) a step. */
  batch: number;
  /** How often every text is seen. Given up for `maxSteps` when that is set. */
  epochs: number;
  /** Optimizer steps; 0 leaves it to `epochs`. */
  maxSteps: number;
  /** Decides shuffling, views, the expander's first weights and dropout. */
  seed: number;
  /**
   * Tokens that go through the encoder at a time, for batches larger than memory; the gradients are the same. 0 for
   * one pass, or where that would take more than 2 GB, chunks of an eighth of a GB. Not for objectives on hidden states.
   */
  chunk: number;
  /** Of the matrix products; everything else is fp32. `auto` tries both first, and takes the faster. */
  precision: 'fp32' | 'bf16' | 'auto';
  /** Longest view, in tokens with [CLS] and [SEP]. */
  maxTokens: number;
  /** How token states become the vector that is trained, and served; `model` keeps the base encoder's own. */
  pooling: Pooling | 'model';

  /**
   * Views of a text, by name (trainer/views.ts): vicreg has two, and takes one name for both; the others have as
   * many as are named. Both sides of a pair are taken as they are.
   */
  views: string[];
  /** Fewest words of a word crop; a text with fewer is taken whole. */
  minCropWords: number;

  /** vicreg: widths of the expander's layers, the last one's included. */
  expander: number[];
  /** vicreg: whether the expander's last layer has a bias. */
  expanderBias: boolean;
  /** vicreg: `mse` as in Bardes et al. 2022 eq. 5; `mse-squared` is the published sketch's, the square of it. */
  invariance: 'mse' | 'mse-squared';
  /**
   * Weights of invariance, variance and covariance (Bardes et al. 2022 eq. 6). distill has no invariance; its
   * other two see the vectors at length sqrt(d).
   */
  lambda: number;
  mu: number;
  nu: number;

  /** distill: weight of 1 - cosine to the teacher's vector. */
  vectorWeight: number;
  /** distill: weight of the squared difference between the similarities in the batch and the teacher's. */
  similarityWeight: number;

  /** mlm: share of a text's tokens that are masked. */
  maskShare: number;

  /** Highest learning rate, of the encoder. */
  learningRate: number;
  /** Of the expander, or another head, which begins with random weights; it follows the same schedule. */
  expanderLearningRate: number;
  /** After the warm-up: `constant`, or `linear` down to 0. */
  schedule: 'constant' | 'linear' | 'cosine';
  /** Share of the steps over which the learning rate grows from 0, linearly. */
  warmup: number;
  /** Decoupled (Loshchilov and Hutter 2019); biases and layer norms have none. */
  weightDecay: number;
  /** Largest norm of the whole gradient; 0 clips nothing. */
  clip: number;
  /** Of hidden states and attention; `model` keeps what config.json says. */
  dropout: number | 'model';

  /** Steps from one evaluation to the next. */
  evaluateEvery: number;
  /** Steps from one checkpoint to the next. */
  checkpointEvery: number;
  /** The embeddings' std * sqrt(d) below which they count as collapsed; 0 looks away. */
  collapseStd: number;
}

/** The views of each text by name: vicreg's single one is taken twice. */
export function viewsOf({ objective, views }: Pick<Recipe, 'objective' | 'views'>): string[] {
  return objective === 'vicreg' && views.length === 1 ? [views[0], views[0]] : views;
}
