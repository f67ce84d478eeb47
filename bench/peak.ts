import { availableParallelism } from 'node:os';

import { Tensor } from 'onnxruntime-node';

import { version } from '../base/paths.js';
import type { BertConfig } from '../encoder/bert.js';
import { Graph } from '../encoder/onnx/graph.js';
import { bytesOf } from '../encoder/safetensors.js';
import { openSession } from '../encoder/session.js';

/** Weights that each token is multiplied by on its way through the dense layers of an encoder. */
export function weightsPerToken({ layers, hiddenSize: d, intermediateSize }: BertConfig): number {
  return layers * (4 * d * d + 2 * d * intermediateSize);
}

const SIZE = 1024;
const ROUNDS = 20;

/** The most that ONNX Runtime multiplies on all cores, in GFLOP/s: the best of some products of 1024 x 1024 fp32 matrices. */
export async function peakOfOnnxRuntime(): Promise<number> {
  const shape = [SIZE, SIZE];
  const numbers = Float32Array.from({ length: SIZE * SIZE }, (_, i) => Math.sin(i));
  const graph = new Graph('product');
  const input = graph.input('input', 'float', shape);
  // A constant, as an encoder's weights are: ONNX Runtime lays them out once.
  graph.node('MatMul', 'output', [input, graph.tensor('weight', 'float', shape, bytesOf(numbers))]);
  graph.output('output', 'float', shape);
  const session = await openSession(Buffer.concat(graph.encode(version)), availableParallelism());
  try {
    const feeds = { input: new Tensor('float32', numbers, shape) };
    let best = Infinity;
    for (let round = 0; round < ROUNDS; round++) {
      const begun = performance.now();
      await session.run(feeds);
      best = Math.min(best, performance.now() - begun);
    }
    return (2 * SIZE ** 3) / best / 1e6;
  } finally {
    await session.release();
  }
}
