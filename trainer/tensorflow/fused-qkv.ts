import { bertTensors, type BertConfig } from '../../encoder/bert.js';
import type { Tensor as StoredTensor } from '../../encoder/safetensors.js';
import type { HostTensor } from '../types.js';

const PARTS = ['query', 'key', 'value'];
const selfAttention = (layer: number): string => `encoder.layer.${layer}.attention.self`;

/** Query, key and value of each layer as one dense layer: one large product instead of three. */
export function fuseQkv(weights: ReadonlyMap<string, StoredTensor>, layers: number): Map<string, HostTensor> {
  const fused = new Map<string, HostTensor>(weights);
  for (let layer = 0; layer < layers; layer++)
    for (const kind of ['weight', 'bias']) {
      const parts = PARTS.map((part) => {
        const name = `${selfAttention(layer)}.${part}.${kind}`;
        fused.delete(name);
        return weights.get(name)!;
      });
      const [{ shape, data: first }] = parts;
      const data = new Float32Array(3 * first.length);
      parts.forEach((part, i) => data.set(part.data, i * first.length));
      fused.set(`${selfAttention(layer)}.qkv.${kind}`, { shape: [3 * shape[0], ...shape.slice(1)], data });
    }
  return fused;
}

/** The encoder's tensors as they are stored: a head's left out, query, key and value apart. */
export function splitQkv(
  parameters: ReadonlyMap<string, HostTensor>,
  config: BertConfig,
): Map<string, HostTensor> {
  const weights = new Map<string, HostTensor>();
  for (const [name, shape] of bertTensors(config)) {
    const [, at, part, kind] = /^(.*\.self)\.(query|key|value)\.(weight|bias)$/.exec(name) ?? [];
    if (at === undefined) weights.set(name, parameters.get(name)!);
    else {
      const { data } = parameters.get(`${at}.qkv.${kind}`)!;
      const size = data.length / PARTS.length;
      const from = PARTS.indexOf(part) * size;
      weights.set(name, { shape, data: data.slice(from, from + size) });
    }
  }
  return weights;
}
