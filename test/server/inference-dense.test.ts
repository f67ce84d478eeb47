import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { openEncoder } from '../../encoder/open-encoder.js';
import type { Inference } from '../../server/batching/inference.js';
import { startInference } from '../../server/batching/start-inference.js';
import { makeTinyModel } from '../support/tiny-model.js';

describe('inference with a model that has a Dense module', () => {
  const texts = ['how do i install a package', 'usb'];
  let scratch: string;
  let model: string;
  let inference: Inference;
  before(async () => {
    scratch = await mkdtemp(path.join(tmpdir(), 'inference-dense-'));
    model = path.join(scratch, 'model');
    await makeTinyModel(model, { dense: [12] });
    inference = await startInference({ model, threads: 1 });
  });
  after(async () => {
    await inference.close();
    await rm(scratch, { recursive: true });
  });

  const expected = async (normalize: boolean): Promise<number[]> => {
    const encoder = await openEncoder(model, { threads: 1, normalize });
    return [...(await encoder.encode(texts).finally(() => encoder.close()))];
  };
  const assertNear = (found: Float32Array, wanted: number[]): void => {
    assert.equal(found.length, wanted.length);
    found.forEach((value, i) =>
      assert.ok(Math.abs(value - wanted[i]) < 1e-6, `${i}: ${value}, ${wanted[i]}`),
    );
  };

  it("has vectors of the module's length, and of length 1", async () => {
    assert.equal(inference.dimensions, 12);
    assertNear(await inference.encode(texts), await expected(true));
  });

  it('gives them as they come out of the module when they are not to be scaled', async () => {
    assertNear(await inference.encode(texts, { normalize: false }), await expected(false));
  });
});
