import type { Pooling } from '../encoder/model-folder.js';

/**
 * What an encoder is trained to do:
 * - `vicreg`: two views of a text predict each other (Bardes et al. 2022);
 * - `barlow-twins`: the same, by the correlation of their dimensions (Zbontar et al. 2021);
 * - `simcse`: a text is told from others when only dropout differs (Gao et al. 2021);
 * - `infonce`: a text, or the one of a pair, is told from others by the other view (van den Oord et al. 2018);
 * - `tsdae`: a text is written anew from the vector of what noise left of it (Wang et al. 2021);
 * - `distill`: a text's vector is the one that a teacher gives it, who may know more of where it comes from;
 * - `mlm`: masked words are guessed (Devlin et al. 2018).
 */
export type ObjectiveName = 'vicreg' | 'barlow-twins' | 'simcse' | 'infonce' | 'tsdae' | 'distill' | 'mlm';

/** Everything that decides what a training run computes, apart from its data and the encoder it starts from. */
export interface Recipe {
  objective: ObjectiveName;
  /** Texts (or pairs) a step. */
  batch: number;
  /**
   * Share of a batch that is pairs, where there are both texts and pairs and the objective compares two; 0 mixes them
   * as they come. The texts then make the epochs, and the pairs begin anew when they are used up. With 1 the texts are
   * only there to be found as hard negatives.
   */
  pairShare: number;
  /**
   * infonce: how many texts each one of the batch is told from beside the others in it: near to it by the vectors of
   * the base encoder or --teacher, but not the nearest, which may mean the same (trainer/hard-negatives.ts).
   */
  hardNegatives: number;
  /** How often every text is seen. Given up for `maxSteps` when that is set. */
  epochs: number;
  /** Optimizer steps; 0 leaves it to `epochs`. */
  maxSteps: number;
  /** Real tokens, of all views, behind which the run ends, whatever its batch; 0 leaves it to `maxSteps`. */
  tokens: number;
  /** Decides shuffling, views, the expander's first weights and dropout. */
  seed: number;
  /**
   * Tokens that go through the encoder at a time, for batches larger than memory; the gradients are the same. 0 for
   * one pass, or where that would take more than 2 GB, chunks of an eighth of a GB. Not for objectives on hidden states.
   */
  chunk: number;
  /**
   * Of the matrix products, a teacher's as well; everything else is fp32. `auto` tries both first, and takes the faster;
   * a run that is resumed goes on in what it began with.
   */
  precision: 'fp32' | 'bf16' | 'auto';
  /** Longest view, in tokens with [CLS] and [SEP]. */
  maxTokens: number;
  /** How token states become the vector that is trained, and served; `model` keeps the base encoder's own. */
  pooling: Pooling | 'model';

  /**
   * Views of a text, by name (trainer/views/), or several joined by `+`, done one after another: objectives that
   * compare two take one name for both; the others have as many as are named. Both sides of a pair are taken as they
   * are.
   */
  views: string[];
  /** Fewest words of a word crop; a text with fewer is taken whole. */
  minCropWords: number;
  /** Least share of a text's words that a word crop keeps. */
  cropShare: number;
  /** deletion: the probability of a word to be left out. */
  deletionShare: number;
  /** word-order: how many places a word moves at most. */
  orderDistance: number;
  /** masking: the probability of a word to be hidden behind [MASK] in the view. */
  maskingShare: number;
  /** typos: the probability of a word of four letters or more to be mistyped. */
  typoShare: number;
  /** synonym, hyponym, sibling, antonym: the probability of a word that has one to be swapped for it. */
  swapShare: number;

  /** vicreg, barlow-twins: widths of the expander's layers, the last one's included. */
  expander: number[];
  /** Whether the expander's last layer has a bias. */
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

  /**
   * vicreg: width of a predictor that predicts the second view's embedding from the first one's and from what was
   * done to both; 0 compares the embeddings themselves.
   */
  predictorWidth: number;

  /**
   * vicreg: which encoder embeds the second view: the `same`, or its `average` over the steps so far, as a target that
   * has no gradient (BYOL, Grill et al. 2020; a JEPA's target encoder). Views are then named context first, target
   * second.
   */
  targetEncoder: 'same' | 'average';

  /** barlow-twins: weight of the correlations between different dimensions (Zbontar et al. 2021 eq. 1). */
  barlowLambda: number;

  /** simcse, infonce: what cosines are divided by; 0.05 is the scale of 20 that others set. */
  temperature: number;
  /** simcse, infonce: whether the second view looks for its partner among the first ones, too. */
  symmetric: boolean;

  /**
   * distill: what the teacher sees of each text's surroundings and the student does not, such as the name of what all
   * texts are about: words that stand behind the text, or phrasings with | between and {} for the text; `auto` for the
   * word that most texts share, if a fifth of them do; empty for none. See trainer/target-vectors.ts.
   */
  context: string;
  /**
   * distill: how far the vectors to be learned are whitened, from 0 to 1: an encoder that has learned words alone puts
   * most of what it says into few directions.
   */
  whitening: number;
  /**
   * distill: with how many of its nearest neighbours, one at a time behind it, the teacher sees a text, and how much
   * that counts beside the text alone.
   */
  neighbourTexts: number;
  neighbourTextWeight: number;
  /** distill: how many of a text's nearest neighbours draw the vector to be learned towards them, and how much. */
  neighbours: number;
  neighbourWeight: number;
  /** distill: how much the texts that --pairs says mean the same draw the vector to be learned. */
  pairWeight: number;
  /** distill: weight of 1 - cosine to the teacher's vector. */
  vectorWeight: number;
  /** distill: weight of the squared difference between the similarities in the batch and the teacher's. */
  similarityWeight: number;

  /** mlm, and the heads beside another objective: share of a text's tokens that are masked, or replaced. */
  maskShare: number;

  /**
   * Weights of what is asked of the last view beside an objective that compares two; 0 asks nothing. Masked words are
   * guessed (as by mlm); replaced ones are told with the help of the first view's embedding (Clark et al. 2020, Chuang
   * et al. 2022); the text is written anew from its vector (as by tsdae); the two embeddings tell what was done to it.
   */
  mlmWeight: number;
  rtdWeight: number;
  reconstructionWeight: number;
  editWeight: number;
  /**
   * Weight of distill's loss beside an objective that compares two: both views stay near to the vector that the base
   * encoder, or --teacher, gives the text. 0 lets them go.
   */
  keepWeight: number;

  /** Highest learning rate, of the encoder. */
  learningRate: number;
  /**
   * What the learning rate of each layer is times that of the one above it, the embeddings' being the lowest
   * (discriminative fine-tuning, Howard and Ruder 2018, arXiv 1801.06146); 1 gives all the same.
   */
  layerDecay: number;
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
  /**
   * Decay of an exponential average of the weights over steps (Tarvainen and Valpola 2017, arXiv 1703.01780), which is
   * then what is measured and exported; 0 keeps none. Early on it is less: (1 + t) / (10 + t).
   */
  averageDecay: number;
  /**
   * Share of the steps, the last ones, whose weights are averaged, each as much as any other (Izmailov et al. 2018, arXiv
   * 1803.05407, with a checkpoint of each step), and then measured and exported; 0 for none.
   */
  averageLast: number;
  /**
   * Share of the base encoder's weights in those that are measured and exported (Wortsman et al. 2022, arXiv
   * 2109.01903): half-way there often lies an encoder that learned what is new and forgot less; 0 for none.
   */
  baseShare: number;
  /** Of hidden states and attention; `model` keeps what config.json says. */
  dropout: number | 'model';

  /** Steps from one evaluation to the next. */
  evaluateEvery: number;
  /** Evaluations in a row without a better value of the deciding metric after which training stops; 0 never stops. */
  patience: number;
  /** Steps from one checkpoint to the next. */
  checkpointEvery: number;
  /** The embeddings' std * sqrt(d) below which they count as collapsed; 0 looks away. */
  collapseStd: number;
}

/** Objectives that compare two views of a text, or the two texts of a pair. */
export function comparesTwo(objective: ObjectiveName): boolean {
  return ['vicreg', 'barlow-twins', 'simcse', 'infonce'].includes(objective);
}

/** The views of each text by name: where two are compared, a single one is taken twice. */
export function viewsOf({ objective, views }: Pick<Recipe, 'objective' | 'views'>): string[] {
  return comparesTwo(objective) && views.length === 1 ? [views[0], views[0]] : views;
}

/** Whether a text's vector is compared with a teacher's. */
export function learnsVectors({ objective, keepWeight }: Recipe): boolean {
  return objective === 'distill' || keepWeight > 0;
}

/** Whether the vectors to be learned are not those that the teacher gives the texts alone. */
export function knowsMore({
  context,
  whitening,
  neighbourTexts,
  neighbours,
}: Pick<Recipe, 'context' | 'whitening' | 'neighbourTexts' | 'neighbours'>): boolean {
  return context !== '' || whitening > 0 || neighbourTexts > 0 || neighbours > 0;
}
