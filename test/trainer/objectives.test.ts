import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';

import { Random } from '../../base/random.js';
import { EDIT_KINDS } from '../../trainer/views/edits.js';
import { join, pack } from '../../trainer/packing.js';
import { PRESETS } from '../../trainer/presets.js';
import type { Recipe } from '../../trainer/recipe.js';
import { barlowTwins } from '../../trainer/tensorflow/barlow-twins.js';
import {
  bertBackward,
  bertForward,
  poolBackward,
  poolForward,
  toDevice,
} from '../../trainer/tensorflow/bert.js';
import { decoderParameters, reconstruct } from '../../trainer/tensorflow/decoder.js';
import { edits } from '../../trainer/tensorflow/edits.js';
import { expand, expandBackward } from '../../trainer/tensorflow/expander.js';
import { infoNce, type InfoNce } from '../../trainer/tensorflow/infonce.js';
import { Dropout } from '../../trainer/tensorflow/layers.js';
import { loadTensorFlow } from '../../trainer/tensorflow/load.js';
import type { ObjectiveWeights } from '../../trainer/tensorflow/objectives/objective.js';
import { openObjective } from '../../trainer/tensorflow/objectives/open.js';
import { replacedTokensLoss } from '../../trainer/tensorflow/objectives/replaced-tokens.js';
import { Ops, type Tensor } from '../../trainer/tensorflow/ops.js';
import { Gradients } from '../../trainer/tensorflow/parameters.js';
import { replacedTokens } from '../../trainer/tensorflow/replaced-tokens.js';
import { fuseQkv, splitQkv } from '../../trainer/tensorflow/fused-qkv.js';
import { vicreg } from '../../trainer/tensorflow/vicreg.js';
import type { HostTensor, TrainingBatch } from '../../trainer/types.js';
import { tinyConfig, tinyWeights } from '../support/tiny-model.js';
import { assertClose, flat, golden, largest, type Nested } from './numbers.js';
import { assertSlopes } from './slopes.js';

let ops: Ops;
before(async () => {
  ops = new Ops(await loadTensorFlow());
});

type Parameters = Record<string, Nested>;
type WeightsOf = (name: string) => Tensor;
/** Of a target encoder that is the encoder itself. */
const averaged = (weights: WeightsOf): ObjectiveWeights => Object.assign(weights, { average: weights });

const tensor = (values: Nested): Tensor => ops.tf.tensor(values as number[][], undefined, 'float32');
const valuesOf = (of: Tensor): number[] => [...of.dataSync()];
const weightsOf =
  (parameters: Parameters): WeightsOf =>
  (name) =>
    tensor(parameters[name]);
const normal = (shape: number[], random: Random): Tensor =>
  ops.tf.tensor(
    Float32Array.from({ length: shape.reduce((product, length) => product * length, 1) }, () =>
      random.normal(),
    ),
    shape,
  );

/** Each gradient by its name as in the golden numbers, and no other one. */
function assertGradients(found: ReadonlyMap<string, Tensor>, expected: Record<string, Nested>): void {
  assert.deepEqual([...found.keys()].sort(), Object.keys(expected).sort());
  for (const [name, values] of Object.entries(expected)) {
    // Batch norm takes the biases in front of it out again: their gradient is 0 but for rounding.
    const scale = largest(flat(Object.values(expected)));
    assertClose(valuesOf(found.get(name)!), flat(values), name, 2e-5, scale);
  }
}

describe('InfoNCE', () => {
  interface Case {
    temperature: number;
    symmetric: boolean;
    z: Nested;
    other: Nested;
    negatives?: Nested;
    loss: number;
    accuracy: number;
    gradients: Nested[];
  }
  const { cases } = golden<{ cases: Case[] }>('infonce.json');
  for (const { z, other, negatives, loss, accuracy, gradients, ...options } of cases) {
    const hard = (negatives as [] | undefined)?.length ?? 0;
    const name = `temperature ${options.temperature}, ${options.symmetric ? 'both directions' : 'one direction'}, ${(z as []).length} texts, ${hard} hard negatives`;
    const made = (): InfoNce =>
      infoNce(ops, [tensor(z), tensor(other)], options, negatives ? tensor(negatives) : undefined);

    it(`has PyTorch's loss and gradients: ${name}`, () => {
      const found = made();
      assertClose([found.loss, found.accuracy], [loss, accuracy], 'loss and accuracy');
      const all = [...found.gradients, found.ofNegatives].flatMap((gradient) => gradient ?? []);
      assert.equal(all.length, gradients.length);
      all.forEach((gradient, i) => assertClose(valuesOf(gradient), flat(gradients[i]), `gradient ${i}`));
    });

    it(`has the gradients of finite differences: ${name}`, () => {
      const { gradients, ofNegatives } = made();
      const slopes = new Map([
        ['z', gradients[0]],
        ['other', gradients[1]],
      ]);
      if (ofNegatives) slopes.set('negatives', ofNegatives);
      assertSlopes(
        ops,
        slopes,
        (moved) =>
          infoNce(
            ops,
            [moved(tensor(z), 'z'), moved(tensor(other), 'other')],
            options,
            negatives ? moved(tensor(negatives), 'negatives') : undefined,
          ).loss,
        { step: 1e-3 },
      );
    });
  }

  it('is the logarithm of the texts where all are alike, and counts none of them as found', () => {
    const alike = ops.tf.ones([5, 3]);
    const { loss, gradients } = infoNce(ops, [alike, alike], { temperature: 0.05, symmetric: true });
    assertClose([loss], [Math.log(5)], 'loss', 1e-6);
    assertClose(valuesOf(gradients[0]), new Array<number>(15).fill(0), 'gradient', 1e-5, 1);
  });
});

describe('Barlow Twins', () => {
  interface Case {
    lambda: number;
    z: Nested[];
    other: Nested[];
    terms: { invariance: number; redundancy: number };
    gradients: [Nested, Nested];
  }
  const { cases } = golden<{ cases: Case[] }>('barlow_twins.json');
  for (const { lambda, z, other, terms, gradients } of cases) {
    const name = `lambda ${lambda}, ${z.length} texts in ${(z[0] as []).length} dimensions`;
    const both = (): [Tensor, Tensor] => [tensor(z), tensor(other)];

    it(`has PyTorch's terms and gradients: ${name}`, () => {
      const found = barlowTwins(ops, both(), lambda);
      for (const term of ['invariance', 'redundancy'] as const)
        assertClose([found.terms[term]], [terms[term]], term);
      found.gradients.forEach((gradient, view) =>
        assertClose(valuesOf(gradient), flat(gradients[view]), `gradient, view ${view}`),
      );
    });

    it(`has the gradients of finite differences: ${name}`, () => {
      const [first, second] = barlowTwins(ops, both(), lambda).gradients;
      assertSlopes(
        ops,
        new Map([
          ['z', first],
          ['other', second],
        ]),
        (moved) => {
          const { terms: at } = barlowTwins(
            ops,
            [moved(tensor(z), 'z'), moved(tensor(other), 'other')],
            lambda,
          );
          return at.invariance + at.redundancy;
        },
      );
    });
  }

  it('covers fewer texts than dimensions, and more', () => {
    assert.ok(cases.some(({ z }) => z.length < (z[0] as []).length));
    assert.ok(cases.some(({ z }) => z.length > (z[0] as []).length));
  });
});

interface Head {
  parameters: Parameters;
  gradients: Record<string, Nested>;
}
const heads = golden<{
  replacedTokens: Head & {
    weight: number;
    hidden: Nested;
    embeddings: Nested;
    rows: number[];
    sequences: number[];
    labels: number[];
    loss: number;
    accuracy: number;
  };
  edits: Head & {
    weight: number;
    z: Nested;
    other: Nested;
    kinds: Nested;
    shares: Nested;
    loss: number;
    accuracy: number;
    shareError: number;
  };
  predictive: Head & { z: Nested; other: Nested; condition: Nested; invariance: number };
  target: Head & { z: Nested; other: Nested; target: Nested; invariance: number };
}>('heads.json');

describe('replaced-token detection', () => {
  const expected = heads.replacedTokens;
  const judged = {
    rows: Int32Array.from(expected.rows),
    sequences: Int32Array.from(expected.sequences),
    labels: Uint8Array.from(expected.labels),
  };
  const run = (moved = (x: Tensor, _name: string): Tensor => x) => {
    const gradients = new Gradients(ops);
    const { dHidden, dEmbeddings, ...result } = replacedTokens(
      ops,
      (name) => moved(tensor(expected.parameters[name]), name),
      moved(tensor(expected.hidden), 'hidden'),
      moved(tensor(expected.embeddings), 'embeddings'),
      judged,
      expected.weight,
      gradients,
    );
    const all = new Map([...gradients.whole, ['hidden', dHidden], ['embeddings', dEmbeddings]] as const);
    return { ...result, all };
  };

  it("has PyTorch's loss and gradients, those of the embeddings among them", () => {
    const { loss, accuracy, all } = run();
    assertClose([loss, accuracy], [expected.loss, expected.accuracy], 'loss and accuracy');
    assertGradients(all, expected.gradients);
  });

  it('has the gradients of finite differences', () => {
    assertSlopes(ops, run().all, (moved) => expected.weight * run(moved).loss);
  });

  it('has no loss and no gradient where there is nothing to judge', () => {
    const gradients = new Gradients(ops);
    const nothing = { rows: new Int32Array(0), sequences: new Int32Array(0), labels: new Uint8Array(0) };
    const weights = weightsOf(expected.parameters);
    const { loss, dHidden, dEmbeddings } = replacedTokens(
      ...([
        ops,
        weights,
        tensor(expected.hidden),
        tensor(expected.embeddings),
        nothing,
        1,
        gradients,
      ] as const),
    );
    assert.equal(loss, 0);
    assert.ok([...valuesOf(dHidden), ...valuesOf(dEmbeddings)].every((value) => value === 0));
  });
});

describe('the head that tells edits', () => {
  const expected = heads.edits;
  const run = (moved = (x: Tensor, _name: string): Tensor => x) => {
    const gradients = new Gradients(ops);
    const { gradients: dz, ...result } = edits(
      ops,
      (name) => moved(tensor(expected.parameters[name]), name),
      [moved(tensor(expected.z), 'z'), moved(tensor(expected.other), 'other')],
      { kinds: tensor(expected.kinds), shares: tensor(expected.shares) },
      expected.weight,
      gradients,
    );
    const all = new Map([...gradients.whole, ['z', dz[0]], ['other', dz[1]]] as const);
    return { ...result, all };
  };

  it("has PyTorch's loss, measures and gradients", () => {
    const { loss, accuracy, shareError, all } = run();
    assertClose(
      [loss, accuracy, shareError],
      [expected.loss, expected.accuracy, expected.shareError],
      'loss, accuracy and error',
    );
    assertGradients(all, expected.gradients);
  });

  it('has the gradients of finite differences', () => {
    assertSlopes(ops, run().all, (moved) => expected.weight * run(moved).loss, { step: 1e-3 });
  });
});

describe('VICReg with a predictor, or with a target', () => {
  const weights = { lambda: 25, mu: 25, nu: 1, invariance: 'mse' } as const;

  it("has PyTorch's gradients through the predictor, on both sides", () => {
    const { z, other, condition, parameters, invariance, gradients: expected } = heads.predictive;
    const gradients = new Gradients(ops);
    const of = weightsOf(parameters);
    const shape = { name: 'predictor', input: 7, widths: [6, 4], bias: true };
    const both = [tensor(z), tensor(other)] as const;
    const { z: prediction, saved } = expand(ops, shape, of, ops.tf.concat([both[0], tensor(condition)], 1));
    const { terms, gradients: dz, dPrediction } = vicreg(ops, both, weights, { prediction });
    assertClose([terms.invariance], [invariance], 'invariance');
    const dInput = expandBackward(ops, shape, of, saved, dPrediction!, gradients);
    const first = ops.tf.add(dz[0], ops.tf.slice(dInput, [0, 0], [7, 4]));
    assertGradients(new Map([...gradients.whole, ['z', first], ['other', dz[1]]]), expected);
  });

  it("has PyTorch's gradients when the target has none", () => {
    const { z, other, target, invariance, gradients: expected } = heads.target;
    const found = vicreg(ops, [tensor(z), tensor(other)], weights, { target: tensor(target) });
    assertClose([found.terms.invariance], [invariance], 'invariance');
    assert.equal(found.dPrediction, undefined);
    const [first, second] = found.gradients;
    assertGradients(
      new Map([
        ['z', first],
        ['other', second],
      ]),
      expected,
    );
  });
});

describe("TSDAE's decoder", () => {
  const expected = golden<{
    originals: number[][];
    noisy: number[][];
    parameters: Parameters;
    loss: number;
    accuracy: number;
    vectors: Nested;
    dVectors: Nested;
    gradients: Record<string, number[]>;
  }>('tsdae.json');
  const config = { ...tinyConfig({ hiddenSize: 8, heads: 2 }), hiddenDropout: 0, attentionDropout: 0 };
  const packed = (sequences: number[][]) => pack(sequences.map((ids) => Int32Array.from(ids)));
  const parameters = new Map<string, HostTensor>(fuseQkv(tinyWeights(config), config.layers));
  for (const [name, { shape }] of decoderParameters(config, new Random(1)))
    parameters.set(name, { shape, data: Float32Array.from(flat(expected.parameters[name])) });
  const weights: WeightsOf = (name) => ops.tf.tensor(parameters.get(name)!.data, parameters.get(name)!.shape);
  const originals = packed(expected.originals);

  it("has the loss and every gradient of PyTorch's tied encoder and decoder, through the vector", () => {
    const gradients = new Gradients(ops);
    const batch = toDevice(ops, packed(expected.noisy), config);
    const { hidden, saved } = bertForward(ops, config, weights, batch, new Dropout(ops, 0));
    const vectors = poolForward(ops, hidden, batch, 'mean');
    assertClose(valuesOf(vectors), flat(expected.vectors), 'vectors');
    const { loss, accuracy, dVectors } = reconstruct(
      ...([ops, config, weights, vectors, originals, new Dropout(ops, 0), gradients] as const),
    );
    assertClose([loss, accuracy], [expected.loss, expected.accuracy], 'loss and accuracy', 2e-6);
    assertClose(valuesOf(dVectors), flat(expected.dVectors), 'vectors');

    bertBackward(ops, config, weights, batch, saved, poolBackward(ops, dVectors, batch, 'mean'), gradients);
    assert.equal(gradients.rows.size, 0);
    const whole = new Map<string, HostTensor>();
    for (const [name, gradient] of gradients.whole)
      whole.set(name, { shape: gradient.shape, data: gradient.dataSync<'float32'>() });
    const decoder = [...whole].filter(([name]) => name.startsWith('decoder.'));
    const found = new Map([...splitQkv(whole, config), ...decoder]);
    assert.deepEqual([...found.keys()].sort(), Object.keys(expected.gradients).sort());
    const all = largest(Object.values(expected.gradients).flat());
    for (const [name, values] of Object.entries(expected.gradients))
      // A bias of the keys moves every score of a row alike: its gradient is 0 but for rounding.
      assertClose(found.get(name)!.data, values, name, 2e-5, /key\.bias/.test(name) ? all : undefined);
  });

  it('sees nothing of a token but what is before it', () => {
    const lossOf = (texts: number[][]): number[] =>
      texts.map((text) => {
        const vectors = ops.tf.ones([1, 8]);
        const args = [ops, config, weights, vectors, packed([text]), new Dropout(ops, 0)] as const;
        return reconstruct(...args, new Gradients(ops)).loss * (text.length - 1);
      });
    // The losses of a text's tokens do not change with what follows: of one that goes on, only some are added.
    const text = expected.originals[2];
    const [short, long] = lossOf([text.slice(0, 5), text]);
    const rest = text.slice(5).map((_, i) => {
      const [without, with_] = lossOf([text.slice(0, 5 + i), text.slice(0, 6 + i)]);
      return with_ - without;
    });
    assertClose([long], [short + rest.reduce((sum, value) => sum + value, 0)], 'loss', 1e-5);
    assert.ok(rest.every((value) => value > 0));
  });
});

/** A step's batch with all that any head asks for, and hidden states for it. */
const config = tinyConfig({ hiddenSize: 8, heads: 2 });
const random = new Random(12);
const sequences = (): Int32Array[] =>
  Array.from({ length: 6 }, () =>
    Int32Array.of(2, ...Array.from({ length: 1 + random.below(6) }, () => 5 + random.below(80)), 3),
  );
const views = [pack(sequences()), pack(sequences())];
const K = EDIT_KINDS.length;
const edit = () => {
  const kinds = Uint8Array.from({ length: 6 * K }, () => random.below(2));
  return { kinds, shares: Float32Array.from(kinds, (made) => made * random.float()) };
};
const inLast = Int32Array.from({ length: views[1].offsets[6] }, (_, row) => row);
const fed: TrainingBatch = {
  views,
  seed: 77,
  originals: pack(sequences()),
  masked: [
    { rows: new Int32Array(0), labels: new Int32Array(0) },
    { rows: Int32Array.of(1, 4), labels: Int32Array.of(40, 50) },
  ],
  replaced: { rows: inLast, labels: Uint8Array.from(inLast, (row) => row % 2) },
  edits: [edit(), edit()],
};

describe('a step of', () => {
  const heads = { mlmWeight: 0.5, rtdWeight: 2, reconstructionWeight: 0.3, editWeight: 0.7 };
  const recipes: [string, Partial<Recipe>, string[]][] = [
    ['vicreg', { objective: 'vicreg' }, ['invariance', 'variance', 'covariance']],
    [
      'vicreg with a predictor',
      { objective: 'vicreg', predictorWidth: 5 },
      ['invariance', 'variance', 'covariance'],
    ],
    [
      'vicreg with a predictor and every head',
      { objective: 'vicreg', predictorWidth: 5, ...heads },
      ['invariance', 'variance', 'covariance', 'edit', 'rtd', 'mlm', 'reconstruction'],
    ],
    ['barlow-twins', { objective: 'barlow-twins' }, ['invariance', 'redundancy']],
    ['infonce', { objective: 'infonce', temperature: 0.5 }, ['contrast']],
    [
      'infonce with every head',
      { objective: 'infonce', temperature: 0.5, ...heads },
      ['contrast', 'edit', 'rtd', 'mlm', 'reconstruction'],
    ],
    ['simcse', { objective: 'simcse', temperature: 0.5 }, ['contrast']],
    ['tsdae', { objective: 'tsdae' }, ['reconstruction']],
  ];
  for (const [name, changes, terms] of recipes)
    it(`${name} has the gradients of finite differences, for hidden states and for parameters`, () => {
      const recipe: Recipe = { ...PRESETS.vicreg, expander: [10, 7], ...changes };
      const objective = openObjective(ops, recipe, { config, pooling: 'mean' });
      const own = objective.parameters();
      for (const [of, { shape, data }] of own) {
        // Weights that begin near 0 would hide a gradient behind fp32's rounding.
        if (shape.length === 2 && /^(decoder|mlm|rtd)/.test(of))
          data.forEach((value, i) => (data[i] = 10 * value));
        // Of six normalized numbers none is below -2.3: no step passes a corner of ReLU, which is tested elsewhere.
        if (/^(expander|predictor|edits).*norm.bias/.test(of)) data.fill(2.5);
      }
      const parameters = new Map([...fuseQkv(tinyWeights(config), config.layers), ...own]);
      const hidden = normal([join(...views).ids.length, 8], new Random(5));
      const run = (moved = (x: Tensor, _name: string): Tensor => x) => {
        const gradients = new Gradients(ops);
        const weights = averaged((wanted) => {
          const { shape, data } = parameters.get(wanted)!;
          return moved(ops.tf.tensor(data, shape), wanted);
        });
        const batch = toDevice(ops, join(...views), config);
        return { ...objective.step(moved(hidden, 'hidden'), batch, fed, weights, gradients), gradients };
      };
      const { dHidden, gradients, vectors, ...made } = run();
      assert.deepEqual(Object.keys(made.terms), terms);
      assert.deepEqual(vectors.shape, [6, 8]);
      assert.deepEqual(
        [...own.keys()].filter((of) => !gradients.whole.has(of)),
        [],
        'parameters without a gradient',
      );
      assertSlopes(
        ops,
        new Map([['hidden', dHidden], ...[...gradients.whole].filter(([of]) => own.has(of))]),
        (moved) => Object.values(run(moved).terms).reduce((sum, term) => sum + term, 0),
        { step: 2e-3, tolerance: 1e-2 },
      );
    });

  for (const changes of [{}, { predictorWidth: 5 }, { editWeight: 0.7 }])
    it(`vicreg with a target encoder has gradients for the first view alone: ${JSON.stringify(changes)}`, () => {
      const recipe: Recipe = {
        ...PRESETS.vicreg,
        ...{ expander: [10, 7], targetEncoder: 'average', averageDecay: 0.9 },
        ...changes,
      };
      const objective = openObjective(ops, recipe, { config, pooling: 'mean' });
      const own = objective.parameters();
      for (const [of, { data }] of own) if (/^(expander|predictor|edits).*norm.bias/.test(of)) data.fill(2.5);
      const average = new Map(
        [...own].map(([of, { shape, data }]) => [of, { shape, data: data.map((value) => 0.8 * value) }]),
      );
      const batch = toDevice(ops, join(...views), config);
      const [first, second] = [
        normal([views[0].ids.length, 8], new Random(5)),
        normal([views[1].ids.length, 8], new Random(6)),
      ];
      const run = (moved = (x: Tensor, _name: string): Tensor => x) => {
        const gradients = new Gradients(ops);
        const of = ({ shape, data }: HostTensor): Tensor => ops.tf.tensor(data, shape);
        const weights = Object.assign((name: string) => moved(of(own.get(name)!), name), {
          average: (name: string) => of(average.get(name)!),
        });
        const hidden = ops.tf.concat([moved(first, 'first'), second]);
        return { ...objective.step(hidden, batch, fed, weights, gradients), gradients };
      };
      const { dHidden, gradients } = run();
      const [dFirst, dSecond] = ops.tf.split(dHidden, [views[0].ids.length, views[1].ids.length]);
      assert.ok(valuesOf(dSecond).every((value) => value === 0));
      assert.deepEqual([...gradients.whole.keys()].sort(), [...own.keys()].sort());
      assertSlopes(
        ops,
        new Map([['first', dFirst], ...gradients.whole]),
        (moved) => Object.values(run(moved).terms).reduce((sum, term) => sum + term, 0),
        { step: 2e-3, tolerance: 1e-2 },
      );
    });

  it('any of them leaves no tensor behind but the gradients', () => {
    for (const [name, changes] of recipes) {
      const recipe: Recipe = { ...PRESETS.vicreg, expander: [10, 7], ...changes };
      const objective = openObjective(ops, recipe, { config, pooling: 'mean' });
      const parameters = new Map([...fuseQkv(tinyWeights(config), config.layers), ...objective.parameters()]);
      const before = ops.tf.memory().numTensors;
      const gradients = new Gradients(ops);
      ops.tidy(() => {
        const weights = averaged((of) => ops.tf.tensor(parameters.get(of)!.data, parameters.get(of)!.shape));
        const batch = toDevice(ops, join(...views), config);
        const hidden = normal([join(...views).ids.length, 8], new Random(5));
        objective.step(hidden, batch, fed, weights, gradients);
      });
      gradients.dispose();
      assert.equal(ops.tf.memory().numTensors, before, name);
    }
  });

  it('a recipe without heads has no parameters for them', () => {
    const names = (changes: Partial<Recipe>): string[] => [
      ...openObjective(ops, { ...PRESETS.vicreg, expander: [4], ...changes }, { config, pooling: 'cls' })
        .parameters()
        .keys(),
    ];
    assert.deepEqual(names({}), ['expander.0.weight']);
    assert.deepEqual(names({ objective: 'infonce' }), []);
    assert.ok(names({ editWeight: 1 }).includes('edits.0.weight'));
  });

  it('a head looks at the last view: gradients are where its texts and tokens are', () => {
    const recipe: Recipe = { ...PRESETS.vicreg, rtdWeight: 1 };
    const [rtd, tsdae] = [
      replacedTokensLoss(ops, recipe, 8, 3),
      openObjective(ops, { ...recipe, objective: 'tsdae' }, { config, pooling: 'mean' }),
    ];
    const parameters = new Map([
      ...fuseQkv(tinyWeights(config), config.layers),
      ...rtd.parameters(),
      ...tsdae.parameters(),
    ]);
    const weights = averaged((of) => ops.tf.tensor(parameters.get(of)!.data, parameters.get(of)!.shape));
    const hidden = normal([join(...views).ids.length, 8], new Random(5));
    const rowsWithGradient = (of: Tensor): number[] =>
      valuesOf(ops.tf.sum(ops.tf.abs(of), 1)).flatMap((size, row) => (size > 0 ? [row] : []));

    // Two tokens of the last view's third text.
    const start = views[1].offsets[2];
    const replaced = { rows: Int32Array.of(start, start + 1), labels: Uint8Array.of(1, 0) };
    const z = [normal([6, 3], new Random(6)), normal([6, 3], new Random(7))] as const;
    const { dz, dHidden } = rtd.step({ z, hidden, fed: { ...fed, replaced } }, weights, new Gradients(ops));
    const before = views[0].ids.length;
    assert.deepEqual(rowsWithGradient(dHidden!), [before + start, before + start + 1]);
    assert.deepEqual(rowsWithGradient(dz[0]), [2]);
    assert.deepEqual(rowsWithGradient(dz[1]), []);

    const batch = toDevice(ops, join(...views), config);
    const written = tsdae.step(hidden, batch, fed, weights, new Gradients(ops));
    assert.deepEqual(
      rowsWithGradient(written.dHidden),
      [...inLast].map((row) => before + row),
    );
  });

  it('heads are weighted: their terms, and so their gradients, grow with the weight', () => {
    const termsAt = (weight: number): Record<string, number> => {
      const recipe: Recipe = {
        ...PRESETS.vicreg,
        ...{ expander: [4], mlmWeight: weight, rtdWeight: weight },
        ...{ reconstructionWeight: weight, editWeight: weight },
      };
      const objective = openObjective(ops, recipe, { config, pooling: 'mean' });
      const parameters = new Map([...fuseQkv(tinyWeights(config), config.layers), ...objective.parameters()]);
      const weights = averaged((of) => ops.tf.tensor(parameters.get(of)!.data, parameters.get(of)!.shape));
      const batch = toDevice(ops, join(...views), config);
      const hidden = normal([join(...views).ids.length, 8], new Random(5));
      return objective.step(hidden, batch, fed, weights, new Gradients(ops)).terms;
    };
    const [one, three] = [termsAt(1), termsAt(3)];
    for (const term of ['mlm', 'rtd', 'reconstruction', 'edit'])
      assertClose([three[term]], [3 * one[term]], term, 1e-5);
    assertClose([three['variance']], [one['variance']], 'variance', 1e-6);
  });
});

describe('causal attention', () => {
  it('is in toDevice a choice: the encoder sees all tokens', () => {
    const seen = (causal: boolean): boolean[][] => {
      const { attention } = toDevice(ops, pack([Int32Array.of(2, 5, 3)]), config, { causal });
      const [{ bias }] = attention.groups;
      const values = valuesOf(bias);
      const width = bias.shape[3]!;
      return [0, 1, 2].map((query) => [0, 1, 2, 3].map((key) => values[query * width + key] === 0));
    };
    assert.deepEqual(seen(false), [
      [true, true, true, false],
      [true, true, true, false],
      [true, true, true, false],
    ]);
    assert.deepEqual(seen(true), [
      [true, false, false, false],
      [true, true, false, false],
      [true, true, true, false],
    ]);
  });
});
