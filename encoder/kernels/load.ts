import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';

import { messageOf } from '../../base/errors.js';
import type { BertConfig } from '../bert.js';
import type { Pooling } from '../model-folder.js';
import { builtFile, builtFolder, NOT_FOR_HERE } from './locations.js';

const require = createRequire(import.meta.url);

/** Instructions that there are kernels for. */
export type Instructions = 'avx512-vnni' | 'avx2';

/** A model in the kernels' memory. */
export type Handle = object;

/** native/addon.cc. What it throws is an Error with a reason, of the wrong use that it is. */
export interface Kernels {
  /** Those that this processor has, the fastest first. */
  instructions(): Instructions[];
  open(shape: KernelShape): Handle;
  /** The next of the weights, in the order of bertTensors, cut into pieces of any size. */
  write(handle: Handle, numbers: Float32Array): void;
  /** All weights were written. */
  finish(handle: Handle): void;
  /** Blocks the thread. `ids`: of all texts, one behind the other; `pooled`: [texts, hidden]. */
  encode(handle: Handle, ids: Int32Array, lengths: Int32Array, pooled: Float32Array): void;
  close(handle: Handle): void;
}

export interface KernelShape extends BertConfig {
  pooling: Pooling;
  /** Of the integers that are multiplied. */
  bits: 16 | 8;
  threads: number;
  instructions: Instructions;
}

/** The kernels that setup built, or why there are none: a clause, with the way out. */
export function loadKernels(folder = builtFolder()): Kernels | { reason: string } {
  if (!folder) return { reason: NOT_FOR_HERE };
  const file = builtFile(folder);
  if (!existsSync(file)) return { reason: 'they are not built: npm run setup -- --kernels' };
  try {
    const kernels = require(file) as Kernels;
    if (kernels.instructions().length > 0) return kernels;
    return { reason: 'this processor has no AVX2' };
  } catch (error) {
    return { reason: `they can't be loaded (${messageOf(error)}); remove ${folder} and build them again` };
  }
}

/** Whether BERTs of that shape are whole vectors in all their parts, as the kernels need them. */
export function suitsKernels({ hiddenSize, intermediateSize, heads }: BertConfig): boolean {
  return hiddenSize % 32 === 0 && intermediateSize % 32 === 0 && (hiddenSize / heads) % 16 === 0;
}
