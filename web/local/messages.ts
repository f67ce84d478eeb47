import type { Schemas } from '../api/client.js';

/** What of `/info` decides a vector beside the model's files. */
export interface ServedModel {
  name: string;
  pooling: Schemas['Info']['model_type']['embedding']['pooling'];
  /** Longest text, special tokens included. */
  maxTokens: number;
}

/** First `load`, once; then texts. */
export type ToWorker = { load: ServedModel; key: string } | { embed: string; call: number };

export type FromWorker =
  | { loaded: number; total: number }
  | { ready: true }
  | { failed: string; unauthorized: boolean }
  | { call: number; vector: Float32Array; ms: number }
  | { call: number; error: string };
