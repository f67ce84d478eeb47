import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { openEncoder } from '../../encoder/open-encoder.js';
import { loadTensorFlow, type TF } from '../../trainer/tensorflow/load.js';
import { Teacher } from '../../trainer/teacher.js';
import { makeTinyModel } from '../support/tiny-model.js';
import { keepEnvironment } from '../support/environment.js';

describe('a teacher', () => {
  const putBack = keepEnvironment('SENTENCE_JEPA_CACHE');
  let tf: TF;
  let home: string;
  let plain: string;
  let withDense: string;
  before(async () => {
    // What setup built lies in the real cache folder; vectors of an earlier run may, too.
    tf = await loadTensorFlow();
    home = await mkdtemp(path.join(tmpdir(), 'teacher-'));
    process.env.SENTENCE_JEPA_CACHE = path.join(home, 'cache');
    plain = path.join(home, 'plain');
    withDense = path.join(home, 'with-dense');
    await makeTinyModel(plain, { normalize: false });
    await makeTinyModel(withDense, { dense: [24, 16] });
  });
  after(async () => {
    putBack();
    await rm(home, { recursive: true, force: true });
  });

  const texts = Array.from({ length: 70 }, (_, i) => `how to install disk ${i}`.repeat(1 + (i % 7)));

  /** The texts' vectors, and how many of them were encoded for it. */
  async function taught(
    model: string,
    precision: 'fp32' | 'bf16',
  ): Promise<{ vectors: Float32Array; dimensions: number; encoded: number }> {
    const teacher = await Teacher.open(model);
    await teacher.start({ tf, precision, threads: 1 });
    let encoded = 0;
    await teacher.prepare(new Set(texts), { onProgress: (done) => (encoded = done) });
    const vectors = await teacher.read(texts);
    await teacher.close();
    return { vectors, dimensions: teacher.dimensions, encoded };
  }

  /** The least cosine of a text's two vectors, each of length 1. */
  function leastCosine(a: Float32Array, b: Float32Array): number {
    const d = a.length / texts.length;
    const cosines = texts.map((_, i) =>
      a.subarray(i * d, (i + 1) * d).reduce((sum, value, j) => sum + value * b[i * d + j], 0),
    );
    return Math.min(...cosines);
  }

  for (const [what, folder] of [
    ['a plain encoder', (): string => plain],
    ['one with Dense modules', (): string => withDense],
  ] as const)
    it(`gives the vectors of ${what}, in bf16 nearly the same, and keeps each kind`, async () => {
      const encoder = await openEncoder(folder(), { threads: 1, normalize: true });
      const expected = await encoder.encode(texts);
      await encoder.close();
      const exact = await taught(folder(), 'fp32');
      assert.equal(exact.encoded, texts.length);
      assert.ok(leastCosine(exact.vectors, expected) > 0.999999);
      const narrow = await taught(folder(), 'bf16');
      assert.equal(narrow.encoded, texts.length, 'not the vectors of fp32');
      assert.notDeepEqual(narrow.vectors, exact.vectors);
      const cosine = leastCosine(narrow.vectors, expected);
      assert.ok(cosine > 0.999, `cosine ${cosine}`);
      assert.equal((await taught(folder(), 'bf16')).encoded, 0);
    });
});
