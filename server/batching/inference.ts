import type { Encoder } from '../../encoder/encoder.js';
import type { Precision } from '../../encoder/graph-file.js';
import type { Pooling } from '../../encoder/model-folder.js';
import type { Backend } from '../../encoder/backend.js';

/** Inference in worker threads; the event loop only queues texts and receives vectors. */
export interface Inference extends Encoder {
  /** The model folder on this machine, unpacked where it was a compact one. */
  readonly folder: string;
  readonly pooling: Pooling;
  readonly precision: Precision;
  readonly backend: Backend;
  /** How near its vectors are to those of fp32 (of ONNX Runtime, where they are so themselves): mean cosine of some titles. */
  readonly cosineToFp32?: number;
  encode(texts: readonly string[], options?: InferenceOptions): Promise<Float32Array>;
  /** `encode`, and how much of each text was read. */
  encodeWithLengths(texts: readonly string[], options?: InferenceOptions): Promise<Encoded>;
  /** Tokens of each text, special ones included, before truncation. */
  tokenize(texts: readonly string[], options?: QueueOptions): Promise<Token[][]>;
  /** Like `tokenize`, the number alone. */
  countTokens(texts: readonly string[], options?: QueueOptions): Promise<number[]>;
  stats(): InferenceStats;
  /** Empties what is remembered, where something is. */
  forget?(): void;
}

/** `bulk` work never delays `interactive` work by more than one batch. */
export type Priority = 'interactive' | 'bulk';

/** How texts wait for a worker. */
export interface QueueOptions {
  /** Default interactive. */
  priority?: Priority;
  signal?: AbortSignal;
}

export interface InferenceOptions extends QueueOptions {
  /** false: vectors as pooled, not scaled to length 1. Default: as the model folder says. */
  normalize?: boolean;
  /** Computed whatever is remembered, and let in however much waits: to see whether anything is. */
  probe?: boolean;
}

export interface Encoded {
  /** n x d. */
  vectors: Float32Array;
  /** Tokens of each text that the encoder read, special ones included. */
  lengths: Uint32Array;
}

export interface Token {
  id: number;
  text: string;
  special: boolean;
}

export interface InferenceStats {
  workers: number;
  /** With those that are still starting, or starting again. */
  workersWanted: number;
  threadsPerWorker: number;
  /** Texts waiting, not yet handed to a worker. */
  queuedTexts: number;
  /** Estimated tokens of these, by priority. */
  queuedTokens: Record<Priority, number>;
  /** Estimated, of the last batches, by all workers together; 0 before the first. */
  tokensPerSecond: number;
  /** Totals since start. */
  texts: number;
  tokens: number;
  batches: number;
  /** Where vectors are remembered: texts that were found, and that were not, since start; what is held. */
  cache?: { hits: number; misses: number; vectors: number; bytes: number };
}
