import { availableParallelism } from 'node:os';

import { Tensor } from 'onnxruntime-node';

import { version } from '../base/paths.js';
import { Graph } from '../encoder/onnx/graph.js';
import { bytesOf } from '../encoder/safetensors.js';
import { openSession } from '../encoder/session.js';
import { PEAK_SIZE, peakOf } from './peak.js';

/** The most that ONNX Runtime multiplies on all cores, in GFLOP/s: see peakOf. */
export async function peakOfOnnxRuntime(): Promise<number> {
  const shape = [PEAK_SIZE, PEAK_SIZE];
  const numbers = Float32Array.from({ length: PEAK_SIZE ** 2 }, (_, i) => Math.sin(i));
  const graph = new Graph('product');
  const input = graph.input('input', 'float', shape);
  // A constant, as an encoder's weights are: ONNX Runtime lays them out once.
  graph.node('MatMul', 'output', [input, graph.tensor('weight', 'float', shape, bytesOf(numbers))]);
  graph.output('output', 'float', shape);
  const session = await openSession(Buffer.concat(graph.encode(version)), availableParallelism());
  try {
    const feeds = { input: new Tensor('float32', numbers, shape) };
    return await peakOf(() => session.run(feeds));
  } finally {
    await session.release();
  }
}
