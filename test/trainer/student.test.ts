import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { loadWeights, type ModelFolder, openModelFolder } from '../../encoder/model-folder.js';
import { loadTokenizer, Tokenizer } from '../../encoder/tokenizer.js';
import type { Tensor } from '../../encoder/safetensors.js';
import { cutWeights, randomWeights, studentConfig, studentVocabulary } from '../../trainer/student.js';
import { parseStudentShape } from '../../trainer/student-shape.js';
import { loadTensorFlow } from '../../trainer/tensorflow/load.js';
import { measureSource } from '../../trainer/tensorflow/measure.js';
import { Ops } from '../../trainer/tensorflow/ops.js';
import { referenceBert } from '../encoder/reference-bert.js';
import { makeTinyModel, tinyConfig } from '../support/tiny-model.js';
import { assertClose } from './numbers.js';

const TEXTS = [
  'how do i install ubuntu',
  'black screen after update',
  'wireless network is slow',
  'boot error',
];

let ops: Ops;
let home: string;
let source: ModelFolder & { weights: Map<string, Tensor> };

before(async () => {
  ops = new Ops(await loadTensorFlow());
  home = await mkdtemp(path.join(tmpdir(), 'student-'));
  await makeTinyModel(path.join(home, 'source'), { maxTokens: 32 });
  const folder = await openModelFolder(path.join(home, 'source'));
  source = { ...folder, weights: await loadWeights(folder) };
});
after(() => rm(home, { recursive: true, force: true }));

describe('the shape of a student', () => {
  const config = { ...tinyConfig({ layers: 6, hiddenSize: 48, heads: 12 }), vocabSize: 900 };

  it('is read from key=value, with what is left out taken from the source', () => {
    assert.deepEqual(
      parseStudentShape('layers=2,hidden=24,intermediate=60,vocab=500,vocabulary=trained', config),
      {
        layers: 2,
        hidden: 24,
        heads: 6,
        intermediate: 60,
        vocab: 500,
        init: 'source',
        take: [0, 5],
        vocabulary: 'trained',
      },
    );
  });

  it('takes layers from the first to the last, or those that are named', () => {
    const take = (text: string): number[] => parseStudentShape(text, config).take;
    assert.deepEqual(take('layers=4'), [0, 2, 3, 5]);
    assert.deepEqual(take('layers=1'), [5]);
    assert.deepEqual(take('layers=2,take=4+1'), [4, 1]);
  });

  for (const [text, message] of [
    ['layers', /expected key=value, key one of layers, hidden, .*found "layers"/],
    ['depth=3', /expected key=value, key one of/],
    ['layers=2,layers=3', /expected layers once/],
    ['layers=0', /layers: a whole number from 1 to 6, found "0"/],
    ['layers=7', /layers: a whole number from 1 to 6, found "7"/],
    ['hidden=50', /hidden: a whole number from 1 to 48, found "50"/],
    ['hidden=24,heads=5', /hidden to be a multiple of heads, found "24 and 5"/],
    [
      'hidden=24,heads=2',
      /at most 12 heads of 4 to cut out of the source \(or init=random\), found "2 of 12"/,
    ],
    ['layers=2,take=0', /take: 2 of the source's layers 0 to 5, with \+ between, found "0"/],
    ['layers=1,take=6', /take: 1 of the source's layers 0 to 5/],
    ['init=zero', /init: source or random, found "zero"/],
  ] as const)
    it(`is refused: ${text}`, () => {
      assert.throws(() => parseStudentShape(text, config), { kind: 'usage', message });
    });

  it('may be larger than the source when it begins from nothing', () => {
    const { hidden, heads, layers } = parseStudentShape(
      'init=random,layers=8,hidden=96,heads=3,take=0+0+0+0+0+0+0+0',
      config,
    );
    assert.deepEqual([layers, hidden, heads], [8, 96, 3]);
  });
});

describe('the vocabulary of a student', () => {
  it('is the source itself when nothing is to be left out', () => {
    const { tokenizer, pieces } = studentVocabulary(source, { vocab: 10_000, vocabulary: 'pruned' }, TEXTS);
    assert.equal(tokenizer, source.tokenizer);
    assert.deepEqual(
      pieces.map((list) => [...list]),
      Array.from({ length: source.config.vocabSize }, (_, id) => [id]),
    );
  });

  it('keeps tokens of the source that the texts use, so that the texts are the same tokens', () => {
    const { tokenizer, pieces } = studentVocabulary(source, { vocab: 110, vocabulary: 'pruned' }, TEXTS);
    assert.equal(pieces.length, 110);
    const [before, after] = [loadTokenizer(source), new Tokenizer(tokenizer, 32)];
    for (const text of TEXTS)
      assert.deepEqual(
        after.tokens(text).map((token) => token.text),
        before.tokens(text).map((token) => token.text),
      );
  });

  it('is learned on the texts, each token made of what the source spells it with', () => {
    const { tokenizer, pieces } = studentVocabulary(source, { vocab: 90, vocabulary: 'trained' }, [
      ...TEXTS,
      'zzyzx',
      'zzyzx',
      'zzyzx',
    ]);
    const trained = new Tokenizer(tokenizer, 32);
    const [, { id, text }] = trained.tokens('zzyzx');
    assert.equal(text, 'zzyzx');
    const spelled = loadTokenizer(source)
      .tokens('zzyzx')
      .filter((token) => !token.special)
      .map((token) => token.id);
    assert.equal(spelled.length, 5);
    assert.deepEqual([...pieces[id]], spelled);
  });
});

describe('the first weights of a student', () => {
  const cut = (
    shapeText: string,
    weights = source.weights,
  ): { config: ReturnType<typeof studentConfig>; weights: Map<string, Tensor> } => {
    const shape = parseStudentShape(shapeText, source.config);
    const vocabulary = studentVocabulary(source, shape, TEXTS);
    const config = studentConfig(source.config, shape, vocabulary.pieces.length);
    const tokenizer = loadTokenizer(source);
    const sequences = TEXTS.map((text) => tokenizer.encode(text));
    const measured = measureSource(ops, source.config, weights, sequences);
    return {
      config,
      weights: cutWeights({ config: source.config, weights }, config, shape, vocabulary, measured),
    };
  };

  it('are the source exactly when nothing is cut away', () => {
    const { config, weights } = cut('layers=2');
    assert.deepEqual(config, source.config);
    assert.deepEqual([...weights.keys()], [...source.weights.keys()]);
    for (const [name, { shape, data }] of weights) {
      assert.deepEqual(shape, source.weights.get(name)!.shape, name);
      assert.deepEqual(data, source.weights.get(name)!.data, name);
    }
  });

  it('compute what the source does when only neurons that do nothing are cut away', () => {
    const weights = new Map(source.weights);
    for (const layer of [0, 1]) {
      const name = `encoder.layer.${layer}.output.dense.weight`;
      const { shape, data } = weights.get(name)!;
      weights.set(name, {
        shape,
        data: data.map((value, i) => ((i % shape[1]) % 4 === layer ? 0 : value)),
      });
    }
    const { intermediateSize } = source.config;
    const student = cut(`layers=2,intermediate=${(intermediateSize * 3) / 4}`, weights);
    const ids = loadTokenizer(source).encode(TEXTS[0]);
    const expected = referenceBert(source.config, weights, ids).flat();
    assertClose(referenceBert(student.config, student.weights, ids).flat(), expected, 'hidden states', 1e-6);
  });

  it('take the layers that are named', () => {
    const { weights } = cut('layers=1,take=1');
    const name = 'intermediate.dense.weight';
    assert.deepEqual(
      weights.get(`encoder.layer.0.${name}`)!.data,
      source.weights.get(`encoder.layer.1.${name}`)!.data,
    );
  });

  it('project a narrower hidden state so that the embeddings of the texts keep most of their length', () => {
    const { config, weights } = cut('layers=2,hidden=24');
    assert.deepEqual([config.hiddenSize, config.heads], [24, 3]);
    const length = (tensors: Map<string, Tensor>, width: number): number => {
      const { data } = tensors.get('embeddings.word_embeddings.weight')!;
      const ids = [...new Set(TEXTS.flatMap((text) => [...loadTokenizer(source).encode(text)]))];
      return ids.reduce(
        (sum, id) => sum + data.subarray(id * width, (id + 1) * width).reduce((a, x) => a + x * x, 0),
        0,
      );
    };
    const kept = length(weights, 24) / length(source.weights, 32);
    // Of random embeddings any 24 directions keep 3/4; the best ones of this few keep more.
    assert.ok(kept > 0.85 && kept <= 1 + 1e-6, String(kept));
    const output = weights.get('encoder.layer.0.attention.output.dense.weight')!;
    assert.deepEqual(output.shape, [24, 24]);
    assert.equal(output.data.every(Number.isFinite), true);
  });

  it('are drawn anew from a seed when it begins from nothing', () => {
    const config = tinyConfig({ hiddenSize: 32 });
    const [one, again, other] = [
      randomWeights(config, 1),
      randomWeights(config, 1),
      randomWeights(config, 2),
    ];
    const name = 'encoder.layer.1.output.dense.weight';
    assert.deepEqual(one.get(name), again.get(name));
    assert.notDeepEqual(one.get(name)!.data, other.get(name)!.data);
    const { data } = one.get('embeddings.word_embeddings.weight')!;
    const std = Math.sqrt(data.reduce((sum, x) => sum + x * x, 0) / data.length);
    assert.ok(Math.abs(std - 0.02) < 0.001, String(std));
    assert.equal(
      one.get('embeddings.LayerNorm.weight')!.data.every((x) => x === 1),
      true,
    );
  });
});
