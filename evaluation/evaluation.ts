import type { Encoder, EncodeOptions } from '../encoder/encoder.js';

/** One thing to judge an encoder by, ready to run again and again (the texts are read once). */
export interface Evaluation {
  /** As the user wrote it: `beir:DIR`, `sts:FILE`, `askubuntu:DIR`. */
  readonly spec: string;
  /** The metric that decides between checkpoints: map@100, spearman, map. Higher is better. */
  readonly primary: string;
  /** What a reader of the figures should know about the data, a sentence each. */
  readonly notes: readonly string[];
  run(encoder: Encoder, options?: EncodeOptions): Promise<EvaluationResult>;
}

/** What was measured, of an encoder or of a method without one. */
export interface Scores {
  spec: string;
  /** Standard names, fractions in 0..1 (spearman and pearson in -1..1). */
  metrics: Record<string, number>;
  counts: Record<string, number>;
  seconds: number;
  /** Rankings: the primary metric's value of each query, in the order of the queries. */
  perQuery?: { metric: string; ids: string[]; values: Float64Array };
  /** STS: the cosine and the human score of each pair. */
  perPair?: { metric: string; cosine: Float64Array; gold: Float64Array };
}

export interface EvaluationResult extends Scores {
  diagnostics: EmbeddingDiagnostics;
}

/** Signs of collapse, measured on length-1 vectors. */
export interface EmbeddingDiagnostics {
  /** Mean over dimensions of the standard deviation, times sqrt(d): about 1 when spread evenly, 0 when collapsed. */
  std: number;
  /** Mean cosine of two different rows: 0 when spread evenly, 1 when collapsed. */
  meanCosine: number;
  /** exp of the entropy of the normalized singular values (Roy and Vetterli 2007) of the centred vectors: 1 .. d. */
  effectiveRank: number;
}
