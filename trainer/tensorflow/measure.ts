import { batchByLength } from '../../encoder/batches.js';
import type { BertConfig } from '../../encoder/bert.js';
import type { Tensor as StoredTensor } from '../../encoder/safetensors.js';
import { pack } from '../packing.js';
import { bertForward, toDevice, WORDS } from './bert.js';
import { weightsOnDevice } from './frozen-bert.js';
import { Dropout } from './layers.js';
import type { Ops, Tensor } from './ops.js';
import { principalDirections } from './principal.js';

/** What an encoder does on some texts, as far as it decides what a smaller one keeps of it. */
export interface Measured {
  layers: {
    /** Mean size of what each attention head adds to the hidden state: [heads]. */
    headImportance: Float32Array;
    /** The same of each neuron of the feed-forward half: [intermediate]. */
    neuronImportance: Float32Array;
  }[];
  /** The k directions in which the texts' word embeddings lie most: [d, k], orthonormal. */
  directions(k: number): Float32Array;
}

/** Tokens of a batch. */
const BATCH_TOKENS = 2048;

/**
 * Runs an encoder on some texts and looks at how much each of its parts does.
 *
 * @param sequences token ids of each text
 */
export function measureSource(
  ops: Ops,
  config: BertConfig,
  weights: ReadonlyMap<string, StoredTensor>,
  sequences: readonly Int32Array[],
): Measured {
  const { tf } = ops;
  const { layers, heads, hiddenSize, intermediateSize } = config;
  const still = { ...config, hiddenDropout: 0, attentionDropout: 0 };
  const onDevice = weightsOnDevice(ops, config, weights);
  const weight = (name: string): Tensor => onDevice.get(name)!;
  const sums = Array.from({ length: layers }, () => ({
    context: new Float32Array(hiddenSize),
    activated: new Float32Array(intermediateSize),
  }));
  const addTo = (sum: Float32Array, x: Tensor): void => {
    const found = ops.tidy(() => ops.columnSums(tf.abs(x)));
    found.dataSync<'float32'>().forEach((value, i) => (sum[i] += value));
    found.dispose();
  };
  const lengths = sequences.map(({ length }) => length);
  for (const batch of batchByLength(lengths, BATCH_TOKENS)) {
    const group = batch.map((i) => sequences[i]);
    const scope = tf.engine();
    scope.startScope('measure');
    const { saved } = bertForward(ops, still, weight, toDevice(ops, pack(group), still), new Dropout(ops, 0));
    saved.layers.forEach(({ context, activated }, layer) => {
      addTo(sums[layer].context, context);
      addTo(sums[layer].activated, activated);
    });
    scope.endScope();
  }
  for (const tensor of onDevice.values()) tensor.dispose();

  const columnNorm = (name: string): Float32Array => {
    const {
      shape: [rows, columns],
      data,
    } = weights.get(name)!;
    const squares = new Float64Array(columns);
    for (let i = 0; i < rows * columns; i++) squares[i % columns] += data[i] ** 2;
    return Float32Array.from(squares, Math.sqrt);
  };
  return {
    layers: sums.map(({ context, activated }, layer) => {
      const inner = columnNorm(`encoder.layer.${layer}.attention.output.dense.weight`);
      const outer = columnNorm(`encoder.layer.${layer}.output.dense.weight`);
      const headImportance = new Float32Array(heads);
      context.forEach((sum, i) => (headImportance[Math.floor((i * heads) / hiddenSize)] += sum * inner[i]));
      return { headImportance, neuronImportance: activated.map((sum, i) => sum * outer[i]) };
    }),
    directions(k) {
      const { data } = weights.get(WORDS)!;
      const ids = sequences.flatMap((sequence) => [...sequence]);
      const rows = new Float32Array(ids.length * hiddenSize);
      ids.forEach((id, i) => rows.set(data.subarray(id * hiddenSize, (id + 1) * hiddenSize), i * hiddenSize));
      return principalDirections(ops, rows, hiddenSize, k);
    },
  };
}
