import type { Recipe } from '../recipe.js';
import type { TF } from './load.js';
import { Ops } from './ops.js';

const ROUNDS = 8;
/** What bf16 must gain to be worth its 8 bits; with the instructions for it, it gains more than that by far. */
const LEAST_SPEEDUP = 1.2;

/** The precision that a recipe means on this processor. */
export function choosePrecision(tf: TF, precision: Recipe['precision']): 'fp32' | 'bf16' {
  if (precision !== 'auto') return precision;
  return bf16Speedup(tf) >= LEAST_SPEEDUP ? 'bf16' : 'fp32';
}

/**
 * How much faster this processor multiplies in bf16 than in fp32, casts included; below 1 where it has no
 * instructions for it. In processor time, which is the same whatever else the machine does: a run that is repeated has to
 * find the same.
 */
export function bf16Speedup(tf: TF): number {
  const [a, b] = [tf.ones([1024, 384]), tf.ones([384, 1536])];
  const all = (['fp32', 'bf16'] as const).map((precision) => ({ ops: new Ops(tf, precision), micros: 0 }));
  // In turns, and the first one not counted, in which kernels are made.
  for (let round = 0; round <= ROUNDS; round++)
    for (const each of all) {
      const before = process.cpuUsage();
      each.ops.matMul(a, b).dispose();
      const { user, system } = process.cpuUsage(before);
      if (round > 0) each.micros += user + system;
    }
  tf.dispose([a, b]);
  const [fp32, bf16] = all.map(({ micros }) => micros);
  return fp32 / bf16;
}
