import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';

import { Random } from '../../base/random.js';
import { normalizeRows } from '../../encoder/pooling.js';
import { pack } from '../../trainer/packing.js';
import { presetNamed } from '../../trainer/presets.js';
import type { Recipe } from '../../trainer/recipe.js';
import { loadTensorFlow } from '../../trainer/tensorflow/load.js';
import { Ops, type Tensor } from '../../trainer/tensorflow/ops.js';
import { Gradients } from '../../trainer/tensorflow/parameters.js';
import { openTrainable } from '../../trainer/tensorflow/trainable-bert.js';
import type { HostTensor, StepReport, TrainableEncoder, TrainingBatch } from '../../trainer/types.js';
import { tinyConfig, tinyWeights } from '../support/tiny-model.js';
import { assertClose, largest, snapshot } from './numbers.js';

const config = tinyConfig();
const random = new Random(3);
const TEXTS = 24;
const view = (): Int32Array[] =>
  Array.from({ length: TEXTS }, () =>
    Int32Array.from({ length: 2 + random.below(9) }, () => random.below(config.vocabSize)),
  );
const normal = (n: number): Float32Array => Float32Array.from({ length: n }, () => random.normal());
const units = (n: number): Float32Array => {
  const vectors = normal(n * config.hiddenSize);
  normalizeRows(vectors, config.hiddenSize);
  return vectors;
};
const batch: TrainingBatch = {
  views: [pack(view()), pack(view())],
  targets: units(2 * TEXTS),
  seed: 77,
};
const withNegatives: TrainingBatch = {
  ...batch,
  negatives: pack(view().slice(0, 10)),
  targets: units(2 * TEXTS + 10),
};

const open = (preset: string, changes: Partial<Recipe>): Promise<TrainableEncoder> =>
  openTrainable({
    config,
    weights: tinyWeights(config),
    pooling: 'mean',
    // Without clipping, AdamW's m after the first step is a tenth of the gradient.
    recipe: { ...presetNamed(preset), precision: 'fp32', expander: [48, 48, 40], clip: 0, ...changes },
  });
const stepOf = (model: TrainableEncoder, fed = batch): Promise<StepReport> =>
  model.step(fed, { learningRate: 1e-9 });
const gradientsAfter = async (
  model: TrainableEncoder,
  fed = batch,
): Promise<{ report: StepReport; m: Map<string, HostTensor> }> => {
  const report = await stepOf(model, fed);
  const all = snapshot(await model.state());
  return { report, m: new Map([...all].filter(([name]) => name.startsWith('adam.m.'))) };
};

before(() => loadTensorFlow());

describe('a batch in chunks', () => {
  const target = { targetEncoder: 'average', averageDecay: 0.9 } as const;
  for (const [name, preset, changes, fed] of [
    ['vicreg', 'vicreg', {}, batch],
    ['vicreg with a target encoder', 'vicreg', target, batch],
    ['distill', 'distill', {}, batch],
    ['infonce with hard negatives, near to targets', 'pairs', {}, withNegatives],
  ] as const)
    it(`has the loss and the gradients of the batch in one: ${name}`, async () => {
      const whole = await open(preset, { ...changes, dropout: 0 });
      const expected = await gradientsAfter(whole, fed);
      whole.dispose();
      // From single texts to two chunks, the first of which ends inside the second view.
      for (const chunk of [1, 60, 200]) {
        const chunked = await open(preset, { ...changes, dropout: 0, chunk });
        const found = await gradientsAfter(chunked, fed);
        chunked.dispose();
        assertClose([found.report.loss], [expected.report.loss], 'loss', 1e-6);
        assertClose([found.report.gradientNorm], [expected.report.gradientNorm], 'norm', 1e-6);
        assert.equal(found.report.tokens, expected.report.tokens);
        assert.deepEqual([...found.m.keys()], [...expected.m.keys()]);
        const all = largest([...expected.m.values()].flatMap(({ data }) => [...data]));
        for (const [parameter, { data }] of found.m)
          // A bias before batch norm (the last layer norm's, too), or of the keys, has a gradient of 0 but for rounding.
          assertClose(
            data,
            expected.m.get(parameter)!.data,
            `${parameter}, chunks of ${chunk}`,
            1e-5,
            /expander\.[01]\.bias|qkv\.bias|layer\.1\.output\.LayerNorm\.bias/.test(parameter)
              ? all
              : undefined,
          );
      }
    });

  for (const [name, changes] of [
    ['both passes drop the same', { chunk: 60 }],
    ['the target encoder stands still', target],
  ] as const)
    it(`has the gradients of finite differences with dropout on: ${name}`, async () => {
      const model = await open('vicreg', { ...changes, dropout: 0.2 });
      await assertSlope(model);
      model.dispose();
    });

  it('of a target encoder is its vectors, which follow slowly', async () => {
    const model = await open('vicreg', { ...target, dropout: 0 });
    const at = async (): Promise<Float32Array> => model.embed(batch.views[0]);
    const before = await at();
    for (let step = 0; step < 3; step++) await model.step(batch, { learningRate: 1e-2 });
    const [state, after] = [snapshot(await model.state()), await at()];
    const online = new Map(
      [...state].map(([of, tensor]) => [of, of.startsWith('average.') ? state.get(of.slice(8))! : tensor]),
    );
    await model.restore(online);
    const moved = await at();
    const distance = (a: Float32Array, b: Float32Array): number =>
      Math.hypot(...a.map((value, i) => value - b[i]));
    // What is measured is the average, and it lags behind.
    assert.ok(distance(before, after) > 0 && distance(after, moved) > 0);
    assert.ok(distance(before, after) < distance(before, moved));
    model.dispose();
  });

  async function assertSlope(model: TrainableEncoder): Promise<void> {
    const start = snapshot(await model.state());
    const { m, report } = await gradientsAfter(model);
    const name = 'encoder.layer.0.intermediate.dense.weight';
    const gradient = m.get(`adam.m.${name}`)!.data.map((value) => 10 * value);
    // Uphill, so that the slope stands out of the rounding of the loss, and at random.
    const direction = normal(gradient.length).map((value, i) => value + Math.sign(gradient[i]));
    const lossAt = async (by: number): Promise<number> => {
      const { shape, data } = start.get(name)!;
      const moved = data.map((value, i) => value + by * direction[i]);
      await model.restore(new Map([...start, [name, { shape, data: moved }]]));
      return (await stepOf(model)).loss;
    };
    assert.equal(await lossAt(0), report.loss);
    // The expander's ReLUs bend the loss: a longer step would go over some of the bends.
    const step = 3e-5;
    const slope = gradient.reduce((sum, value, i) => sum + value * direction[i], 0);
    assertClose([slope], [((await lossAt(step)) - (await lossAt(-step))) / (2 * step)], 'slope', 5e-3);
  }

  it('is refused for an objective that looks at hidden states', async () => {
    await assert.rejects(open('mlm', { chunk: 60 }), {
      kind: 'usage',
      message: /--set chunk: expected 0 for --objective mlm, found 60/,
    });
  });
});

describe('gradients of rows', () => {
  it('add up, chunk by chunk', async () => {
    const ops = new Ops(await loadTensorFlow());
    const rows = (...values: number[]): Tensor => ops.tf.tensor2d(values, [values.length / 2, 2]);
    const gradients = new Gradients(ops);
    gradients.addRows('words', Int32Array.of(7, 2), rows(1, 2, 3, 4));
    gradients.addRows('words', Int32Array.of(5, 7), rows(10, 20, 30, 40));
    const { indices, rows: sum } = gradients.rows.get('words')!;
    assert.deepEqual([...indices], [7, 2, 5]);
    assert.deepEqual([...sum.dataSync()], [31, 42, 3, 4, 10, 20]);
    gradients.dispose();
  });
});
