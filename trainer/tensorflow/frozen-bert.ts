import type { BertConfig } from '../../encoder/bert.js';
import type { Pooling } from '../../encoder/model-folder.js';
import type { Tensor as StoredTensor } from '../../encoder/safetensors.js';
import type { PackedBatch, TrainableEncoder } from '../types.js';
import { bertVectors, type Weights } from './bert.js';
import { fuseQkv } from './fused-qkv.js';
import type { Ops, Tensor } from './ops.js';

/** BERT whose weights stand still: what products are made of is narrow from the start. */
export class FrozenBert implements Pick<TrainableEncoder, 'embed' | 'dispose'> {
  private readonly tensors: ReadonlyMap<string, Tensor>;
  private readonly weight: Weights;

  /** @param weights under the names of bertTensors */
  constructor(
    private readonly ops: Ops,
    private readonly config: BertConfig,
    weights: ReadonlyMap<string, StoredTensor>,
    private readonly pooling: Pooling,
  ) {
    const isFactor = (name: string, { shape }: Tensor): boolean =>
      name.startsWith('encoder.layer.') && shape.length === 2;
    this.tensors = new Map(
      [...weightsOnDevice(ops, config, weights)].map(([name, tensor]) => {
        if (!isFactor(name, tensor)) return [name, tensor];
        const narrow = ops.narrow(tensor);
        ops.free(tensor);
        return [name, narrow];
      }),
    );
    const value = (name: string): Tensor => this.tensors.get(name)!;
    this.weight = Object.assign(value, { narrow: value });
  }

  async embed(packed: PackedBatch): Promise<Float32Array> {
    return bertVectors(this.ops, this.config, this.weight, packed, this.pooling);
  }

  dispose(): void {
    this.ops.free([...this.tensors.values()]);
  }
}

/** An encoder's tensors where TensorFlow can see them, under the names of bert.ts; the caller disposes of them. */
export function weightsOnDevice(
  { tf }: Ops,
  { layers }: BertConfig,
  weights: ReadonlyMap<string, StoredTensor>,
): Map<string, Tensor> {
  return new Map(
    [...fuseQkv(weights, layers)].map(([name, { shape, data }]) => [name, tf.tensor(data, shape, 'float32')]),
  );
}
