import { weightsFileDigest } from '../fingerprint.js';
import type { EncoderSettings } from '../model-folder.js';
import type { PackedPrecision } from '../onnx/packed-graph.js';
import { finish, inference, type TokenSession } from '../session.js';
import type { Instructions, Kernels } from './load.js';

export interface KernelSessionOptions {
  precision: PackedPrecision;
  threads: number;
  /** Default: the fastest that this processor has. */
  instructions?: Instructions;
}

/**
 * An encoder in the kernels of native/: BERT's products in integers of 16 bits for `fp32`, with which the cosine of a
 * vector to that of exact arithmetic is above 0.99999, and of 8 bits for `int8`, by the scales of onnx/packed-graph.ts.
 * A text's vector is the same, bit for bit, alone and in any batch.
 *
 * @param folder whose shape suits them (see suitsKernels)
 * @returns with the digest of the weights (see weightsFileDigest)
 * @throws UserError as weightsFileDigest
 */
export async function openKernelSession(
  kernels: Kernels,
  folder: Pick<EncoderSettings, 'config' | 'pooling' | 'dense' | 'normalize'> & { weightsFile: string },
  { precision, threads, instructions = kernels.instructions()[0] }: KernelSessionOptions,
): Promise<{ session: TokenSession; weights: string }> {
  const { config, pooling } = folder;
  const { hiddenSize } = config;
  const bits = precision === 'fp32' ? 16 : 8;
  const handle = kernels.open({ ...config, pooling, bits, threads, instructions });
  try {
    const weights = await weightsFileDigest(folder.weightsFile, config, (numbers) =>
      kernels.write(handle, numbers),
    );
    kernels.finish(handle);
    return { weights, session: { encodeTokens, close } };
  } catch (error) {
    kernels.close(handle);
    throw error;
  }

  function encodeTokens(sequences: readonly Int32Array[], normalize?: boolean): Promise<Float32Array> {
    return inference(async () => {
      const lengths = Int32Array.from(sequences, ({ length }) => length);
      const ids = new Int32Array(lengths.reduce((sum, length) => sum + length, 0));
      let first = 0;
      for (const sequence of sequences) {
        ids.set(sequence, first);
        first += sequence.length;
      }
      const pooled = new Float32Array(sequences.length * hiddenSize);
      kernels.encode(handle, ids, lengths, pooled);
      return finish(pooled, { ...folder, hiddenSize }, normalize);
    });
  }

  async function close(): Promise<void> {
    kernels.close(handle);
  }
}
