import type { Random } from '../base/random.js';
import type { TensorSource } from '../encoder/safetensors.js';
import type { EditKind } from './views/edits.js';

/** n token sequences laid end to end: no padding. */
export interface PackedBatch {
  /** Token ids, [totalTokens]. */
  ids: Int32Array;
  /** Where each sequence begins, and the end of the last: [n + 1]. */
  offsets: Int32Array;
}

/** A named tensor on the JavaScript side, row-major. */
export interface HostTensor {
  shape: number[];
  data: Float32Array;
}

/** Tensors one after the other, so that not all need be in memory. */
export type NamedTensors =
  AsyncIterable<readonly [name: string, HostTensor]> | Iterable<readonly [name: string, HostTensor]>;

/** What a view is made from: an example's text and, where the data have them apart, its title and its body. */
export interface Source {
  first: string;
  title?: string;
  body?: string;
}

/** One thing that a view did to a text. */
export interface Edit {
  kind: EditKind;
  /** How many words were removed, moved, hidden, mistyped or replaced: at least 1. */
  words: number;
}

export interface Viewed {
  text: string;
  /** In the order in which they were made; none when nothing was changed. */
  edits: readonly Edit[];
  /** Of the text before the edits. */
  words: number;
}

/** A view of a text (JEPA's transformation); pure: all chance comes from `random`. */
export interface View {
  readonly name: string;
  apply(source: Source, random: Random): Viewed;
}

/** What a view did to each of n texts, [n x EDIT_KINDS.length], row-major. */
export interface PackedEdits {
  /** 1 where an edit of the kind was made. */
  kinds: Uint8Array;
  /** Edited words over the words of the text before all edits, at most 1. */
  shares: Float32Array;
}

/** What one optimizer step is fed. */
export interface TrainingBatch {
  /** Views of the same n texts: two for objectives that compare them. */
  views: PackedBatch[];
  /** Further texts that the views' are told from. */
  negatives?: PackedBatch;
  /** What was done to the texts, view by view. */
  edits?: PackedEdits[];
  /** The vectors that the texts' are to be near to, each of length 1: [views x n + negatives, d], view by view. */
  targets?: Float32Array;
  /** mlm: in each view, the packed rows to guess and the ids that belong there. */
  masked?: { rows: Int32Array; labels: Int32Array }[];
  /** Replaced-token detection: of the last view, the packed rows to judge, and 1 for a replacement. */
  replaced?: { rows: Int32Array; labels: Uint8Array };
  /** tsdae: the n texts that the last view was made of. */
  originals?: PackedBatch;
  /** For dropout: 32 bits. */
  seed: number;
}

/** What one optimizer step reports. Loss terms are weighted as they enter the sum. */
export interface StepReport {
  loss: number;
  /** Weighted, by name: vicreg's are invariance, variance and covariance. */
  terms: Record<string, number>;
  /** What else the objective measures, by name: mlm's mlmAccuracy. */
  measures?: Record<string, number>;
  /** Mean over dimensions of the pooled vectors' std after L2 normalization, times sqrt(d). */
  std: number;
  /** Of the same vectors: exp of the entropy of their singular values, at most n - 1. */
  effectiveRank: number;
  /** Norm of the whole gradient before clipping. */
  gradientNorm: number;
  /** Real tokens in the step, all views. */
  tokens: number;
}

/**
 * What the loop needs from the numerics: a model with an objective on it, and its optimizer. TensorFlow
 * stays behind it.
 */
export interface TrainableEncoder {
  /** One step. @throws UserError `backend` when the loss is not finite */
  step(batch: TrainingBatch, options: { learningRate: number }): Promise<StepReport>;
  /** Pooled vectors without dropout and without L2: n x d, row-major. */
  embed(batch: PackedBatch): Promise<Float32Array>;
  /** The encoder's tensors under Hugging Face's names (no `bert.` prefix). */
  weights(): Promise<Map<string, HostTensor>>;
  /** All that a resume needs: weights, the objective's head, optimizer moments and step count; to be read before the next step. */
  state(): Promise<Map<string, TensorSource>>;
  /** @throws UserError `corrupt` for a state that lacks something, or has it of another shape */
  restore(state: NamedTensors): Promise<void>;
  dispose(): void;
}
