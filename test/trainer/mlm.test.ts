import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';

import { Random } from '../../base/random.js';
import { maskTokens, type MaskedBatch, type MaskingVocabulary } from '../../trainer/masking.js';
import { pack } from '../../trainer/packing.js';
import { bertBackward, bertForward, toDevice } from '../../trainer/tensorflow/bert.js';
import { Dropout } from '../../trainer/tensorflow/layers.js';
import { loadTensorFlow } from '../../trainer/tensorflow/load.js';
import { mlm, mlmParameters } from '../../trainer/tensorflow/mlm.js';
import { Ops, type Tensor } from '../../trainer/tensorflow/ops.js';
import { Gradients, Parameters } from '../../trainer/tensorflow/parameters.js';
import { fuseQkv, splitQkv } from '../../trainer/tensorflow/fused-qkv.js';
import type { HostTensor, PackedBatch } from '../../trainer/types.js';
import { tinyConfig, tinyWeights } from '../support/tiny-model.js';
import { assertClose, flat, golden, largest, snapshot, type Nested } from './numbers.js';

describe('masking', () => {
  const [PAD, UNKNOWN, CLS, SEP, MASK] = [0, 1, 2, 3, 4];
  const special = { pad: PAD, unknown: UNKNOWN, cls: CLS, sep: SEP, mask: MASK };
  const specials = new Set(Object.values(special));
  // 5 .. 11 begin a word, 12 .. 14 go on with one.
  const vocabulary: MaskingVocabulary = {
    special,
    vocabSize: 15,
    continues: Uint8Array.from({ length: 15 }, (_, id) => (id >= 12 ? 1 : 0)),
  };
  const SHARE = 0.15;

  /** Sequences of 1 to 25 words of 1 to 3 tokens, some of them [UNK]. */
  const batchOf = (sequences: number, random: Random): PackedBatch =>
    pack(
      Array.from({ length: sequences }, () => {
        const words = Array.from({ length: 1 + random.below(25) }, () =>
          random.below(20) === 0
            ? [UNKNOWN]
            : [5 + random.below(7), ...Array.from({ length: random.below(3) }, () => 12 + random.below(3))],
        );
        return Int32Array.of(CLS, ...words.flat(), SEP);
      }),
    );
  const lengthOf = ({ offsets }: PackedBatch, s: number): number => offsets[s + 1] - offsets[s];
  const rowsIn = ({ rows }: MaskedBatch, { offsets }: PackedBatch, s: number): number[] =>
    [...rows].filter((row) => row >= offsets[s] && row < offsets[s + 1]);

  const batch = batchOf(4000, new Random(1));
  const masked = maskTokens(batch, vocabulary, SHARE, new Random(2));
  /** Four standard deviations of a binomial count: exceeded by a right law in 1 of 16,000 seeds. */
  const assertShare = (count: number, of: number, share: number, what: string): void => {
    const found = `${what}: ${count} of ${of}, expected a share of ${share}`;
    assert.ok(Math.abs(count - share * of) <= 4 * Math.sqrt(of * share * (1 - share)), found);
  };

  it('changes nothing but the rows that it names, whose ids it tells, in ascending order', () => {
    const before = batch.ids.slice();
    const { rows, labels, batch: after } = maskTokens(batch, vocabulary, SHARE, new Random(2));
    assert.deepEqual(batch.ids, before);
    assert.deepEqual(after.offsets, batch.offsets);
    assert.deepEqual(
      [...rows],
      [...new Set(rows)].sort((a, b) => a - b),
    );
    assert.deepEqual(
      labels,
      rows.map((row) => before[row]),
    );
    const restored = after.ids.slice();
    rows.forEach((row, i) => (restored[row] = labels[i]));
    assert.deepEqual(restored, before);
  });

  it('chooses the share of words, and so of tokens, wherever they stand', () => {
    // 20 words: 3 in each sequence.
    const word = [[5], [6, 12], [7, 12, 13], [8]];
    const twenty = pack(
      Array.from({ length: 3000 }, () => Int32Array.of(CLS, ...Array(5).fill(word).flat(2), SEP)),
    );
    const { rows } = maskTokens(twenty, vocabulary, SHARE, new Random(3));
    const length = lengthOf(twenty, 0);
    const counts = new Int32Array(length);
    for (const row of rows) counts[row % length]++;
    for (let place = 1; place < length - 1; place++)
      assertShare(counts[place], 3000, SHARE, `place ${place}`);
    // 10 words: 1 or 2, and 1.5 on average.
    const ten = pack(Array.from({ length: 3000 }, () => Int32Array.of(CLS, ...Array(10).fill(5), SEP)));
    const half = maskTokens(ten, vocabulary, SHARE, new Random(4));
    const perSequence = Array.from({ length: 3000 }, (_, s) => rowsIn(half, ten, s).length);
    assert.deepEqual([...new Set(perSequence)].sort(), [1, 2]);
    assertShare(perSequence.filter((count) => count === 2).length, 3000, 0.5, 'two of ten');
  });

  it('hides 80 % of them, replaces 10 % and leaves 10 %', () => {
    const { rows, labels } = masked;
    const found = [...rows].map((row) => masked.batch.ids[row]);
    const hidden = found.filter((id) => id === MASK).length;
    const kept = found.filter((id, i) => id === labels[i]).length;
    // One in ten of the ordinary tokens is, by chance, the one that it replaces.
    assertShare(hidden, rows.length, 0.8, 'hidden');
    assertShare(kept, rows.length, 0.1 + 0.1 / 10, 'kept');
    assertShare(rows.length - hidden - kept, rows.length, 0.1 - 0.1 / 10, 'replaced');
    const others = found.filter((id, i) => id !== MASK && id !== labels[i]);
    for (let id = 5; id < 15; id++)
      assertShare(others.filter((other) => other === id).length, others.length, 0.1, `token ${id}`);
  });

  it('never chooses a special token and never puts one in, but for [MASK]', () => {
    assert.ok(batch.ids.includes(UNKNOWN));
    assert.ok(masked.labels.every((id) => !specials.has(id)));
    for (const row of masked.rows) {
      const id = masked.batch.ids[row];
      assert.ok(id === MASK || !specials.has(id));
    }
  });

  it('chooses all pieces of a word or none', () => {
    const chosen = new Set(masked.rows);
    let pieces = 0;
    batch.ids.forEach((id, row) => {
      if (!vocabulary.continues[id]) return;
      pieces++;
      assert.equal(chosen.has(row), chosen.has(row - 1), `row ${row}`);
    });
    assert.ok(pieces > 1000);
  });

  it('chooses at least one token of a sequence that has an ordinary one, and none of others', () => {
    const few = pack([
      Int32Array.of(CLS, 7, SEP),
      Int32Array.of(CLS, UNKNOWN, SEP),
      Int32Array.of(CLS, 13, SEP),
      Int32Array.of(CLS, SEP),
      Int32Array.of(CLS, 5, 6, 7, SEP),
    ]);
    for (let seed = 0; seed < 50; seed++) {
      const { rows, labels } = maskTokens(few, vocabulary, SHARE, new Random(seed));
      assert.deepEqual([...labels.slice(0, 2)], [7, 13]);
      assert.equal(rows.length, 3);
      assert.ok(rows[2] > few.offsets[4]);
    }
    for (let s = 0; s + 1 < batch.offsets.length; s += 40) {
      const ordinary = batch.ids
        .subarray(batch.offsets[s], batch.offsets[s + 1])
        .some((id) => !specials.has(id));
      assert.equal(rowsIn(masked, batch, s).length > 0, ordinary);
    }
  });

  it('chooses all of them with a share of 1', () => {
    const { labels } = maskTokens(batch, vocabulary, 1, new Random(5));
    assert.deepEqual(
      labels,
      batch.ids.filter((id) => !specials.has(id)),
    );
  });

  it('is a function of the seed', () => {
    assert.deepEqual(maskTokens(batch, vocabulary, SHARE, new Random(2)), masked);
    assert.notDeepEqual(maskTokens(batch, vocabulary, SHARE, new Random(3)).rows, masked.rows);
  });

  it('needs a [MASK]', () => {
    const without = { ...vocabulary, special: { ...special, mask: -1 } };
    assert.throws(() => maskTokens(batch, without, SHARE, new Random(1)), {
      kind: 'unsupported-model',
      message: /expected a \[MASK\] token/,
    });
  });
});

let ops: Ops;
before(async () => {
  ops = new Ops(await loadTensorFlow());
});

const valuesOf = (of: Tensor): number[] => [...of.dataSync()];
const WORDS = 'embeddings.word_embeddings.weight';

describe('masked-language model', () => {
  const expected = golden<{
    sequences: number[][];
    rows: number[];
    labels: number[];
    head: Record<string, Nested>;
    loss: number;
    accuracy: number;
    gradients: Record<string, number[]>;
  }>('mlm.json');
  const config = tinyConfig({ layers: 1, hiddenSize: 8, heads: 2 });
  const still = { ...config, hiddenDropout: 0, attentionDropout: 0 };
  const rows = Int32Array.from(expected.rows);
  const labels = Int32Array.from(expected.labels);
  const packed = pack(expected.sequences.map((ids) => Int32Array.from(ids)));

  const parameters = new Map<string, HostTensor>(fuseQkv(tinyWeights(config), config.layers));
  for (const [name, { shape }] of mlmParameters(config, new Random(1)))
    parameters.set(name, { shape, data: Float32Array.from(flat(expected.head[name])) });
  const weights = (name: string): Tensor => {
    const { shape, data } = parameters.get(name)!;
    return ops.tf.tensor(data, shape);
  };
  type WeightsOf = typeof weights;

  /** The whole way, forward and back. */
  const run = (of = weights, bert = still): { loss: number; accuracy: number; gradients: Gradients } => {
    const gradients = new Gradients(ops);
    const batch = toDevice(ops, packed, bert);
    const { hidden, saved } = bertForward(ops, bert, of, batch, new Dropout(ops, 7));
    const { dHidden, ...result } = mlm(ops, bert, of, hidden, rows, labels, gradients);
    bertBackward(ops, bert, of, batch, saved, dHidden, gradients);
    return { ...result, gradients };
  };

  it("has the loss and the accuracy of PyTorch's BertForMaskedLM", () => {
    const { loss, accuracy } = run();
    assertClose([loss], [expected.loss], 'loss', 2e-6);
    assertClose([accuracy], [expected.accuracy], 'accuracy', 1e-6);
  });

  it("has the gradient of every parameter as PyTorch's BertForMaskedLM, word embeddings on both ends", () => {
    const { gradients } = run();
    assert.equal(gradients.rows.size, 0);
    const found = new Map<string, HostTensor>();
    for (const [name, gradient] of gradients.whole)
      found.set(name, { shape: gradient.shape, data: gradient.dataSync<'float32'>() });
    const named = new Map([...splitQkv(found, config), ...[...found].filter(([name]) => /^mlm/.test(name))]);
    assert.deepEqual([...named.keys()].sort(), Object.keys(expected.gradients).sort());
    const all = largest(Object.values(expected.gradients).flat());
    for (const [name, values] of Object.entries(expected.gradients))
      // A bias of the keys moves every score of a row alike: its gradient is 0 but for rounding.
      assertClose(named.get(name)!.data, values, name, 2e-5, /key\.bias/.test(name) ? all : undefined);
  });

  /** Slope along a random direction of what `lossOf` computes, by the gradient and by finite differences. */
  const slopes = (
    name: string,
    shape: readonly number[],
    gradient: Tensor,
    lossOf: (moved: (x: Tensor, name: string) => Tensor) => number,
  ): [number, number] => {
    // A direction in which no slope is so small that it drowns in the rounding of the fp32 loss.
    const random = new Random(10);
    const size = shape.reduce((product, length) => product * length, 1);
    const direction = Float32Array.from({ length: size }, () => random.normal());
    const step = 5e-3;
    const at = (by: number): number =>
      lossOf((x, of) =>
        of === name
          ? ops.tf.add(
              x,
              ops.tf.tensor(
                direction.map((d) => by * d),
                [...shape],
              ),
            )
          : x,
      );
    const slope = valuesOf(gradient).reduce((sum, value, i) => sum + value * direction[i], 0);
    return [slope, (at(step) - at(-step)) / (2 * step)];
  };

  it('has the gradients of finite differences: the head, alone', () => {
    const random = new Random(4);
    const hidden = ops.tf.tensor2d(
      Float32Array.from({ length: packed.ids.length * 8 }, () => random.normal()),
      [packed.ids.length, 8],
    );
    const gradients = new Gradients(ops);
    const { dHidden } = mlm(ops, still, weights, hidden, rows, labels, gradients);
    const names = ['hidden', ...gradients.whole.keys()];
    assert.deepEqual([...names].sort(), ['hidden', WORDS, ...Object.keys(expected.head)].sort());
    for (const name of names) {
      const gradient = name === 'hidden' ? dHidden : gradients.whole.get(name)!;
      const [slope, differences] = slopes(name, gradient.shape, gradient, (moved) => {
        const of: WeightsOf = (wanted) => moved(weights(wanted), wanted);
        return mlm(ops, still, of, moved(hidden, 'hidden'), rows, labels, new Gradients(ops)).loss;
      });
      assertClose([slope], [differences], name, 5e-3);
    }
    // Only the rows to guess have one.
    valuesOf(ops.tf.sum(ops.tf.abs(dHidden), 1)).forEach((size, row) =>
      assert.equal(size > 0, rows.includes(row), `row ${row}`),
    );
  });

  it('has the gradients of finite differences: through the encoder, its dropout on', () => {
    const { gradients } = run(weights, config);
    for (const name of [WORDS, 'encoder.layer.0.attention.self.qkv.weight', 'embeddings.LayerNorm.bias']) {
      const gradient = gradients.whole.get(name)!;
      const [slope, differences] = slopes(
        name,
        gradient.shape,
        gradient,
        (moved) => run((wanted) => moved(weights(wanted), wanted), config).loss,
      );
      assertClose([slope], [differences], name, 5e-3);
    }
  });

  it('starts near a uniform guess, and learns what is hidden', () => {
    const trained = new Parameters(ops);
    const first = new Map([
      ...fuseQkv(tinyWeights(config), config.layers),
      ...mlmParameters(config, new Random(6)),
    ]);
    for (const [name, tensor] of first)
      trained.add(name, tensor, {
        decays: tensor.shape.length > 1,
        byRows: name === WORDS,
      });
    const losses: number[] = [];
    const accuracies: number[] = [];
    for (let step = 0; step < 60; step++) {
      const { loss, accuracy, gradients } = ops.tidy(() => run((name) => trained.value(name)));
      losses.push(loss);
      accuracies.push(accuracy);
      trained.update(gradients, { learningRate: 0.02, weightDecay: 0.01 });
      gradients.dispose();
    }
    trained.dispose();
    const uniform = Math.log(config.vocabSize);
    assert.ok(Math.abs(losses[0] - uniform) < 0.2 * uniform, `${losses[0]}, uniform ${uniform}`);
    assert.ok(losses.at(-1)! < 0.1, `${losses.at(-1)}`);
    assert.equal(accuracies.at(-1), 1);
  });

  it('has no loss and no gradient where there is nothing to guess', () => {
    const gradients = new Gradients(ops);
    const hidden = ops.tf.ones([3, 8]);
    const nothing = new Int32Array(0);
    const { loss, accuracy, dHidden } = mlm(ops, still, weights, hidden, nothing, nothing, gradients);
    assert.deepEqual([loss, accuracy], [0, 0]);
    assert.deepEqual(valuesOf(dHidden), new Array(24).fill(0));
    assert.equal(gradients.norm(), 0);
  });

  it('leaves no tensor behind but the gradients', () => {
    const hidden = ops.tf.ones([packed.ids.length, 8]);
    const held = new Map([...parameters.keys()].map((name) => [name, weights(name)]));
    const before = ops.tf.memory().numTensors;
    const gradients = new Gradients(ops);
    const { dHidden } = mlm(ops, still, (name) => held.get(name)!, hidden, rows, labels, gradients);
    dHidden.dispose();
    gradients.dispose();
    assert.equal(ops.tf.memory().numTensors, before);
  });
});

describe('a gradient of a whole matrix and of rows', () => {
  const indices = Int32Array.of(3, 1);
  const matrix = (): Tensor =>
    ops.tf.tensor2d([
      [0.5, -1, 2],
      [0.1, 0.2, 0.3],
      [-1, 0, 0],
      [4, -2, 0.7],
    ]);
  const rows = (): Tensor =>
    ops.tf.tensor2d([
      [-3, 2.5, 0.3],
      [1, 1, -0.2],
    ]);
  const sum = [
    [0.5, -1, 2],
    [1.1, 1.2, 0.1],
    [-1, 0, 0],
    [1, 0.5, 1],
  ];
  const inOrder = {
    'the matrix first': (gradients: Gradients): void => {
      gradients.add('words', matrix());
      gradients.addRows('words', indices, rows());
    },
    'the rows first': (gradients: Gradients): void => {
      gradients.addRows('words', indices, rows());
      gradients.add('words', matrix());
    },
    'the rows between two matrices': (gradients: Gradients): void => {
      gradients.add('words', ops.tf.mul(matrix(), 0.25));
      gradients.addRows('words', indices, rows());
      gradients.add('words', ops.tf.mul(matrix(), 0.75));
    },
  };
  for (const [order, fill] of Object.entries(inOrder)) {
    it(`has the norm of the sum: ${order}`, () => {
      const gradients = new Gradients(ops);
      fill(gradients);
      assertClose([gradients.norm()], [Math.hypot(...sum.flat())], 'norm', 1e-6);
      gradients.dispose();
    });

    it(`moves the parameter as the sum would: ${order}`, () => {
      const data = Float32Array.from({ length: 12 }, (_, i) => i / 10);
      const [both, dense] = [new Parameters(ops), new Parameters(ops)];
      for (const parameters of [both, dense])
        parameters.add('words', { shape: [4, 3], data }, { decays: true, byRows: true });
      for (const clip of [1, 0.3, 0.2]) {
        const [apart, together] = [new Gradients(ops), new Gradients(ops)];
        fill(apart);
        together.add('words', ops.tf.mul(ops.tf.tensor2d(sum), clip));
        both.update(apart, { learningRate: 0.01, weightDecay: 0.01, clip });
        dense.update(together, { learningRate: 0.01, weightDecay: 0.01 });
      }
      const expected = snapshot(dense.state());
      for (const [name, { data: found }] of snapshot(both.state()))
        if (name !== 'adam.steps') assertClose(found, expected.get(name)!.data, name, 1e-6);
      assert.notDeepEqual(both.weights().get('words')!.data, data);
      for (const parameters of [both, dense]) parameters.dispose();
    });
  }

  it('leaves no tensor behind', () => {
    const before = ops.tf.memory().numTensors;
    for (const fill of Object.values(inOrder)) {
      const gradients = new Gradients(ops);
      ops.tidy(() => fill(gradients));
      gradients.dispose();
    }
    assert.equal(ops.tf.memory().numTensors, before);
  });
});
