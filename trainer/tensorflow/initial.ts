import type { Random } from '../../base/random.js';
import { countOf } from '../../encoder/safetensors.js';
import type { HostTensor } from '../types.js';

/** BERT's initializer_range. */
const SPREAD = 0.02;

/** First values of a weight of BERT's kind: normal, with BERT's std. */
export function normal(shape: number[], random: Random): HostTensor {
  return { shape, data: Float32Array.from({ length: countOf(shape) }, () => SPREAD * random.normal()) };
}

/** Of a bias, or of a norm's scale. */
export function filled(length: number, value: number): HostTensor {
  return { shape: [length], data: new Float32Array(length).fill(value) };
}
