import { availableParallelism } from 'node:os';
import { setImmediate } from 'node:timers/promises';

import { UserError } from '../base/errors.js';
import { BATCH_TOKENS, batchByLength } from './batches.js';
import type { EncodeOptions, Encoder } from './encoder.js';
import { fingerprintOf } from './fingerprint.js';
import { findGraph } from './graph-file.js';
import { dimensionsOf, type ModelFolder, openModelFolder } from './model-folder.js';
import { loadTokenizer, type Tokenizer } from './tokenizer.js';
import type { Precision } from './graph-file.js';
import { resolveModel } from './resolve.js';
import { openPackedSession } from './packed-session.js';
import { openEncoderSession, type TokenSession } from './session.js';
import type { OnNote } from './unpack.js';

export interface OpenEncoderOptions {
  /** Default fp32. */
  precision?: Precision;
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

/** An encoder on ONNX Runtime, in the calling thread; its parts serve those who batch for themselves. */
export interface OnnxEncoder extends Encoder {
  readonly folder: ModelFolder;
  readonly tokenizer: Tokenizer;
  readonly session: TokenSession;
}

/**
 * Opens a model for inference.
 *
 * @param model a model folder, or the name of a model that `model get` has fetched
 * @throws UserError `not-found`, `corrupt`, `malformed` or `unsupported-model`, naming file and reason
 */
export async function openEncoder(model: string, options: OpenEncoderOptions = {}): Promise<OnnxEncoder> {
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
  const graph = await findGraph(folder, precision);
  const dimensions = dimensionsOf(folder);
  const { hiddenSize, heads } = folder.config;
  const settings = { ...folder, hiddenSize, threads };
  const session = graph.packed
    ? await openPackedSession(graph.file, { ...settings, heads, precision: graph.packed })
    : await openEncoderSession(graph.file, settings);
  return {
    name,
    dimensions,
    maxTokens,
    fingerprint: fingerprintOf(folder, graph.weights, precision),
    folder,
    tokenizer,
    session,
    encode: (texts, encodeOptions) => encodeAll(texts, tokenizer, session, dimensions, encodeOptions),
    close: () => session.close(),
  };
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
