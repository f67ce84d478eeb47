import { createRequire } from 'node:module';

import { Random } from '../../base/random.js';
import { tryModule } from '../../base/try-module.js';
import { bertTensors, type BertConfig } from '../bert.js';
import { packedGraph } from '../onnx/packed-graph.js';
import { openPackedSession } from '../packed-session.js';
import { cosines } from '../pooling.js';
import { countOf, type Tensor } from '../safetensors.js';
import type { Kernels } from './load.js';

const CONFIG: BertConfig = {
  ...{ vocabSize: 100, hiddenSize: 64, layers: 2, heads: 2, intermediateSize: 128, maxPositions: 48 },
  ...{ typeVocabSize: 2, layerNormEps: 1e-12, padTokenId: 0, hiddenDropout: 0, attentionDropout: 0 },
};
const LENGTHS = [1, 2, 7, 14, 15, 16, 17, 33, 48];
/** How near to our ONNX graph's in fp32 a vector must be, in integers of so many bits. */
const LEAST_COSINE = { 16: 0.99999, 8: 0.99 };

/**
 * Loads the kernels in the file named as the first argument, and compares what they make of a small BERT with ONNX
 * Runtime, for each set of instructions that this processor has. For a process of its own (see tryModule).
 */
async function check(file: string): Promise<void> {
  const kernels = createRequire(import.meta.url)(file) as Kernels;
  const random = new Random(1);
  const weights = new Map<string, Tensor>();
  for (const [name, shape] of bertTensors(CONFIG)) {
    const size = name.endsWith('LayerNorm.weight') ? 1 : 0.1;
    weights.set(name, {
      shape,
      data: Float32Array.from({ length: countOf(shape) }, () => size * random.normal()),
    });
  }
  const sequences = LENGTHS.map((length) =>
    Int32Array.from({ length }, () => random.below(CONFIG.vocabSize)),
  );
  const graph = await openPackedSession(Buffer.concat(packedGraph(CONFIG, weights, 'fp32')), {
    ...CONFIG,
    ...{ precision: 'fp32', pooling: 'mean', dense: [], normalize: false, threads: 1 },
  });
  const expected = await graph.encodeTokens(sequences);
  await graph.close();
  const ids = Int32Array.from(sequences.flatMap((sequence) => [...sequence]));
  for (const instructions of kernels.instructions())
    for (const bits of [16, 8] as const) {
      const handle = kernels.open({ ...CONFIG, pooling: 'mean', bits, threads: 2, instructions });
      for (const { data } of weights.values()) kernels.write(handle, data);
      kernels.finish(handle);
      const found = new Float32Array(expected.length);
      kernels.encode(handle, ids, Int32Array.from(LENGTHS), found);
      kernels.close(handle);
      cosines(expected, found, LENGTHS.length).forEach((cosine, i) => {
        if (!(cosine > LEAST_COSINE[bits]))
          throw new Error(
            `${instructions}: a text of ${LENGTHS[i]} tokens came out at a cosine of ${cosine} in ${bits} bits`,
          );
      });
    }
}

await tryModule(() => check(process.argv[2]));
