import { UserError } from '../base/errors.js';
import { Random } from '../base/random.js';
import { applyDense, type DenseLayer } from '../encoder/dense.js';
import type { Encoder } from '../encoder/encoder.js';
import { openEncoder } from '../encoder/open-encoder.js';
import type { Evaluation } from '../evaluation/evaluation.js';
import { adaptationText, FITTED_TEXTS, type Adaptation } from './adaptation.js';
import { differencesOf } from './differences.js';
import { evaluateAll } from './evaluate-all.js';
import { meanRow } from './matrix.js';
import type { AdaptEntry, EvaluationEntry } from './run-log.js';
import type { Ops } from './tensorflow/ops.js';
import { principalDirections } from './tensorflow/principal.js';
import { VectorCache } from './vector-cache.js';
import { whiteningScales } from './whitening.js';

/** Tells the random numbers of that choice from all others of a run. */
const SAMPLE = 8;

/**
 * Fits an adaptation to vectors. All of it is linear, so that a Dense layer says it: W (x - m) with the mean m and the
 * directions as rows of W, each divided by a power of the variance in it where that is whitened.
 *
 * @param vectors as pooled, [n, d]
 * @returns the layer, and the share of the vectors' variance (of their squares, uncentred) that it keeps
 */
export function fitAdaptation(
  ops: Ops,
  { center, whiten = 0, pca }: Adaptation,
  vectors: Float32Array,
  d: number,
): { layer: DenseLayer; variance: number } {
  const mean = center ? meanRow(vectors, d) : new Float64Array(d);
  const rows = vectors.map((value, i) => value - mean[i % d]);
  const k = pca ?? d;
  const turns = pca !== undefined || whiten > 0;
  const weight = { shape: [k, d], data: turns ? directionsOf(ops, rows, d, k) : identity(d) };
  const fitted: DenseLayer = { weight, activation: 'identity' };
  const kept = applyDense(rows, [fitted]);
  const variance = squares(kept) / squares(rows);
  if (whiten > 0) scaleRows(weight.data, whiteningScales(kept, k, whiten));
  if (!center) return { layer: fitted, variance };
  const bias = applyDense(
    Float32Array.from(mean, (value) => -value),
    [fitted],
  );
  return { layer: { ...fitted, bias }, variance };
}

/** The principal directions of rows [n, d] as rows [k, d]. */
function directionsOf(ops: Ops, rows: Float32Array, d: number, k: number): Float32Array {
  const result = new Float32Array(k * d);
  const columns = principalDirections(ops, rows, d, k);
  for (let i = 0; i < d; i++) for (let j = 0; j < k; j++) result[j * d + i] = columns[i * k + j];
  return result;
}

function identity(d: number): Float32Array {
  const result = new Float32Array(d * d);
  for (let i = 0; i < d; i++) result[i * d + i] = 1;
  return result;
}

/** In place. @param weights [scales.length, d] */
function scaleRows(weights: Float32Array, scales: Float64Array): void {
  const d = weights.length / scales.length;
  weights.forEach((value, i) => (weights[i] = value * scales[Math.floor(i / d)]));
}

function squares(values: Float32Array): number {
  return values.reduce((sum, value) => sum + value * value, 0);
}

export interface AdaptOptions {
  /** The model folder of the encoder that is adapted. */
  dir: string;
  /** The folder in which the texts' vectors are kept: with and without the layer they are the same texts. */
  vectors: (fingerprint: string) => string;
  /** What is fitted on; of many, a sample. */
  texts: Iterable<string>;
  /** Decides the sample. */
  seed: number;
  /** Cores. */
  threads: number;
  evaluations: readonly Evaluation[];
  signal?: AbortSignal;
  /** The texts are encoded. */
  onProgress?(done: number, total: number): void;
  onEvaluationProgress?(spec: string, done: number, total: number): void;
}

export interface Adapted {
  /** To put behind the folder's pooling, and behind the Dense layers that it has. */
  layer: DenseLayer;
  /** What the encoder was worth without the layer. */
  before: EvaluationEntry['results'];
  entry: AdaptEntry;
}

/**
 * Fits an adaptation to an encoder and texts, and measures the encoder with and without.
 *
 * @throws UserError `unavailable` when it was stopped; as openEncoder
 */
export async function adapt(ops: Ops, adaptation: Adaptation, options: AdaptOptions): Promise<Adapted> {
  const { dir, seed, threads, evaluations, signal, onProgress } = options;
  const begun = performance.now();
  // As pooled: a Dense module comes before the length is made 1, and evaluations make it 1 anyway.
  const opened = await openEncoder(dir, { threads, normalize: false });
  let cache: VectorCache | undefined;
  try {
    cache = await VectorCache.open(options.vectors(opened.fingerprint), opened.dimensions);
    const encoder = cachedEncoder(opened, cache);
    const texts = new Random(seed, SAMPLE).shuffle([...new Set(options.texts)]).slice(0, FITTED_TEXTS);
    const vectors = await encoder.encode(texts, { signal, onProgress });
    const { layer, variance } = fitAdaptation(ops, adaptation, vectors, encoder.dimensions);
    const progress = { signal, onProgress: options.onEvaluationProgress };
    const before = await evaluateAll(encoder, evaluations, progress);
    const after = await evaluateAll(withLayer(encoder, layer), evaluations, progress);
    return {
      layer,
      before,
      entry: {
        type: 'adapt',
        adaptation: adaptationText(adaptation),
        texts: texts.length,
        dimensions: layer.weight.shape[0],
        variance,
        results: after,
        comparisons: differencesOf(before, after),
        seconds: (performance.now() - begun) / 1000,
      },
    };
  } catch (error) {
    if (!signal?.aborted) throw error;
    throw new UserError(
      'unavailable',
      'stopped while the adaptation was fitted and measured: no model folder was written; run the same command again, with --resume where it had trained',
    );
  } finally {
    await cache?.close();
    await opened.close();
  }
}

/** The same encoder, which encodes a text only once. */
function cachedEncoder(encoder: Encoder, cache: VectorCache): Encoder {
  return {
    ...encoder,
    async encode(texts, options) {
      await cache.fill(texts, (missing, encodeOptions) => encoder.encode(missing, encodeOptions), options);
      return cache.read(texts);
    },
  };
}

function withLayer(encoder: Encoder, layer: DenseLayer): Encoder {
  return {
    ...encoder,
    dimensions: layer.weight.shape[0],
    encode: async (texts, options) => applyDense(await encoder.encode(texts, options), [layer]),
  };
}
