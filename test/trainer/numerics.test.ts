import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';

import { Random } from '../../base/random.js';
import type { Pooling } from '../../encoder/model-folder.js';
import { attentionTiles, batchesByWidth, cut, join, pack } from '../../trainer/packing.js';
import { PRESETS } from '../../trainer/presets.js';
import { attention, attentionBackward, attentionLayout } from '../../trainer/tensorflow/attention.js';
import {
  bertBackward,
  bertForward,
  poolBackward,
  poolForward,
  toDevice,
} from '../../trainer/tensorflow/bert.js';
import { openCompiler } from '../../trainer/tensorflow/compiler.js';
import { expand, expandBackward, expanderParameters } from '../../trainer/tensorflow/expander.js';
import {
  addAndNormalize,
  addAndNormalizeBackward,
  biasBackward,
  biasGelu,
  biasGeluBackward,
  embedAndNormalize,
  embedAndNormalizeBackward,
  Dropout,
  withBias,
} from '../../trainer/tensorflow/layers.js';
import { loadTensorFlow } from '../../trainer/tensorflow/load.js';
import { Ops, type Tensor } from '../../trainer/tensorflow/ops.js';
import { Gradients, Parameters, type Averaging } from '../../trainer/tensorflow/parameters.js';
import { fuseQkv, splitQkv } from '../../trainer/tensorflow/fused-qkv.js';
import { byCovariance, vicreg } from '../../trainer/tensorflow/vicreg.js';
import type { HostTensor } from '../../trainer/types.js';
import { tinyConfig, tinyWeights } from '../support/tiny-model.js';
import { assertClose, flat, golden, largest, snapshot, type Nested } from './numbers.js';
import { covarianceTerm, invarianceTerm, numericalGradient, varianceTerm } from './reference-vicreg.js';

let ops: Ops;
const tensor = (values: Nested): Tensor => ops.tf.tensor(values as number[][], undefined, 'float32');
const host = (values: Nested): HostTensor => {
  const shape: number[] = [];
  for (let at = values; Array.isArray(at); at = at[0]) shape.push(at.length);
  return { shape, data: Float32Array.from(flat(values)) };
};
const valuesOf = (of: Tensor): number[] => [...of.dataSync()];
const none = { lambda: 0, mu: 0, nu: 0, invariance: 'mse' } as const;

before(async () => {
  ops = new Ops(await loadTensorFlow());
});

describe('VICReg', () => {
  interface Case {
    name: string;
    z: number[][];
    other: number[][];
    terms: Record<'invariance' | 'variance' | 'covariance', number>;
    gradients: Record<'invariance' | 'variance' | 'covariance', [Nested, Nested]>;
    loss: number;
    lossGradients: [Nested, Nested];
    squared: {
      invariance: number;
      gradients: [Nested, Nested];
      loss: number;
      lossGradients: [Nested, Nested];
    };
  }
  const { cases } = golden<{ cases: Case[] }>('vicreg.json');
  // The variance of both views is halved in the loss, so a weight of 1 gives the paper's (v + v') / 2.
  const alone = {
    invariance: { ...none, lambda: 1 },
    variance: { ...none, mu: 1 },
    covariance: { ...none, nu: 1 },
  };
  const kinds = ['invariance', 'variance', 'covariance'] as const;

  for (const { name, z, other, ...expected } of cases) {
    const both = (): [Tensor, Tensor] => [tensor(z), tensor(other)];

    it(`has PyTorch's terms and gradients, each alone: ${name}`, () => {
      for (const kind of kinds) {
        const { terms, gradients } = vicreg(ops, both(), alone[kind]);
        assertClose([terms[kind]], [expected.terms[kind]], kind);
        gradients.forEach((gradient, side) =>
          assertClose(
            valuesOf(gradient),
            flat(expected.gradients[kind][side]),
            `gradient of ${kind}, view ${side}`,
          ),
        );
      }
    });

    it(`has PyTorch's loss with the weights of the paper, and of the published sketch: ${name}`, () => {
      for (const [preset, { loss, lossGradients }] of [
        ['vicreg', expected],
        ['sketch-2022', expected.squared],
      ] as const) {
        const { terms, gradients } = vicreg(ops, both(), PRESETS[preset]);
        assertClose([terms.invariance + terms.variance + terms.covariance], [loss], preset);
        gradients.forEach((gradient, side) =>
          assertClose(valuesOf(gradient), flat(lossGradients[side]), `gradient, view ${side}, ${preset}`),
        );
      }
    });

    it(`has the gradients of finite differences: ${name}`, () => {
      const term = {
        invariance: invarianceTerm,
        variance: (a: number[][], b: number[][]) => (varianceTerm(a) + varianceTerm(b)) / 2,
        covariance: (a: number[][], b: number[][]) => covarianceTerm(a) + covarianceTerm(b),
      };
      for (const kind of kinds) {
        const { terms, gradients } = vicreg(ops, both(), alone[kind]);
        assertClose([terms[kind]], [term[kind](z, other)], kind);
        const [first, second] = gradients.map(valuesOf);
        assertClose(
          first,
          numericalGradient((x) => term[kind](x, other), z),
          `${kind}, first view`,
          1e-4,
        );
        assertClose(
          second,
          numericalGradient((x) => term[kind](z, x), other),
          `${kind}, second view`,
          1e-4,
        );
      }
    });
  }

  it('is the same with some columns of the covariance matrix at a time', () => {
    const random = new Random(8);
    const [n, D] = [9, 7];
    const values = Array.from({ length: n }, () => Array.from({ length: D }, () => random.normal()));
    const covariance = values[0].map((_, i) =>
      values[0].map((__, j) => values.reduce((sum, row) => sum + row[i] * row[j], 0) / (n - 1)),
    );
    const product = values.map((row) =>
      row.map((_, j) => row.reduce((sum, value, i) => sum + value * covariance[i][j], 0)),
    );
    for (const part of [1, 3 * D, 100 * D]) {
      const found = byCovariance(ops, tensor(values), part);
      const squares = covariance.flat().reduce((sum, value) => sum + value ** 2, 0);
      assertClose(valuesOf(found.squares), [squares], `squares, ${part}`, 2e-6);
      assertClose(valuesOf(found.product), product.flat(), `product, ${part}`, 2e-6);
    }
  });

  it('covers fewer rows than dimensions, and more', () => {
    assert.ok(cases.some(({ z }) => z.length < z[0].length));
    assert.ok(cases.some(({ z }) => z.length > z[0].length));
  });
});

describe('matrix products', () => {
  it('in bf16 keep 8 bits of what they multiply, in either layout', () => {
    const random = new Random(2);
    const matrix = (n: number, d: number): Tensor =>
      ops.tf.tensor2d(
        Float32Array.from({ length: n * d }, () => random.normal()),
        [n, d],
      );
    const half = new Ops(ops.tf, 'bf16');
    for (const [a, b, transposeA, transposeB] of [
      [matrix(5, 40), matrix(40, 7), false, false],
      [matrix(40, 5), matrix(40, 7), true, false],
      [matrix(5, 40), matrix(7, 40), false, true],
    ] as const) {
      const [found, exact] = [half, ops].map((with_) => valuesOf(with_.matMul(a, b, transposeA, transposeB)));
      assertClose(found, exact, 'product', 2e-2);
      assert.notDeepEqual(found, exact);
    }
  });
});

describe('expander', () => {
  interface Case {
    bias: boolean;
    h: Nested;
    parameters: Record<string, Nested>;
    upstream: Nested;
    z: Nested;
    gradients: Record<string, Nested>;
  }
  const { widths, cases } = golden<{ widths: number[]; cases: Case[] }>('expander.json');
  for (const { bias, h, parameters, upstream, z, gradients } of cases)
    it(`has PyTorch's embeddings and gradients, ${bias ? 'with' : 'without'} a bias in the last layer`, () => {
      const shape = { name: 'expander', input: host(h).shape[1], widths, bias };
      const weights = (name: string): Tensor => tensor(parameters[name]);
      const found = new Gradients(ops);
      const forward = expand(ops, shape, weights, tensor(h));
      assertClose(valuesOf(forward.z), flat(z), 'z');
      const dh = expandBackward(ops, shape, weights, forward.saved, tensor(upstream), found);
      const { h: expectedH, ...expected } = gradients;
      assertClose(valuesOf(dh), flat(expectedH), 'h');
      assert.deepEqual([...found.whole.keys()].sort(), Object.keys(expected).sort());
      for (const [name, values] of Object.entries(expected))
        // Batch norm takes the biases in front of it out again: their gradient is 0 but for rounding.
        assertClose(
          valuesOf(found.whole.get(name)!),
          flat(values),
          name,
          2e-5,
          largest(flat(Object.values(expected))),
        );
    });
});

describe('AdamW', () => {
  const expected = golden<{
    learningRate: number;
    weightDecay: number;
    clip: number;
    start: Record<string, Nested>;
    steps: { gradients: Record<string, Nested>; norm: number; parameters: Record<string, Nested> }[];
  }>('adamw.json');

  const start = (): Parameters => {
    const parameters = new Parameters(ops);
    for (const [name, values] of Object.entries(expected.start))
      parameters.add(name, host(values), { decays: name === 'matrix' });
    return parameters;
  };
  const makeStep = (parameters: Parameters, step: number): number => {
    const gradients = new Gradients(ops);
    ops.tidy(() => {
      for (const [name, values] of Object.entries(expected.steps[step].gradients))
        gradients.add(name, tensor(values));
    });
    const norm = gradients.norm();
    const { learningRate, weightDecay, clip } = expected;
    parameters.update(gradients, { learningRate, weightDecay, clip: Math.min(1, clip / norm) });
    gradients.dispose();
    return norm;
  };

  it("makes PyTorch's steps, clipping by the norm of all gradients and weight decay included", () => {
    const parameters = start();
    expected.steps.forEach(({ norm, parameters: after }, step) => {
      assertClose([makeStep(parameters, step)], [norm], 'norm', 1e-6);
      for (const [name, values] of Object.entries(after))
        assertClose(
          parameters.weights().get(name)!.data,
          flat(values),
          `${name} after step ${step + 1}`,
          1e-6,
        );
    });
    parameters.dispose();
  });

  it('goes on from its state exactly', async () => {
    const unbroken = start();
    const broken = start();
    makeStep(unbroken, 0);
    makeStep(broken, 0);
    const resumed = start();
    await resumed.restore(snapshot(broken.state()));
    makeStep(unbroken, 1);
    makeStep(resumed, 1);
    assert.deepEqual(snapshot(resumed.state()), snapshot(unbroken.state()));
    for (const parameters of [unbroken, broken, resumed]) parameters.dispose();
  });

  it('gives a large tensor piece by piece, and takes it back', async () => {
    // More than a piece holds, and no multiple of that.
    const shape = [3, 1_500_001];
    const data = Float32Array.from({ length: 3 * 1_500_001 }, (_, i) => i);
    const before = new Parameters(ops);
    before.add('weight', { shape, data }, { decays: true });
    assert.equal([...before.state().get('weight')!.read()].length, 2);
    const state = snapshot(before.state());
    assert.deepEqual(state.get('weight'), { shape, data });
    const after = new Parameters(ops);
    after.add('weight', { shape, data: new Float32Array(data.length) }, { decays: true });
    await after.restore(state);
    assert.deepEqual(after.weights(), before.weights());
    before.dispose();
    after.dispose();
  });

  it('refuses a state that lacks a tensor, or has one of another shape', async () => {
    const parameters = start();
    const state = snapshot(parameters.state());
    const [name, { shape }] = [...state][0];
    const refused = async (changed: Map<string, HostTensor>, found: string): Promise<void> =>
      assert.rejects(parameters.restore(changed), {
        kind: 'corrupt',
        message: `checkpoint: ${name}: expected a tensor of shape [${shape.join(', ')}], found ${found}`,
      });
    await refused(new Map([...state].slice(1)), 'none');
    await refused(new Map([...state, [name, { shape: [1], data: new Float32Array(1) }]]), '[1]');
    parameters.dispose();
  });

  it('applies a decay too small for fp32 once it has added up', () => {
    const parameters = new Parameters(ops);
    parameters.add('weight', { shape: [1, 2], data: Float32Array.of(1, -1) }, { decays: true });
    const gradients = new Gradients(ops);
    gradients.add('weight', ops.tf.zeros([1, 2]));
    for (let step = 0; step < 1000; step++)
      parameters.update(gradients, { learningRate: 2e-5, weightDecay: 0.01 });
    const shrunk = (1 - 2e-5 * 0.01) ** 1000;
    assertClose(parameters.weights().get('weight')!.data, [shrunk, -shrunk], 'weight', 2e-5);
    parameters.dispose();
    gradients.dispose();
  });

  it("moves the rows of an embedding that have a gradient as PyTorch's SparseAdam does, and no others", () => {
    const { learningRate, weightDecay, start, steps } = golden<{
      learningRate: number;
      weightDecay: number;
      start: Nested;
      steps: { touched: number[]; rows: Nested; embedding: Nested }[];
    }>('sparse_adam.json');
    const parameters = new Parameters(ops);
    parameters.add('words', host(start), { decays: true, byRows: true });
    steps.forEach(({ touched, rows, embedding }, step) => {
      const gradients = new Gradients(ops);
      gradients.addRows('words', Int32Array.from(touched), tensor(rows));
      parameters.update(gradients, { learningRate, weightDecay });
      gradients.dispose();
      const found = parameters.weights().get('words')!.data;
      assertClose(found, flat(embedding), `step ${step + 1}`, 1e-6);
      const some = parameters.rows('words', ops.tf.tensor1d([3, 1], 'int32'));
      assert.deepEqual(valuesOf(some), [...found.subarray(9, 12), ...found.subarray(3, 6)]);
    });
    parameters.dispose();
  });

  it('makes the steps of gradients multiplied beforehand when it clips them, whole or by rows', () => {
    const random = new Random(3);
    const numbers = (scale: number): Float32Array =>
      Float32Array.from({ length: 12 }, () => scale * random.normal());
    const data = numbers(1);
    const [clipping, plain] = [new Parameters(ops), new Parameters(ops)];
    for (const parameters of [clipping, plain])
      for (const name of ['matrix', 'words', 'rows'])
        parameters.add(name, { shape: [4, 3], data }, { decays: true, byRows: name !== 'matrix' });
    // What was clipped before still weighs; one is far longer than those before it.
    // 0 is what is left of an infinite norm.
    for (const clip of [0.2, 0.5, 1, 0.3, 0.01, 1, 0, 1, 0.25]) {
      const all = numbers(1 / (clip || 1));
      const gradientsTimes = (factor: number): Gradients => {
        const gradients = new Gradients(ops);
        const times = (): Tensor =>
          ops.tf.tensor(
            all.map((value) => value * factor),
            [4, 3],
          );
        gradients.add('matrix', times());
        gradients.add('words', times());
        gradients.addRows('rows', Int32Array.of(2, 0), ops.firstRows(times(), 2));
        return gradients;
      };
      const [whole, multiplied] = [gradientsTimes(1), gradientsTimes(clip)];
      clipping.update(whole, { learningRate: 0.001, weightDecay: 0.01, clip });
      plain.update(multiplied, { learningRate: 0.001, weightDecay: 0.01 });
      for (const gradients of [whole, multiplied]) gradients.dispose();
      const expected = plain.weights();
      for (const [name, { data: found }] of clipping.weights())
        assertClose(found, expected.get(name)!.data, `${name}, ${clip}`, 1e-6);
    }
    const [m, v] = ['adam.m.matrix', 'adam.v.matrix'].map((name) => {
      const [found, expected] = [clipping, plain].map(
        (parameters) => snapshot(parameters.state()).get(name)!.data,
      );
      return expected.map((value, i) => value / found[i]);
    });
    const { data: counts } = snapshot(clipping.state()).get('adam.steps')!;
    assertClose(m, new Float32Array(12).fill(counts[2]), 'unit of m', 1e-4);
    assertClose(v, new Float32Array(12).fill(counts[3]), 'unit of v', 1e-4);
    for (const parameters of [clipping, plain]) parameters.dispose();
  });

  it('leaves parameters as they are for a clip of 0 in the first step, and goes on', () => {
    const parameters = new Parameters(ops);
    const data = Float32Array.of(1, -2);
    parameters.add('weight', { shape: [2], data }, { decays: false });
    const gradients = new Gradients(ops);
    gradients.add('weight', ops.tf.tensor1d([3, -4]));
    parameters.update(gradients, { learningRate: 0.1, weightDecay: 0, clip: 0 });
    assert.deepEqual(parameters.weights().get('weight')!.data, data);
    parameters.update(gradients, { learningRate: 0.1, weightDecay: 0, clip: 0.2 });
    const [first, second] = parameters.weights().get('weight')!.data;
    assert.ok(first < 1 && first > 0.8 && second > -2 && second < -1.8, `${first}, ${second}`);
    parameters.dispose();
    gradients.dispose();
  });

  it('gives all rows of an embedding the same step as their matrix would get', () => {
    const rows = new Parameters(ops);
    const whole = new Parameters(ops);
    const data = Float32Array.from({ length: 6 }, (_, i) => i / 10);
    rows.add('words', { shape: [2, 3], data }, { decays: true, rate: 3, byRows: true });
    whole.add('words', { shape: [2, 3], data }, { decays: true, rate: 3 });
    for (const scale of [1, -2, 0.1]) {
      const gradient = [
        [1, -1, 0.5],
        [2, 0, -3],
      ].map((row) => row.map((value) => scale * value));
      const sparse = new Gradients(ops);
      sparse.addRows('words', Int32Array.of(1, 0), tensor([gradient[1], gradient[0]]));
      const dense = new Gradients(ops);
      dense.add('words', tensor(gradient));
      assertClose([sparse.norm()], [dense.norm()], 'norm', 1e-6);
      rows.update(sparse, { learningRate: 0.01, weightDecay: 0.01 });
      whole.update(dense, { learningRate: 0.01, weightDecay: 0.01 });
      for (const gradients of [sparse, dense]) gradients.dispose();
    }
    const expected = snapshot(whole.state());
    for (const [name, { data: found }] of snapshot(rows.state()))
      assertClose(found, expected.get(name)!.data, name, 1e-6);
    for (const parameters of [rows, whole]) parameters.dispose();
  });
});

describe('an average of weights', () => {
  const learned = { decays: false, learned: true };
  const words = Float32Array.of(1, 2, 3, 4, 5, 6);
  const open = (averaging: Averaging): Parameters => {
    const parameters = new Parameters(ops, averaging);
    parameters.add('words', { shape: [3, 2], data: words }, { ...learned, byRows: true });
    parameters.add('head', { shape: [2], data: Float32Array.of(0.5, -0.5) }, { decays: false });
    return parameters;
  };
  /** @returns the values after each of some steps, by name */
  const makeSteps = (parameters: Parameters, steps: number): Map<string, number[]>[] =>
    Array.from({ length: steps }, (_, step) => {
      const gradients = new Gradients(ops);
      // Rows that the step does not name are averaged as well.
      gradients.addRows('words', Int32Array.of(step % 2), tensor([[1, -step]]));
      gradients.add('head', tensor([step, 1]));
      parameters.update(gradients, { learningRate: 0.1, weightDecay: 0 });
      gradients.dispose();
      return new Map(['words', 'head'].map((name) => [name, valuesOf(parameters.value(name))]));
    });

  it('follows the values, early on faster, and is what is settled', () => {
    const parameters = open({ averageDecay: 0.3, averageFrom: 0, baseShare: 0 });
    const expected = new Map<string, number[]>([
      ['words', [...words]],
      ['head', [0.5, -0.5]],
    ]);
    makeSteps(parameters, 5).forEach((values, step) => {
      // t = 1: 2/11, t = 2: 3/12, t = 3: 4/13 and more than 0.3.
      const decay = [2 / 11, 3 / 12, 0.3, 0.3, 0.3][step];
      for (const [name, average] of expected)
        expected.set(
          name,
          average.map((value, i) => decay * value + (1 - decay) * values.get(name)![i]),
        );
    });
    for (const [name, values] of expected) {
      assertClose(valuesOf(parameters.average(name)), values, name, 1e-6);
      assertClose(parameters.weights().get(name)!.data, values, name, 1e-6);
    }
    const at = ops.tf.tensor1d([2, 0], 'int32');
    const [, , , , a, b] = expected.get('words')!;
    assertClose(
      valuesOf(parameters.settledRows('words', at)),
      [a, b, ...expected.get('words')!.slice(0, 2)],
      'rows',
      1e-6,
    );
    parameters.dispose();
  });

  it('is of all steps from one on alike, and until then the values themselves', () => {
    const parameters = open({ averageDecay: 0, averageFrom: 3, baseShare: 0 });
    const at = ops.tf.tensor1d([0], 'int32');
    const reached: Map<string, number[]>[] = [];
    for (let step = 1; step <= 5; step++) {
      reached.push(...makeSteps(parameters, 1));
      const from = Math.min(step, 3) - 1;
      for (const name of ['words', 'head']) {
        const counted = reached.slice(from).map((values) => values.get(name)!);
        const mean = counted[0].map(
          (_, i) => counted.reduce((sum, each) => sum + each[i], 0) / counted.length,
        );
        assertClose(parameters.weights().get(name)!.data, mean, `${name} behind step ${step}`, 1e-6);
        if (name === 'words')
          assertClose(valuesOf(parameters.settledRows('words', at)), mean.slice(0, 2), 'rows', 1e-6);
      }
    }
    parameters.dispose();
  });

  it('has the share of what was learned before that is asked for; a head, which began at random, has none', () => {
    const parameters = open({ averageDecay: 0, averageFrom: 0, baseShare: 0.25 });
    const after = makeSteps(parameters, 3).at(-1)!;
    const mixed = after.get('words')!.map((value, i) => 0.75 * value + 0.25 * words[i]);
    assertClose(parameters.weights().get('words')!.data, mixed, 'words', 1e-6);
    assertClose(
      valuesOf(parameters.settledRows('words', ops.tf.tensor1d([1], 'int32'))),
      mixed.slice(2, 4),
      'rows',
      1e-6,
    );
    assert.deepEqual([...parameters.weights().get('head')!.data], after.get('head'));
    assert.deepEqual(valuesOf(parameters.value('words')), after.get('words'));
    parameters.dispose();
  });

  for (const averaging of [
    { averageDecay: 0.9, averageFrom: 0, baseShare: 0.5 },
    { averageDecay: 0, averageFrom: 2, baseShare: 0 },
    { averageDecay: 0, averageFrom: 4, baseShare: 0 },
  ])
    it(`goes on from a state exactly, ${JSON.stringify(averaging)}`, async () => {
      const [unbroken, broken, resumed] = [open(averaging), open(averaging), open(averaging)];
      makeSteps(unbroken, 2);
      makeSteps(broken, 2);
      await resumed.restore(snapshot(broken.state()));
      for (const parameters of [unbroken, resumed]) makeSteps(parameters, 2);
      assert.deepEqual(snapshot(resumed.state()), snapshot(unbroken.state()));
      assert.deepEqual(resumed.weights(), unbroken.weights());
      for (const parameters of [unbroken, broken, resumed]) parameters.dispose();
    });

  it('leaves no tensor behind', () => {
    const before = ops.tf.memory().numTensors;
    const parameters = open({ averageDecay: 0.9, averageFrom: 0, baseShare: 0.5 });
    ops.tidy(() => makeSteps(parameters, 3));
    parameters.weights();
    parameters.dispose();
    assert.equal(ops.tf.memory().numTensors, before);
  });
});

for (const compiled of [false, true])
  describe(`BERT on packed rows, ${compiled ? 'compiled' : 'kernel by kernel'}`, () => {
    let ops: Ops;
    before(async () => {
      const tf = await loadTensorFlow();
      const compiler = compiled ? openCompiler(tf, 'fp32') : undefined;
      assert.equal(compiler !== undefined, compiled, 'a compiler');
      ops = new Ops(tf, 'fp32', compiler);
    });
    const tensor = (values: Nested): Tensor => ops.tf.tensor(values as number[][], undefined, 'float32');
    type Summary = number[] | { norm: number; at: number[]; values: number[] };
    const expected = golden<
      { sequences: number[][]; upstream: Nested } & Record<
        Pooling,
        { pooled: Nested; gradients: Record<string, Summary> }
      >
    >('bert.json');
    const config = tinyConfig();
    const still = { ...config, hiddenDropout: 0, attentionDropout: 0 };
    const fused = fuseQkv(tinyWeights(config), config.layers);
    const sequences = expected.sequences.map((ids) => Int32Array.from(ids));
    const held = new Map<string, Tensor>();
    const weights = (name: string): Tensor => {
      const { shape, data } = fused.get(name)!;
      if (!held.has(name)) held.set(name, ops.tf.keep(ops.tf.tensor(data, shape)));
      return held.get(name)!;
    };
    const embed = (of: Int32Array[], pooling: Pooling): number[] => {
      const batch = toDevice(ops, pack(of), still);
      const { hidden } = bertForward(ops, still, weights, batch, new Dropout(ops, 0));
      return valuesOf(poolForward(ops, hidden, batch, pooling));
    };

    for (const pooling of ['mean', 'cls'] as const) {
      it(`has the vectors of PyTorch's BertModel, ${pooling} pooling`, () => {
        assertClose(embed(sequences, pooling), flat(expected[pooling].pooled), 'pooled');
      });

      it(`has the gradient of every parameter as PyTorch's BertModel, ${pooling} pooling`, () => {
        const batch = toDevice(ops, pack(sequences), still);
        const { saved } = bertForward(ops, still, weights, batch, new Dropout(ops, 0));
        const gradients = new Gradients(ops);
        const dHidden = poolBackward(ops, tensor(expected.upstream), batch, pooling);
        bertBackward(ops, still, weights, batch, saved, dHidden, gradients);
        const found = splitQkv(hostGradients(gradients, fused), config);
        assert.deepEqual([...found.keys()].sort(), Object.keys(expected[pooling].gradients).sort());
        const all = largest(Object.values(expected[pooling].gradients).filter(Array.isArray).flat());
        for (const [name, summary] of Object.entries(expected[pooling].gradients)) {
          const { data } = found.get(name)!;
          // A bias of the keys moves every score of a row alike: its gradient is 0 but for rounding.
          if (Array.isArray(summary)) assertClose(data, summary, name, 2e-5, all);
          else {
            assertClose([Math.hypot(...data)], [summary.norm], `norm of ${name}`, 1e-4);
            assertClose(
              summary.at.map((at) => data[at]),
              summary.values,
              name,
              1e-4,
            );
          }
        }
      });
    }

    it('gives a sequence the same vector whatever is beside it', () => {
      const together = embed(sequences, 'mean');
      const alone = sequences.flatMap((sequence) => embed([sequence], 'mean'));
      assertClose(together, alone, 'vectors', 2e-6);
    });

    it('refuses a token that it has no embedding for', () => {
      assert.throws(() => toDevice(ops, pack([Int32Array.of(2, config.vocabSize, 3)]), config), RangeError);
      const long = new Int32Array(config.maxPositions + 1);
      assert.throws(() => toDevice(ops, pack([long]), config), RangeError);
    });

    it('propagates through dropout as finite differences do, the same masks dropped in every pass', () => {
      const random = new Random(3);
      const upstream = Float32Array.from({ length: 7 * 32 }, () => random.normal());
      const name = 'embeddings.LayerNorm.weight';
      const direction = Float32Array.from({ length: 32 }, () => random.normal());
      const moved =
        (by: number) =>
        (wanted: string): Tensor =>
          wanted === name
            ? ops.tf.add(weights(name), ops.tf.mul(ops.tf.tensor1d(direction), by))
            : weights(wanted);
      const loss = (by: number): number => {
        const batch = toDevice(ops, pack(sequences), config);
        const { hidden } = bertForward(ops, config, moved(by), batch, new Dropout(ops, 11));
        const pooled = valuesOf(poolForward(ops, hidden, batch, 'mean'));
        return pooled.reduce((sum, value, i) => sum + value * upstream[i], 0);
      };
      assert.equal(loss(0), loss(0));

      const batch = toDevice(ops, pack(sequences), config);
      const { saved } = bertForward(ops, config, weights, batch, new Dropout(ops, 11));
      const gradients = new Gradients(ops);
      const dPooled = ops.tf.tensor2d(upstream, [7, 32]);
      bertBackward(ops, config, weights, batch, saved, poolBackward(ops, dPooled, batch, 'mean'), gradients);
      const slope = valuesOf(gradients.whole.get(name)!).reduce(
        (sum, value, i) => sum + value * direction[i],
        0,
      );
      const step = 2e-3;
      assertClose([slope], [(loss(step) - loss(-step)) / (2 * step)], 'slope', 5e-3);
      // And the masks do drop: without them the loss is another.
      assert.notEqual(
        loss(0),
        embed(sequences, 'mean').reduce((sum, value, i) => sum + value * upstream[i], 0),
      );
    });
  });

describe('what is compiled', () => {
  const [n, d] = [48, 40];
  type Normal = (...shape: number[]) => Tensor;
  const normalNumbers = (): Normal => {
    const random = new Random(12);
    return (...shape) =>
      ops.tf.tensor(
        Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => random.normal()),
        shape,
      );
  };
  const kernels: Record<string, (ops: Ops, normal: Normal, rate: number) => Tensor[]> = {
    'add-normalize': (ops, normal, rate) => {
      const drawn = new Dropout(ops, 3).draw([n, d], rate);
      const parameters = { scale: normal(d), shift: normal(d), eps: 1e-12 };
      const made = addAndNormalize(ops, normal(n, d), ops.narrow(normal(n, d)), normal(d), drawn, parameters);
      const dy = [normal(n, d), ops.narrow(normal(n, d))] as const;
      const { dProduct, ...others } = addAndNormalizeBackward(ops, dy, made.saved, parameters.scale);
      return [made.y, ops.widen(made.narrow), ops.widen(dProduct), ...Object.values(others)];
    },
    'embed-normalize': (ops, normal, rate) => {
      const drawn = new Dropout(ops, 3).draw([n, d], rate);
      const parameters = { scale: normal(d), shift: normal(d), eps: 1e-12 };
      const made = embedAndNormalize(ops, normal(n, d), normal(n, d), normal(d), drawn, parameters);
      const dy = [normal(n, d), ops.narrow(normal(n, d))] as const;
      const back = embedAndNormalizeBackward(ops, dy, made.saved, parameters.scale);
      return [made.y, ops.widen(made.narrow), ...Object.values(back)];
    },
    'bias-gelu': (ops, normal) => {
      const [dy, product, bias] = [ops.narrow(normal(n, d)), ops.narrow(normal(n, d)), normal(d)];
      const { dProduct, dBias } = biasGeluBackward(ops, dy, product, bias);
      return [ops.widen(biasGelu(ops, product, bias)), ops.widen(dProduct), dBias];
    },
    bias: (ops, normal) => {
      const product = ops.narrow(normal(n, d));
      return [ops.widen(withBias(ops, product, normal(d))), biasBackward(ops, product)];
    },
    attention: (ops, normal, rate) => {
      // Two to a tile: as many tiles as are compiled for.
      const lengths = Array.from({ length: 40 }, (_, i) => 12 + (i % 5));
      const { offsets } = pack(lengths.map((length) => new Int32Array(length)));
      const layout = attentionLayout(ops, offsets, 2);
      const tokens = offsets[lengths.length];
      const qkv = ops.narrow(normal(tokens, 3 * 8));
      const { y, saved } = attention(ops, qkv, layout, new Dropout(ops, 3), rate);
      const dQkv = attentionBackward(ops, ops.narrow(normal(tokens, 8)), saved, layout);
      return [ops.widen(y), ops.widen(dQkv)];
    },
    expander: (ops, normal) => {
      const shape = { name: 'expander', input: d, widths: [24, 24, 16], bias: true };
      const values = new Map(
        [...expanderParameters(shape, new Random(3))].map(([name, { data, shape }]) => [
          name,
          ops.tf.tensor(data, shape),
        ]),
      );
      const weights = (name: string): Tensor => values.get(name)!;
      const gradients = new Gradients(ops);
      const { z, saved } = expand(ops, shape, weights, normal(n, d));
      const kept = ops.tf.clone(z);
      const dh = expandBackward(ops, shape, weights, saved, normal(n, 16), gradients);
      const all = [kept, dh, ...[...gradients.whole.values()].map((gradient) => ops.tf.clone(gradient))];
      gradients.dispose();
      return all;
    },
    vicreg: (ops, normal) => {
      // On both sides of a std of 1.
      const z = [0.5, 3].map((factor) => ops.mul(normal(n, d), factor)) as [Tensor, Tensor];
      const { terms, gradients } = vicreg(ops, z, { lambda: 25, mu: 25, nu: 1, invariance: 'mse' });
      return [ops.tf.tensor1d(Object.values(terms)), ...gradients];
    },
  };
  const drops = new Set(['add-normalize', 'embed-normalize', 'attention']);
  for (const precision of ['fp32', 'bf16'] as const)
    for (const [name, kernel] of Object.entries(kernels))
      for (const rate of drops.has(name) ? [0, 0.3] : [0])
        it(`gives what its kernels give one by one: ${name}, ${precision}, dropout ${rate}`, () => {
          const before = ops.tf.memory().numTensors;
          ops.tidy(() => {
            const alone = kernel(new Ops(ops.tf, precision), normalNumbers(), rate);
            const compiler = openCompiler(ops.tf, precision);
            const compiled = kernel(new Ops(ops.tf, precision, compiler), normalNumbers(), rate);
            compiled.forEach((found, i) =>
              // A number may be rounded up in one and down in the other.
              assertClose(valuesOf(found), valuesOf(alone[i]), `${i}`, precision === 'fp32' ? 1e-5 : 2 ** -7),
            );
          });
          assert.equal(ops.tf.memory().numTensors, before);
        });
});

describe('dropout', () => {
  const masks = (seed: number, shape: number[], rate: number, sites: number): number[][] => {
    const dropout = new Dropout(ops, seed);
    return Array.from({ length: sites }, () => valuesOf(dropout.mask(shape, rate)!));
  };

  it('drops a share of the rate, and keeps the mean', () => {
    // A tenth is no whole number of 256ths: 25 in two of five masks, 26 in the others.
    const all = masks(5, [80, 100], 0.1, 100);
    const dropped = all.map((mask) => mask.filter((value) => value === 0).length / mask.length);
    const ofAll = dropped.reduce((sum, share) => sum + share, 0) / all.length;
    // Three standard deviations of a share of 0.1 in 800,000, and of two levels in 100.
    assert.ok(Math.abs(ofAll - 0.1) < 0.0016, `${ofAll}`);
    const values = all.flat();
    assert.deepEqual([...new Set(values.map((value) => value.toFixed(5)))].sort(), ['0.00000', '1.11111']);
    assertClose([values.reduce((sum, value) => sum + value, 0) / values.length], [1], 'mean', 2e-3);
    const [exact] = masks(5, [400, 500], 0.25, 1);
    const quarter = exact.filter((value) => value === 0).length / exact.length;
    assert.ok(Math.abs(quarter - 0.25) < 0.003, `${quarter}`);
  });

  it('is a function of the seed and the place: the same again, another elsewhere', () => {
    const [first, second] = masks(5, [20, 30], 0.5, 2);
    assert.deepEqual(masks(5, [20, 30], 0.5, 2), [first, second]);
    const [other] = masks(6, [20, 30], 0.5, 1);
    for (const [a, b] of [
      [first, second],
      [first, other],
    ]) {
      const alike = a.filter((value, i) => value === b[i]).length / 600;
      assert.ok(Math.abs(alike - 0.5) < 0.07, `${alike}`);
    }
  });

  it('makes no mask at a rate of 0, and goes on to the next place', () => {
    const dropout = new Dropout(ops, 5);
    assert.equal(dropout.mask([4], 0), undefined);
    assert.deepEqual(valuesOf(dropout.mask([8], 0.5)!), masks(5, [8], 0.5, 2)[1]);
  });
});

describe('attention in tiles', () => {
  it('is what one sequence at a time gives, forward and backward', () => {
    const random = new Random(5);
    const lengths = [3, 9, 4, 30, 9, 12, 70, 1, 40];
    const d = 8;
    const total = lengths.reduce((sum, length) => sum + length, 0);
    const normal = (columns: number): Tensor =>
      ops.tf.tensor2d(
        Float32Array.from({ length: total * columns }, () => random.normal()),
        [total, columns],
      );
    const [qkv, dy] = [normal(3 * d), normal(d)];
    const run = (rows: Tensor, dRows: Tensor, of: number[]): [number[], number[]] => {
      const layout = attentionLayout(ops, pack(of.map((length) => new Int32Array(length))).offsets, 2);
      const { y, saved } = attention(ops, rows, layout, new Dropout(ops, 1), 0);
      return [valuesOf(y), valuesOf(attentionBackward(ops, dRows, saved, layout))];
    };
    const [y, gradient] = run(qkv, dy, lengths);
    let start = 0;
    const apart = lengths.map((length) => {
      const part = run(
        ops.tf.slice(qkv as never, [start, 0], [length, 3 * d]),
        ops.tf.slice(dy as never, [start, 0], [length, d]),
        [length],
      );
      start += length;
      return part;
    });
    assertClose(
      y,
      apart.flatMap(([part]) => part),
      'y',
      2e-6,
    );
    assertClose(
      gradient,
      apart.flatMap(([, part]) => part),
      'gradient',
      2e-6,
    );
  });
});

describe('packing', () => {
  it('joins two batches as if they had been packed together', () => {
    const [a, b] = [[Int32Array.of(1, 2, 3), Int32Array.of(4)], [Int32Array.of(5, 6)]];
    assert.deepEqual(join(pack(a), pack(b)), pack([...a, ...b]));
  });

  it('lays each sequence into one tile, beside others where there is room', () => {
    const tilesOf = (lengths: number[]): unknown =>
      attentionTiles(pack(lengths.map((length) => new Int32Array(length))).offsets).map(
        ({ width, tiles }) => [width, tiles],
      );
    assert.deepEqual(tilesOf([3]), [[32, [[0]]]]);
    assert.deepEqual(tilesOf([32, 33, 64, 65]), [
      [128, [[3, 1]]],
      [64, [[2]]],
      [32, [[0]]],
    ]);
    // The longest first: 14 beside 50, 30 alone, 12 beside 20.
    assert.deepEqual(tilesOf([12, 20, 50, 30, 14]), [
      [64, [[2, 4]]],
      [32, [[3], [1, 0]]],
    ]);
  });

  it('groups sequences whose tiles have one width into batches of nearly the same size, none beyond a budget', () => {
    const random = new Random(1);
    const lengths = Array.from({ length: 500 }, () => 3 + random.below(60));
    const batches = batchesByWidth(lengths, 512);
    assert.deepEqual(
      batches.flat().sort((a, b) => a - b),
      lengths.map((_, i) => i),
    );
    const isWide = batches.map((batch) => batch.map((i) => lengths[i] > 32));
    assert.ok(isWide.every((alike) => new Set(alike).size === 1));
    for (const wide of [true, false]) {
      const sizes = batches
        .filter((_, b) => isWide[b][0] === wide)
        .map((batch) => batch.reduce((sum, i) => sum + lengths[i], 0));
      assert.ok(Math.max(...sizes) <= 512 && Math.max(...sizes) - Math.min(...sizes) < 128, sizes.join(' '));
    }
    // Each longer than what there should be.
    assert.deepEqual(batchesByWidth([100, 5, 120], 50), [[0], [2], [1]]);
    assert.deepEqual(batchesByWidth([], 50), []);
  });

  it('cuts a batch into parts of so many tokens, and no sequence in two', () => {
    const sequences = [3, 2, 4, 9, 1, 1].map((length, i) => new Int32Array(length).fill(i));
    const lengths = (tokens: number): number[][] =>
      cut(pack(sequences), tokens).map(({ offsets }) => [...offsets.subarray(1)]);
    assert.deepEqual(lengths(5), [[3, 5], [4], [9], [1, 2]]);
    assert.deepEqual(lengths(6), [[3, 5], [4], [9], [1, 2]]);
    assert.deepEqual(lengths(1000), [[3, 5, 9, 18, 19, 20]]);
    assert.deepEqual(join(...cut(pack(sequences), 5)), pack(sequences));
  });
});

/** Every gradient whole, on the JavaScript side. */
function hostGradients(
  { whole, rows }: Gradients,
  parameters: Map<string, HostTensor>,
): Map<string, HostTensor> {
  const found = new Map<string, HostTensor>();
  for (const [name, gradient] of whole)
    found.set(name, { shape: gradient.shape, data: gradient.dataSync<'float32'>() });
  for (const [name, { indices, rows: values }] of rows) {
    const { shape } = parameters.get(name)!;
    const data = new Float32Array(shape[0] * shape[1]);
    const numbers = values.dataSync<'float32'>();
    indices.forEach((index, i) =>
      data.set(numbers.subarray(i * shape[1], (i + 1) * shape[1]), index * shape[1]),
    );
    found.set(name, { shape, data });
  }
  return found;
}
