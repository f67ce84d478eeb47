import { availableParallelism } from 'node:os';
import { setImmediate } from 'node:timers/promises';

import { UserError } from '../base/errors.js';
import { backendOfEnvironment, type Backend, type BackendChoice } from './backend.js';
import { BATCH_TOKENS, batchByLength } from './batches.js';
import type { EncodeOptions, Encoder } from './encoder.js';
import { fingerprintOf } from './fingerprint.js';
import { findGraph } from './graph-file.js';
import { loadKernels, suitsKernels, type Kernels } from './kernels/load.js';
import { openKernelSession } from './kernels/session.js';
import { dimensionsOf, type ModelFolder, openModelFolder } from './model-folder.js';
import { loadTokenizer, type Tokenizer } from './tokenizer.js';
import type { Precision } from './graph-file.js';
import { resolveModel } from './resolve.js';
import type { PackedPrecision } from './onnx/packed-graph.js';
import { openPackedSession } from './packed-session.js';
import { openEncoderSession, type TokenSession } from './session.js';
import type { OnNote } from './unpack.js';

export interface OpenEncoderOptions {
  /** Default fp32. */
  precision?: Precision;
  /** Default: what SENTENCE_JEPA_BACKEND names, else the kernels where they are built and the model suits them. */
  backend?: BackendChoice;
  /** Cores for one batch. Default: all. */
  threads?: number;
  /** Cut texts off earlier than the model folder says. */
  maxTokens?: number;
  /** Whether vectors are scaled to length 1; as the model folder says when left out. */
  normalize?: boolean;
  /** false: the vectors before the folder's Dense modules. */
  dense?: boolean;
  /** Told when there is something to wait for. */
  onNote?: OnNote;
}

/** An encoder in the calling thread; its parts serve those who batch for themselves. */
export interface OpenedEncoder extends Encoder {
  readonly folder: ModelFolder;
  readonly tokenizer: Tokenizer;
  readonly session: TokenSession;
  readonly backend: Backend;
}

/**
 * Opens a model for inference.
 *
 * @param model a model folder, or the name of a model that `model get` has fetched
 * @throws UserError `not-found`, `corrupt`, `malformed` or `unsupported-model`, naming file and reason; `unavailable` when
 *   the backend that is asked for can't compute it
 */
export async function openEncoder(model: string, options: OpenEncoderOptions = {}): Promise<OpenedEncoder> {
  const { precision = 'fp32', threads = availableParallelism() } = options;
  const { dir, name } = await resolveModel(model, options.onNote);
  const opened = await openModelFolder(dir, name);
  const maxTokens = options.maxTokens ?? opened.maxTokens;
  if (!Number.isInteger(maxTokens) || maxTokens < 3 || maxTokens > opened.config.maxPositions)
    throw new UserError(
      'invalid',
      `expected a longest text of 3 to ${opened.config.maxPositions} tokens for ${name}, found ${maxTokens}`,
    );
  const folder = {
    ...opened,
    maxTokens,
    normalize: options.normalize ?? opened.normalize,
    dense: options.dense === false ? [] : opened.dense,
  };
  const tokenizer = loadTokenizer(folder);
  const dimensions = dimensionsOf(folder);
  const kernels = chooseKernels(folder, precision, options.backend);
  const { session, weights } = kernels
    ? await openKernelSession(kernels.kernels, kernels.folder, { precision: kernels.precision, threads })
    : await openGraph(folder, precision, threads);
  return {
    name,
    dimensions,
    maxTokens,
    fingerprint: fingerprintOf(folder, weights, precision),
    folder,
    tokenizer,
    session,
    backend: kernels ? 'kernels' : 'onnxruntime',
    encode: (texts, encodeOptions) => encodeAll(texts, tokenizer, session, dimensions, encodeOptions),
    close: () => session.close(),
  };
}

async function openGraph(
  folder: ModelFolder,
  precision: Precision,
  threads: number,
): Promise<{ session: TokenSession; weights: string }> {
  const { file, packed, weights } = await findGraph(folder, precision);
  const { hiddenSize, heads } = folder.config;
  const settings = { ...folder, hiddenSize, threads };
  const session = packed
    ? await openPackedSession(file, { ...settings, heads, precision: packed })
    : await openEncoderSession(file, settings);
  return { session, weights };
}

/**
 * The kernels, where they are what is to compute the model, with what they need to know of it.
 *
 * @throws UserError `unavailable` when they are asked for and can't; `invalid` for another name in SENTENCE_JEPA_BACKEND
 */
function chooseKernels(
  folder: ModelFolder,
  precision: Precision,
  asked: BackendChoice = backendOfEnvironment(),
):
  | { kernels: Kernels; folder: ModelFolder & { weightsFile: string }; precision: PackedPrecision }
  | undefined {
  if (asked === 'onnxruntime') return undefined;
  const { weightsFile, config } = folder;
  const kernels = loadKernels();
  let reason: string;
  if ('reason' in kernels) reason = kernels.reason;
  else if (precision === 'quantized')
    reason = "`quantized` is the folder's own graph, which ONNX Runtime runs";
  else if (weightsFile === undefined) reason = `${folder.dir} has no model.safetensors`;
  else if (!suitsKernels(config))
    reason =
      'they are for a hidden size and an intermediate size that 32 divides, and heads of a size that 16 divides; ' +
      `${folder.name} has ${config.hiddenSize}, ${config.intermediateSize} and ${config.hiddenSize / config.heads}`;
  else return { kernels, folder: { ...folder, weightsFile }, precision };
  if (asked === 'kernels')
    throw new UserError('unavailable', `the kernels can't compute ${folder.name}: ${reason}`);
  return undefined;
}

async function encodeAll(
  texts: readonly string[],
  tokenizer: Tokenizer,
  session: TokenSession,
  dimensions: number,
  { onProgress, signal }: EncodeOptions = {},
): Promise<Float32Array> {
  signal?.throwIfAborted();
  // A text that comes twice is encoded once.
  const rowsOf = new Map<string, number[]>();
  texts.forEach((text, row) => {
    const rows = rowsOf.get(text);
    if (rows) rows.push(row);
    else rowsOf.set(text, [row]);
  });
  const rows = [...rowsOf.values()];
  const sequences = [...rowsOf.keys()].map((text) => tokenizer.encode(text));
  const vectors = new Float32Array(texts.length * dimensions);
  let done = 0;
  for (const batch of batchByLength(
    sequences.map(({ length }) => length),
    BATCH_TOKENS,
  )) {
    const pooled = await session.encodeTokens(batch.map((i) => sequences[i]));
    batch.forEach((i, at) => {
      const vector = pooled.subarray(at * dimensions, (at + 1) * dimensions);
      for (const row of rows[i]) vectors.set(vector, row * dimensions);
      done += rows[i].length;
    });
    onProgress?.(done, texts.length);
    // session.run holds the thread: let signals and timers in between two batches.
    await setImmediate();
    signal?.throwIfAborted();
  }
  return vectors;
}
