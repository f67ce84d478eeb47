import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { Random } from '../../base/random.js';
import type { BertConfig } from '../../encoder/bert.js';
import type { Pooling } from '../../encoder/model-folder.js';
import { packedGraph, type PackedPrecision } from '../../encoder/onnx/packed-graph.js';
import { openPackedSession } from '../../encoder/packed-session.js';
import type { Tensor } from '../../encoder/safetensors.js';
import { tinyConfig, tinyWeights } from '../support/tiny-model.js';
import { cosine, meanOf, referenceBert } from './reference-bert.js';
import { largestDifference, vectorsFrom } from './session-vectors.js';

const random = new Random(9);
const sequence = (length: number): Int32Array =>
  Int32Array.of(2, ...Array.from({ length: length - 2 }, () => 5 + random.below(170)), 3);
// Around the widths of a row, 8 and 16, and far from them.
const SEQUENCES = [2, 7, 8, 9, 16, 17, 33, 64].map(sequence);

interface Options {
  precision: PackedPrecision;
  pooling?: Pooling;
}

async function vectorsOf(
  config: BertConfig,
  weights: Map<string, Tensor>,
  batches: Int32Array[][],
  { precision, pooling = 'mean' }: Options,
): Promise<Float32Array[]> {
  const session = await openPackedSession(Buffer.concat(packedGraph(config, weights, precision)), {
    ...config,
    ...{ precision, pooling, dense: [], normalize: false, threads: 1 },
  });
  return vectorsFrom(session, batches, config.hiddenSize);
}

const alone = SEQUENCES.map((ids) => [ids]);
describe('the packed graph in fp32', () => {
  for (const shape of [
    { layers: 2, hiddenSize: 32, heads: 4 },
    { layers: 1, hiddenSize: 24, heads: 1 },
    { layers: 3, hiddenSize: 16, heads: 8 },
  ])
    it(`computes BERT, alone and in a batch of any lengths: ${JSON.stringify(shape)}`, async () => {
      const config = tinyConfig(shape);
      const weights = tinyWeights(config);
      const expected = SEQUENCES.map((ids) => referenceBert(config, weights, ids));
      for (const batches of [alone, [SEQUENCES], [[...SEQUENCES].reverse()]]) {
        const means = await vectorsOf(config, weights, batches, { precision: 'fp32' });
        const firsts = await vectorsOf(config, weights, batches, { precision: 'fp32', pooling: 'cls' });
        const order = batches.flat().map((ids) => SEQUENCES.indexOf(ids));
        order.forEach((of, i) => {
          assert.ok(largestDifference(means[i], meanOf(expected[of])) < 1e-5);
          assert.ok(largestDifference(firsts[i], expected[of][0]) < 1e-5);
        });
      }
    });

  it('stays finite where attention scores are huge', async () => {
    const config = tinyConfig();
    const weights = tinyWeights(config);
    for (const [name, { data }] of weights)
      if (/query|key/.test(name)) for (let i = 0; i < data.length; i++) data[i] *= 1000;
    const found = await vectorsOf(config, weights, [SEQUENCES], { precision: 'fp32' });
    SEQUENCES.forEach((ids, i) =>
      assert.ok(cosine(found[i], meanOf(referenceBert(config, weights, ids))) > 0.999),
    );
  });
});

describe('the packed graph in int8', () => {
  const config = tinyConfig({ layers: 2, hiddenSize: 48, heads: 4 });
  const weights = tinyWeights(config);

  it('is near to fp32, and not the same', async () => {
    const found = await vectorsOf(config, weights, alone, { precision: 'int8' });
    const cosines = SEQUENCES.map((ids, i) => cosine(found[i], meanOf(referenceBert(config, weights, ids))));
    assert.ok(Math.min(...cosines) > 0.99, cosines.join());
    assert.ok(Math.max(...cosines) < 1 - 1e-7, 'nothing was rounded');
  });

  it('gives a text the same bits alone and in any batch', async () => {
    const expected = await vectorsOf(config, weights, alone, { precision: 'int8' });
    for (let round = 0; round < 20; round++) {
      const order = random
        .shuffle(Array.from({ length: 3 * SEQUENCES.length }, (_, i) => i % SEQUENCES.length))
        .slice(0, 1 + random.below(24));
      const batch = order.map((i) => SEQUENCES[i]);
      const found = await vectorsOf(config, weights, [batch], { precision: 'int8' });
      order.forEach((i, at) => assert.deepEqual(found[at], expected[i]));
    }
  });

  it('has the scale of each token to itself: a text with huge activations leaves the others as they are', async () => {
    const loud = tinyWeights(config);
    const words = loud.get('embeddings.position_embeddings.weight')!;
    // Past the layer norm, by way of the residual of attention.
    words.data.subarray(40 * config.hiddenSize).fill(1e4);
    const [short] = await vectorsOf(config, loud, [[SEQUENCES[1]]], { precision: 'int8' });
    const [same] = await vectorsOf(config, loud, [[SEQUENCES[1], SEQUENCES[7]]], { precision: 'int8' });
    assert.deepEqual(same, short);
  });

  it('is finite where all activations of a token are zero', async () => {
    const still = tinyWeights(config);
    for (const [name, { data }] of still) if (/embeddings\.LayerNorm/.test(name)) data.fill(0);
    const [found] = await vectorsOf(config, still, [[SEQUENCES[2]]], { precision: 'int8' });
    assert.ok(cosine(found, meanOf(referenceBert(config, still, SEQUENCES[2]))) > 0.99);
  });
});
