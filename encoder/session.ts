import { availableParallelism } from 'node:os';

import { InferenceSession, Tensor } from 'onnxruntime-node';

import { messageOf, UserError } from '../base/errors.js';
import { applyDense, denseDimensions, type DenseLayer } from './dense.js';
import type { Pooling } from './model-folder.js';
import { normalizeRows, pool } from './pooling.js';

export interface SessionOptions {
  /** Length of a hidden state. */
  hiddenSize: number;
  pooling: Pooling;
  dense: readonly DenseLayer[];
  normalize: boolean;
  /** Cores for one batch. */
  threads: number;
}

/** Token sequences in, vectors out. `encodeTokens` blocks its thread while it computes. */
export interface TokenSession {
  /**
   * One batch.
   *
   * @param sequences n token sequences, [CLS] ... [SEP]
   * @param normalize scale to length 1; as the model folder says when left out
   * @returns n x d, row-major
   * @throws UserError `backend`
   */
  encodeTokens(sequences: readonly Int32Array[], normalize?: boolean): Promise<Float32Array>;
  close(): Promise<void>;
}

/**
 * A graph as transformers.js and others run it, last_hidden_state out of ids and mask, in memory; a batch is padded to its
 * longest sequence.
 *
 * @param graph an .onnx file, or its bytes
 * @throws UserError `corrupt` when it can't be loaded, `unsupported-model` for other inputs or outputs
 */
export async function openEncoderSession(
  graph: string | Uint8Array,
  options: SessionOptions,
): Promise<TokenSession> {
  const session = await openSession(graph, options.threads);
  const name = nameOf(graph);
  const known = ['input_ids', 'attention_mask', 'token_type_ids'];
  const { inputNames, outputNames } = session;
  if (!inputNames.includes('input_ids') || inputNames.some((input) => !known.includes(input)))
    throw new UserError(
      'unsupported-model',
      `${name}: expected the inputs ${known.join(', ')}, found ${inputNames.join(', ')}`,
    );
  const output = ['last_hidden_state', 'token_embeddings'].find((value) => outputNames.includes(value));
  if (!output)
    throw new UserError(
      'unsupported-model',
      `${name}: expected the output last_hidden_state, found ${outputNames.join(', ')}`,
    );
  const { hiddenSize, pooling } = options;
  return {
    encodeTokens: (sequences, normalize) =>
      inference(async () => {
        const lengths = sequences.map(({ length }) => length);
        const width = Math.max(...lengths);
        const feeds = padded(sequences, width);
        const inputs = Object.fromEntries(inputNames.map((input) => [input, feeds[input]]));
        const hidden = (await session.run(inputs, [output]))[output];
        if (hidden.data.length !== sequences.length * width * hiddenSize)
          throw new Error(
            `expected hidden states of [${sequences.length}, ${width}, ${hiddenSize}], found [${hidden.dims.join(', ')}]`,
          );
        const pooled = pool(hidden.data as Float32Array, lengths, width, hiddenSize, pooling);
        return finish(pooled, options, normalize);
      }),
    close: () => session.release(),
  };
}

/** @throws UserError `corrupt` when the graph can't be loaded */
export async function openSession(graph: string | Uint8Array, threads: number): Promise<InferenceSession> {
  try {
    const settings: InferenceSession.SessionOptions = {
      graphOptimizationLevel: 'all',
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      // Errors are thrown; what remains for stderr are warnings about the graph that no user can act on.
      logSeverityLevel: 3,
      // To wake a thread takes longer than most operations on a short text, so that it waits awake for the next one; but
      // not long, and not for the next run: that takes the core that whoever answers requests needs.
      ...(threads >= availableParallelism() && {
        extra: {
          session: {
            intra_op: { allow_spinning: '1', spin_duration_us: '20' },
            force_spinning_stop: '1',
          },
        },
      }),
    };
    // Two calls, because the function is overloaded.
    return typeof graph === 'string'
      ? await InferenceSession.create(graph, settings)
      : await InferenceSession.create(graph, settings);
  } catch (error) {
    // Without the file and the place in ONNX Runtime's own source, which come before the reason.
    const reason = messageOf(error)
      .replace(/^.*?failed:(\/\S+ .*\) )?/s, '')
      .trim();
    throw new UserError(
      'corrupt',
      `${nameOf(graph)}: expected an ONNX graph, found one that ONNX Runtime can't load (${reason}); is it cut short?`,
      { cause: error },
    );
  }
}

function nameOf(graph: string | Uint8Array): string {
  return typeof graph === 'string' ? graph : 'the graph in memory';
}

/** @throws UserError `backend` for whatever goes wrong inside */
export async function inference<T>(compute: () => Promise<T>): Promise<T> {
  try {
    return await compute();
  } catch (error) {
    throw new UserError('backend', `inference failed: ${messageOf(error)}`, { cause: error });
  }
}

/** Dense layers and length 1: pooled vectors [n, hidden] -> [n, d]. */
export function finish(
  pooled: Float32Array,
  { hiddenSize, dense, normalize: usual }: Pick<SessionOptions, 'hiddenSize' | 'dense' | 'normalize'>,
  normalize = usual,
): Float32Array {
  const vectors = applyDense(pooled, dense);
  if (normalize) normalizeRows(vectors, denseDimensions(hiddenSize, dense));
  return vectors;
}

function padded(sequences: readonly Int32Array[], width: number): Record<string, Tensor> {
  const shape = [sequences.length, width];
  const count = sequences.length * width;
  const [ids, mask, types] = [0, 1, 2].map(() => new BigInt64Array(count));
  // The lower halves of little-endian 64-bit integers: no BigInt is made for a token.
  const lowIds = new Int32Array(ids.buffer);
  const lowMask = new Int32Array(mask.buffer);
  sequences.forEach((sequence, text) => {
    for (let token = 0; token < sequence.length; token++) {
      const at = 2 * (text * width + token);
      lowIds[at] = sequence[token];
      lowMask[at] = 1;
    }
  });
  return {
    input_ids: new Tensor('int64', ids, shape),
    attention_mask: new Tensor('int64', mask, shape),
    token_type_ids: new Tensor('int64', types, shape),
  };
}
