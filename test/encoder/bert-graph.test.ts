import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import type { BertConfig } from '../../encoder/bert.js';
import { bertGraph, type GraphPrecision } from '../../encoder/onnx/bert-graph.js';
import { openEncoderSession } from '../../encoder/session.js';
import type { Pooling } from '../../encoder/model-folder.js';
import type { Tensor } from '../../encoder/safetensors.js';
import { tinyConfig, tinyWeights } from '../support/tiny-model.js';
import { cosine, erf, meanOf, referenceBert } from './reference-bert.js';
import { largestDifference, vectorsFrom } from './session-vectors.js';

const SEQUENCES = [
  [2, 3],
  [2, 111, 96, 123, 5, 132, 3],
  [2, ...Array.from({ length: 30 }, (_, i) => 5 + ((i * 37) % 170)), 3],
].map((ids) => Int32Array.from(ids));

async function vectorsOf(
  config: BertConfig,
  weights: Map<string, Tensor>,
  precision: GraphPrecision,
  batches: Int32Array[][],
  pooling: Pooling = 'mean',
): Promise<Float32Array[]> {
  const graph = Buffer.concat(bertGraph(config, weights, precision));
  const d = config.hiddenSize;
  const session = await openEncoderSession(graph, {
    hiddenSize: d,
    pooling,
    dense: [],
    normalize: false,
    threads: 1,
  });
  return vectorsFrom(session, batches, d);
}

describe('the reference', () => {
  it('has the error function right (Abramowitz and Stegun, table 7.1)', () => {
    assert.ok(Math.abs(erf(0.5) - 0.5204998778) < 1e-10);
    assert.ok(Math.abs(erf(2) - 0.995322265) < 1e-9);
    assert.equal(erf(-1), -erf(1));
  });
});

describe('the fp32 graph', () => {
  for (const shape of [
    { layers: 2, hiddenSize: 32, heads: 4 },
    { layers: 1, hiddenSize: 24, heads: 1 },
    { layers: 3, hiddenSize: 16, heads: 8 },
  ])
    it(`computes BERT: ${JSON.stringify(shape)}`, async () => {
      const config = tinyConfig(shape);
      const weights = tinyWeights(config);
      const expected = SEQUENCES.map((ids) => referenceBert(config, weights, ids));
      const alone = SEQUENCES.map((ids) => [ids]);
      const mean = await vectorsOf(config, weights, 'fp32', alone);
      const cls = await vectorsOf(config, weights, 'fp32', alone, 'cls');
      for (const [i, states] of expected.entries()) {
        assert.ok(largestDifference(mean[i], meanOf(states)) < 1e-5);
        assert.ok(cosine(mean[i], meanOf(states)) > 0.99999);
        assert.ok(largestDifference(cls[i], states[0]) < 1e-5);
      }
    });

  it('gives a text the same vector whatever stands beside it in the batch', async () => {
    const config = tinyConfig();
    const weights = tinyWeights(config);
    const alone = await vectorsOf(
      config,
      weights,
      'fp32',
      SEQUENCES.map((ids) => [ids]),
    );
    const together = await vectorsOf(config, weights, 'fp32', [SEQUENCES]);
    for (const [i, vector] of together.entries()) assert.ok(largestDifference(vector, alone[i]) < 1e-5);
  });

  it('stays finite where attention scores are huge', async () => {
    const config = tinyConfig();
    const weights = tinyWeights(config);
    for (const [name, { data }] of weights)
      if (/query|key/.test(name)) for (let i = 0; i < data.length; i++) data[i] *= 1000;
    const [, , long] = await vectorsOf(config, weights, 'fp32', [SEQUENCES]);
    const expected = meanOf(referenceBert(config, weights, SEQUENCES[2]));
    assert.ok(cosine(long, expected) > 0.999);
  });
});

describe('the quantized graph', () => {
  it('stays near fp32: cosine above 0.99 on random weights', async (t) => {
    const config = tinyConfig();
    const weights = tinyWeights(config);
    const exact = await vectorsOf(config, weights, 'fp32', [SEQUENCES]);
    const quantized = await vectorsOf(config, weights, 'quantized', [SEQUENCES]);
    const cosines = quantized.map((vector, i) => cosine(vector, exact[i]));
    t.diagnostic(`cosine to fp32: ${cosines.map((value) => value.toFixed(5)).join(', ')}`);
    assert.ok(Math.min(...cosines) > 0.99);
    assert.ok(Math.max(...cosines) < 1 - 1e-7, 'weights were not quantized at all');
  });

  it('keeps a column or a row of zeros', async () => {
    const config = tinyConfig();
    const weights = tinyWeights(config);
    weights.get('embeddings.word_embeddings.weight')!.data.fill(0);
    weights.get('encoder.layer.0.intermediate.dense.weight')!.data.fill(0, 0, config.hiddenSize);
    const rows = await vectorsOf(config, weights, 'quantized', [SEQUENCES]);
    assert.ok(rows.every((row) => row.every(Number.isFinite)));
  });

  it('is a quarter of the size', () => {
    const config = tinyConfig({ layers: 4, hiddenSize: 128 });
    const weights = tinyWeights(config);
    const size = (precision: GraphPrecision): number =>
      bertGraph(config, weights, precision).reduce((sum, chunk) => sum + chunk.length, 0);
    assert.ok(size('quantized') < 0.3 * size('fp32'));
  });
});
