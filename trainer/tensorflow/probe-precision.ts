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
 * instructions for it.
 */
export function bf16Speedup(tf: TF): number {
  const [a, b] = [tf.ones([1024, 384]), tf.ones([384, 1536])];
  const [exact, narrow] = [new Ops(tf, 'fp32'), new Ops(tf, 'bf16')];
  const secondsOf = (ops: Ops): number => {
    const begun = performance.now();
    ops.matMul(a, b).dispose();
    return performance.now() - begun;
  };
  // In turns: what else the machine does meets both.
  const rounds = Array.from({ length: ROUNDS }, () => [secondsOf(exact), secondsOf(narrow)]);
  tf.dispose([a, b]);
  const [fp32, bf16] = [0, 1].map((which) => Math.min(...rounds.map((seconds) => seconds[which])));
  return fp32 / bf16;
}
