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

/** An ONNX graph in memory, pooling and Dense layers behind it. `encodeTokens` blocks its thread while it computes. */
export class EncoderSession {
  private constructor(
    private readonly session: InferenceSession,
    private readonly options: SessionOptions,
    private readonly output: string,
  ) {}

  /**
   * @param graph an .onnx file, or its bytes
   * @throws UserError `corrupt` when it can't be loaded, `unsupported-model` for other inputs or outputs
   */
  static async open(graph: string | Uint8Array, options: SessionOptions): Promise<EncoderSession> {
    const graphFile = typeof graph === 'string' ? graph : 'the graph in memory';
    let session: InferenceSession;
    try {
      const settings: InferenceSession.SessionOptions = {
        graphOptimizationLevel: 'all',
        intraOpNumThreads: options.threads,
        interOpNumThreads: 1,
        // Errors are thrown; what remains for stderr are warnings about the graph that no user can act on.
        logSeverityLevel: 3,
      };
      // Two calls, because the function is overloaded.
      session =
        typeof graph === 'string'
          ? await InferenceSession.create(graph, settings)
          : await InferenceSession.create(graph, settings);
    } catch (error) {
      // Without the file and the place in ONNX Runtime's own source, which come before the reason.
      const reason = messageOf(error)
        .replace(/^.*?failed:(\/\S+ .*\) )?/s, '')
        .trim();
      throw new UserError(
        'corrupt',
        `${graphFile}: expected an ONNX graph, found one that ONNX Runtime can't load (${reason}); is it cut short?`,
        { cause: error },
      );
    }
    const known = ['input_ids', 'attention_mask', 'token_type_ids'];
    const { inputNames, outputNames } = session;
    if (!inputNames.includes('input_ids') || inputNames.some((name) => !known.includes(name)))
      throw new UserError(
        'unsupported-model',
        `${graphFile}: expected the inputs ${known.join(', ')}, found ${inputNames.join(', ')}`,
      );
    const output = ['last_hidden_state', 'token_embeddings'].find((name) => outputNames.includes(name));
    if (!output)
      throw new UserError(
        'unsupported-model',
        `${graphFile}: expected the output last_hidden_state, found ${outputNames.join(', ')}`,
      );
    return new EncoderSession(session, options, output);
  }

  /**
   * One batch, padded to its longest sequence.
   *
   * @param sequences n token sequences, [CLS] ... [SEP]
   * @param normalize scale to length 1; as the model folder says when left out
   * @returns n x d, row-major
   * @throws UserError `backend`
   */
  async encodeTokens(
    sequences: readonly Int32Array[],
    normalize = this.options.normalize,
  ): Promise<Float32Array> {
    const { hiddenSize, pooling, dense } = this.options;
    const lengths = sequences.map(({ length }) => length);
    const width = Math.max(...lengths);
    let vectors: Float32Array;
    try {
      const feeds = padded(sequences, width);
      const inputs = Object.fromEntries(this.session.inputNames.map((name) => [name, feeds[name]]));
      const hidden = (await this.session.run(inputs, [this.output]))[this.output];
      if (hidden.data.length !== sequences.length * width * hiddenSize)
        throw new Error(
          `expected hidden states of [${sequences.length}, ${width}, ${hiddenSize}], found [${hidden.dims.join(', ')}]`,
        );
      const pooled = pool(hidden.data as Float32Array, lengths, width, hiddenSize, pooling);
      vectors = applyDense(pooled, dense);
    } catch (error) {
      throw new UserError('backend', `inference failed: ${messageOf(error)}`, { cause: error });
    }
    if (normalize) normalizeRows(vectors, denseDimensions(hiddenSize, dense));
    return vectors;
  }

  async close(): Promise<void> {
    await this.session.release();
  }
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
