import type { Encoder } from '../encoder/encoder.js';

/** One thing to judge an encoder by, ready to run again and again (the texts are read once). */
export interface Evaluation {
  /** As the user wrote it: `beir:DIR`, `sts:FILE`, `askubuntu:DIR`. */
  readonly spec: string;
  /** The metric that decides between checkpoints: map@100, spearman, map. Higher is better. */
  readonly primary: string;
  run(
    encoder: Encoder,
    options?: { onProgress?: (done: number, total: number) => void; signal?: AbortSignal },
  ): Promise<EvaluationResult>;
}

export interface EvaluationResult {
  spec: string;
  /** Standard names, fractions in 0..1 (spearman and pearson in -1..1). */
  metrics: Record<string, number>;
  /** The primary metric's value of each query, in the order of the queries, for the paired bootstrap; absent for STS. */
  perQuery?: { metric: string; ids: string[]; values: Float64Array };
  diagnostics: EmbeddingDiagnostics;
  counts: Record<string, number>;
  seconds: number;
}

/** Signs of collapse, measured on length-1 vectors. */
export interface EmbeddingDiagnostics {
  /** Mean over dimensions of the standard deviation, times sqrt(d): about 1 when spread evenly, 0 when collapsed. */
  std: number;
  /** Mean cosine of random pairs: 0 when spread evenly, 1 when collapsed. */
  meanCosine: number;
  /** exp of the entropy of the normalized singular values (Roy and Vetterli 2007): 1 .. d. */
  effectiveRank: number;
}
