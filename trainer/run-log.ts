import type { Comparison } from '../evaluation/bootstrap.js';
import type { EmbeddingDiagnostics } from '../evaluation/evaluation.js';
import type { Recipe } from './recipe.js';
import type { StudentShape } from './student-shape.js';

/** One line of log.jsonl. */
export type LogEntry = RunStart | StepEntry | EvaluationEntry | AdaptEntry | RunEnd;

export interface DataFile {
  /** As the user named it. */
  file: string;
  kind: 'texts' | 'pairs';
  /** Texts or pairs that are trained on. */
  count: number;
  /** Of the file's bytes. */
  sha256: string;
}

export interface RunStart {
  type: 'start';
  /** ISO 8601. */
  time: string;
  /** Of sentence-jepa. */
  version: string;
  preset: string;
  recipe: Recipe;
  /** Steps that the run will make; none when an adaptation is fitted to the base encoder as it is. */
  steps: number;
  data: DataFile[];
  /** The encoder that was started from; dimensions and layers are those of the one that is trained. */
  base: { name: string; fingerprint: string; dimensions: number; layers: number };
  /** distill: whose vectors are learned. */
  teacher?: { name: string; fingerprint: string };
  /** The new encoder that was made from the base. */
  student?: StudentShape;
  /** What is fitted behind the pooling, as --adapt says it. */
  adapt?: string;
  /** Node, TensorFlow, processor, threads, precision of the products: what a rerun must share to give the same losses. */
  environment: Record<string, string | number>;
}

export interface StepEntry {
  type: 'step';
  /** From 1. */
  step: number;
  loss: number;
  /** Weighted, as they enter the sum, by name. */
  terms: Record<string, number>;
  /** What else the objective measures, by name. */
  measures?: Record<string, number>;
  /** Mean over dimensions of the std of the batch's length-1 vectors, times sqrt(d). */
  std: number;
  /** Of the same vectors; at most one less than the batch. */
  effectiveRank?: number;
  gradientNorm: number;
  learningRate: number;
  /** Real tokens of all views. */
  tokens: number;
  /** Of the step alone, without evaluation and checkpoints. */
  seconds: number;
}

export interface EvaluationEntry {
  type: 'evaluation';
  /** Steps made before it: 0 is the base encoder. */
  step: number;
  results: {
    spec: string;
    /** The metric's name that decides. */
    primary: string;
    metrics: Record<string, number>;
    counts: Record<string, number>;
    diagnostics: EmbeddingDiagnostics;
    seconds: number;
    /** What a paired bootstrap needs: the deciding metric of each query, or the cosine and the human score of each pair. */
    perQuery?: { ids: string[]; values: number[] };
    perPair?: { cosine: number[]; gold: number[] };
  }[];
}

/** An adaptation, fitted behind the training or without any. */
export interface AdaptEntry {
  type: 'adapt';
  /** As --adapt says it. */
  adaptation: string;
  /** How many it was fitted on. */
  texts: number;
  /** Length of a vector behind it. */
  dimensions: number;
  /** Share of the vectors' variance that is left. */
  variance: number;
  /** With the adaptation. */
  results: EvaluationEntry['results'];
  /** With it - without it, of the same weights. */
  comparisons: Difference[];
  seconds: number;
}

export interface RunEnd {
  type: 'end';
  time: string;
  reason: 'finished' | 'collapsed';
  /** Steps made. */
  step: number;
  /** The step whose weights were exported. */
  bestStep: number;
  seconds: number;
  /** Of the process and its threads, over all processes of a run that was resumed. */
  cpuSeconds?: number;
  /** Largest resident set, in bytes. */
  peakMemory?: number;
  /** The exported weights less those that training began with, by evaluation. */
  differences?: Difference[];
}

/** A paired bootstrap of the metric that decides. */
export interface Difference extends Comparison {
  spec: string;
}

/** A run as its log tells it. */
export interface Run {
  start: RunStart;
  steps: StepEntry[];
  /** In the order of their steps. */
  evaluations: EvaluationEntry[];
  adapted?: AdaptEntry;
  end?: RunEnd;
}
