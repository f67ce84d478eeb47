import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';

import { projectRoot } from '../../base/paths.js';
import { countOf, type Tensor, type TensorSource } from '../../encoder/safetensors.js';

/** Numbers as the scripts in test/golden write a tensor. */
export type Nested = number | Nested[];

export function golden<T>(name: string): T {
  return JSON.parse(readFileSync(path.join(projectRoot, 'test/golden', name), 'utf8')) as T;
}

/** A state as it is now. */
export const snapshot = (state: ReadonlyMap<string, TensorSource>): Map<string, Tensor> =>
  new Map(
    [...state].map(([name, { shape, read }]) => {
      const data = new Float32Array(countOf(shape));
      let at = 0;
      for (const piece of read()) {
        data.set(piece, at);
        at += piece.length;
      }
      return [name, { shape, data }];
    }),
  );

export const flat = (values: Nested): number[] => [values].flat(9) as number[];

export const largest = (values: ArrayLike<number>): number => Math.max(1e-3, ...Array.from(values, Math.abs));

/** Every number within `tolerance` of the largest one expected: what fp32 leaves of sums of many. */
export function assertClose(
  found: ArrayLike<number>,
  expected: ArrayLike<number>,
  what: string,
  tolerance = 2e-5,
  scale = largest(expected),
): void {
  assert.equal(found.length, expected.length, what);
  for (let i = 0; i < expected.length; i++)
    assert.ok(
      Math.abs(found[i] - expected[i]) <= tolerance * scale,
      `${what}: expected ${expected[i]} at ${i}, found ${found[i]}`,
    );
}
