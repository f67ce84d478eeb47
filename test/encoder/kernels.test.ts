import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';

import { Random } from '../../base/random.js';
import type { BertConfig } from '../../encoder/bert.js';
import { weightsDigest, weightsFileDigest } from '../../encoder/fingerprint.js';
import { buildKernels } from '../../encoder/kernels/build.js';
import { loadKernels, type Instructions, type Kernels } from '../../encoder/kernels/load.js';
import { builtFile, builtFolder } from '../../encoder/kernels/locations.js';
import { openKernelSession, type KernelSessionOptions } from '../../encoder/kernels/session.js';
import { openModelFolder, type Pooling } from '../../encoder/model-folder.js';
import { packedGraph } from '../../encoder/onnx/packed-graph.js';
import { dequantizeRows, quantizeRows } from '../../encoder/onnx/quantize.js';
import { openEncoder } from '../../encoder/open-encoder.js';
import { openPackedSession } from '../../encoder/packed-session.js';
import { writeSafetensors, type Tensor } from '../../encoder/safetensors.js';
import { keepEnvironment } from '../support/environment.js';
import { fakeNpm } from '../support/fake-npm.js';
import { makeTinyModel, tinyConfig, tinyContent, tinyWeights } from '../support/tiny-model.js';
import { cosine, meanOf, referenceBert } from './reference-bert.js';
import { largestDifference, vectorsFrom } from './session-vectors.js';

const isPossible = process.platform === 'linux' && process.arch === 'x64';
const random = new Random(9);
const sequence = (length: number): Int32Array =>
  Int32Array.of(2, ...Array.from({ length: length - 2 }, () => 5 + random.below(140)), 3);
// Around the rows of a tile, 6 and 14, and the places of an attention row, 16.
const SEQUENCES = [2, 3, 5, 6, 7, 13, 14, 15, 16, 17, 29, 33, 64].map(sequence);
const alone = SEQUENCES.map((ids) => [ids]);

type Options = Omit<KernelSessionOptions, 'threads'> & { pooling?: Pooling; threads?: number };

describe('the kernels', { skip: !isPossible && 'only Linux on x86-64' }, () => {
  let kernels: Kernels;
  let scratch: string;
  before(async () => {
    await buildKernels();
    const loaded = loadKernels();
    if ('reason' in loaded) throw new Error(loaded.reason);
    kernels = loaded;
    scratch = await mkdtemp(path.join(tmpdir(), 'kernels-'));
  });
  after(() => rm(scratch, { recursive: true }));

  let files = 0;
  async function vectorsOf(
    config: BertConfig,
    weights: Map<string, Tensor>,
    batches: Int32Array[][],
    { pooling = 'mean', threads = 2, ...options }: Options,
  ): Promise<Float32Array[]> {
    const weightsFile = path.join(scratch, `weights-${files++}.safetensors`);
    await writeSafetensors(weightsFile, weights);
    const { session } = await openKernelSession(
      kernels,
      { config, pooling, dense: [], normalize: false, weightsFile },
      { ...options, threads },
    );
    return vectorsFrom(session, batches, config.hiddenSize);
  }
  async function eachInstructions(run: (instructions: Instructions) => Promise<void>): Promise<void> {
    const here = kernels.instructions();
    assert.ok(here.length > 0, 'this processor has none');
    for (const instructions of here) await run(instructions);
  }

  describe('in fp32, which is 16 bits', () => {
    for (const shape of [
      { layers: 2, hiddenSize: 64, heads: 4 },
      { layers: 1, hiddenSize: 96, heads: 2 },
      { layers: 3, hiddenSize: 32, heads: 1 },
    ])
      it(`compute BERT, alone and in a batch of any lengths: ${JSON.stringify(shape)}`, () =>
        eachInstructions(async (instructions) => {
          const config = tinyConfig(shape);
          const weights = tinyWeights(config);
          const expected = SEQUENCES.map((ids) => referenceBert(config, weights, ids));
          const options = { precision: 'fp32', instructions } as const;
          for (const batches of [alone, [SEQUENCES], [[...SEQUENCES].reverse()]]) {
            const means = await vectorsOf(config, weights, batches, options);
            const firsts = await vectorsOf(config, weights, batches, { ...options, pooling: 'cls' });
            const order = batches.flat().map((ids) => SEQUENCES.indexOf(ids));
            order.forEach((of, i) => {
              assert.ok(cosine(means[i], meanOf(expected[of])) > 0.999999);
              assert.ok(cosine(firsts[i], expected[of][0]) > 0.999999);
              assert.ok(largestDifference(means[i], meanOf(expected[of])) < 1e-3);
            });
          }
        }));

    it('add up to no more than 32 bits hold, where all products are the largest and of one sign', () =>
      eachInstructions(async (instructions) => {
        const config = { ...tinyConfig({ layers: 1, hiddenSize: 64, heads: 2 }), intermediateSize: 2048 };
        const weights = tinyWeights(config);
        const fill = (name: string, value: number): unknown => weights.get(name)!.data.fill(value);
        // Every state before the inner layers is 3, so that each product of up and down has the same sign.
        fill('encoder.layer.0.attention.output.LayerNorm.weight', 0);
        fill('encoder.layer.0.attention.output.LayerNorm.bias', 3);
        fill('encoder.layer.0.intermediate.dense.weight', 0.5);
        fill('encoder.layer.0.intermediate.dense.bias', 0);
        const down = weights.get('encoder.layer.0.output.dense.weight')!.data;
        for (let i = 0; i < down.length; i++) down[i] = (1 + Math.floor(i / 2048)) / 64;
        const [found] = await vectorsOf(config, weights, [[SEQUENCES[7]]], {
          precision: 'fp32',
          instructions,
        });
        const expected = meanOf(referenceBert(config, weights, SEQUENCES[7]));
        assert.ok(largestDifference(found, expected) < 1e-3, `${found.join()} and ${expected.join()}`);
      }));

    it('stay finite where attention scores are huge', () =>
      eachInstructions(async (instructions) => {
        const config = tinyConfig({ hiddenSize: 64 });
        const weights = tinyWeights(config);
        for (const [name, { data }] of weights)
          if (/query|key/.test(name)) for (let i = 0; i < data.length; i++) data[i] *= 1000;
        const found = await vectorsOf(config, weights, [SEQUENCES], { precision: 'fp32', instructions });
        SEQUENCES.forEach((ids, i) =>
          assert.ok(cosine(found[i], meanOf(referenceBert(config, weights, ids))) > 0.999),
        );
      }));

    it('take GELU for what it is, from the least to the largest', () =>
      eachInstructions(async (instructions) => {
        const config = tinyConfig({ layers: 1, hiddenSize: 64, heads: 4 });
        const weights = tinyWeights(config);
        const bias = weights.get('encoder.layer.0.intermediate.dense.bias')!.data;
        for (const largest of [0.1, 1, 3, 6, 20]) {
          for (let i = 0; i < bias.length; i++) bias[i] = largest * ((2 * i) / (bias.length - 1) - 1);
          const [found] = await vectorsOf(config, weights, [[SEQUENCES[5]]], {
            precision: 'fp32',
            instructions,
          });
          const expected = meanOf(referenceBert(config, weights, SEQUENCES[5]));
          assert.ok(largestDifference(found, expected) < 1e-3, `up to ${largest}`);
        }
      }));

    it('have the words that are stored in 8 bits to the bit', () =>
      eachInstructions(async (instructions) => {
        const config = tinyConfig({ hiddenSize: 64 });
        const weights = tinyWeights(config);
        const name = 'embeddings.word_embeddings.weight';
        const words = weights.get(name)!;
        const inEight = dequantizeRows(quantizeRows(words));
        weights.set(name, { ...words, data: inEight });
        const options = { precision: 'fp32', instructions } as const;
        const [eight] = await vectorsOf(config, weights, [[SEQUENCES[7]]], options);
        // A word that is in no text, with a number that 8 bits of the largest do not hold: all rows are floats then.
        const floats = inEight.slice();
        floats[0] = 1 / 3;
        weights.set(name, { ...words, data: floats });
        const [whole] = await vectorsOf(config, weights, [[SEQUENCES[7]]], options);
        assert.deepEqual(eight, whole);
      }));
  });

  describe('in int8', () => {
    const config = tinyConfig({ layers: 2, hiddenSize: 96, heads: 3 });
    const weights = tinyWeights(config);

    it('are near to fp32, and not the same, and nearer to the ONNX graph in int8', () =>
      eachInstructions(async (instructions) => {
        const found = await vectorsOf(config, weights, alone, { precision: 'int8', instructions });
        const graph = await openPackedSession(Buffer.concat(packedGraph(config, weights, 'int8')), {
          ...config,
          ...{ precision: 'int8', pooling: 'mean', dense: [], normalize: false, threads: 1 },
        });
        const same = await vectorsFrom(graph, alone, config.hiddenSize);
        const exact = SEQUENCES.map((ids) => meanOf(referenceBert(config, weights, ids)));
        const mean = (numbers: number[]): number => numbers.reduce((a, b) => a + b) / numbers.length;
        const cosines = found.map((vector, i) => cosine(vector, exact[i]));
        assert.ok(Math.min(...cosines) > 0.99, cosines.join());
        assert.ok(Math.max(...cosines) < 1 - 1e-7, 'nothing was rounded');
        assert.ok(mean(found.map((vector, i) => cosine(vector, same[i]))) > mean(cosines));
      }));

    it('have the scale of each token to itself: a text with huge activations leaves the others as they are', () =>
      eachInstructions(async (instructions) => {
        const loud = tinyWeights(config);
        const places = loud.get('embeddings.position_embeddings.weight')!;
        places.data.subarray(40 * config.hiddenSize).fill(1e4);
        const options = { precision: 'int8', instructions } as const;
        const [short] = await vectorsOf(config, loud, [[SEQUENCES[4]]], options);
        const [same] = await vectorsOf(config, loud, [[SEQUENCES[4], SEQUENCES[12]]], options);
        assert.deepEqual(same, short);
      }));
  });

  for (const precision of ['fp32', 'int8'] as const) {
    const config = tinyConfig({ layers: 2, hiddenSize: 64, heads: 2 });
    const weights = tinyWeights(config);

    it(`give a text the same bits alone, in any batch and by any number of threads, in ${precision}`, () =>
      eachInstructions(async (instructions) => {
        const expected = await vectorsOf(config, weights, alone, { precision, instructions, threads: 1 });
        for (let round = 0; round < 12; round++) {
          const order = random
            .shuffle(Array.from({ length: 3 * SEQUENCES.length }, (_, i) => i % SEQUENCES.length))
            .slice(0, 1 + random.below(39));
          const batch = order.map((i) => SEQUENCES[i]);
          const threads = 1 + (round % 4);
          const found = await vectorsOf(config, weights, [batch], { precision, instructions, threads });
          order.forEach((i, at) => assert.deepEqual(found[at], expected[i]));
        }
      }));

    it(`make no number of what is none, in ${precision}`, () =>
      eachInstructions(async (instructions) => {
        for (const part of [
          'attention.self.query',
          'attention.self.value',
          'intermediate.dense',
          'output.dense',
        ]) {
          const broken = tinyWeights(config);
          broken.get(`encoder.layer.0.${part}.weight`)!.data.fill(1e38);
          const [found] = await vectorsOf(config, broken, [[SEQUENCES[5]]], { precision, instructions });
          assert.ok(
            found.every((value) => Number.isNaN(value)),
            `${part}: ${found.join()}`,
          );
        }
      }));

    it(`are finite where all activations of a token are zero, in ${precision}`, () =>
      eachInstructions(async (instructions) => {
        const still = tinyWeights(config);
        for (const [name, { data }] of still) if (/embeddings\.LayerNorm/.test(name)) data.fill(0);
        const [found] = await vectorsOf(config, still, [[SEQUENCES[5]]], { precision, instructions });
        assert.ok(cosine(found, meanOf(referenceBert(config, still, SEQUENCES[5]))) > 0.99);
      }));
  }

  it('refuse what would be outside their memory', async () => {
    const config = tinyConfig({ hiddenSize: 64 });
    const weights = tinyWeights(config);
    const wrong = [
      [Int32Array.of(2, config.vocabSize, 3), 'a token is not in the vocabulary'],
      [Int32Array.of(2, -1, 3), 'a token is not in the vocabulary'],
      [new Int32Array(config.maxPositions + 1), 'a text is too long, or empty'],
      [new Int32Array(0), 'a text is too long, or empty'],
    ] as const;
    for (const [ids, reason] of wrong)
      await assert.rejects(vectorsOf(config, weights, [[ids]], { precision: 'fp32' }), {
        kind: 'backend',
        message: `inference failed: ${reason}`,
      });
    const shape = {
      ...config,
      pooling: 'mean',
      bits: 16,
      threads: 1,
      instructions: kernels.instructions()[0],
    } as const;
    const handle = kernels.open(shape);
    assert.throws(() => kernels.finish(handle), { message: 'fewer weights than the model has' });
    const all = [...weights.values()].reduce((sum, { data }) => sum + data.length, 0);
    assert.throws(() => kernels.write(handle, new Float32Array(all + 1)), {
      message: 'more weights than the model has',
    });
    kernels.close(handle);
    assert.throws(() => kernels.encode(handle, new Int32Array(1), Int32Array.of(1), new Float32Array(64)), {
      message: 'the model is not loaded',
    });
    assert.throws(() => kernels.open({ ...shape, heads: 5 }), { message: /no kernels for that shape/ });
    assert.throws(() => kernels.open({ ...shape, instructions: 'sse' as Instructions }), {
      message: /no sse/,
    });
  });

  it('may be used by several sessions at once, and closed while others compute', async () => {
    const config = tinyConfig({ hiddenSize: 64 });
    const weights = tinyWeights(config);
    const [expected] = await vectorsOf(config, weights, [SEQUENCES], { precision: 'fp32', threads: 1 });
    const found = await Promise.all(
      Array.from({ length: 6 }, () => vectorsOf(config, weights, [SEQUENCES], { precision: 'fp32' })),
    );
    for (const [first] of found) assert.deepEqual(first, expected);
  });

  describe('when they are built', () => {
    const putBack = keepEnvironment('PATH');
    let bin: string;
    let home: string;
    beforeEach(async () => {
      home = await mkdtemp(path.join(scratch, 'build-'));
      bin = path.join(home, 'bin');
      await mkdir(bin);
      process.env.PATH = bin;
    });
    afterEach(() => putBack());
    /** It runs where what is compiled is in node_modules. */
    const npm = (...lines: string[]): Promise<void> => fakeNpm(bin, ...lines);
    const release = 'node_modules/sentence-jepa-kernels/build/Release';
    const kept = (): Promise<string[]> => readdir(path.join(home, 'kernels')).catch(() => []);
    const build = (): Promise<string> => buildKernels(undefined, path.join(home, 'kernels', 'digest'));

    it('are made once, and nothing is kept but the library', async () => {
      await npm(
        `[ "$*" = 'rebuild --global=false --foreground-scripts sentence-jepa-kernels' ] || exit 2`,
        `[ -f node_modules/sentence-jepa-kernels/binding.gyp ] || exit 3`,
        `mkdir -p ${release} && cp ${builtFile(builtFolder()!)} ${release}/`,
      );
      await mkdir(path.join(home, 'kernels', '0123456789ab'), { recursive: true });
      const folder = await build();
      assert.deepEqual(await readdir(folder), ['kernels.node']);
      assert.deepEqual(await kept(), ['digest']);
      assert.ok(!('reason' in loadKernels(folder)));
      await npm('exit 6');
      assert.equal(await build(), folder);
    });

    it('are not kept when they can not be loaded, and it says so', async () => {
      await npm(`mkdir -p ${release} && echo no library > ${release}/kernels.node`);
      await assert.rejects(build(), { kind: 'unavailable', message: /^they were built and do not work: / });
      assert.deepEqual(await kept(), []);
    });

    it('say what is missing to compile them', async () => {
      await npm('echo "npm error gyp ERR! stack Error: not found: make" >&2', 'exit 1');
      await assert.rejects(build(), { kind: 'unavailable', message: /npm failed: .*not found: make/ });
      assert.deepEqual(await kept(), []);
    });
  });

  describe('as an encoder', () => {
    const putBack = keepEnvironment('SENTENCE_JEPA_BACKEND');
    let suited: string;
    let other: string;
    before(async () => {
      suited = path.join(scratch, 'suited');
      await makeTinyModel(suited, { hiddenSize: 64, heads: 4, dense: [48, 24] });
      other = path.join(scratch, 'other');
      await makeTinyModel(other, { hiddenSize: 32, heads: 4 });
    });
    after(() => putBack());
    const backendOf = async (
      model: string,
      options: Parameters<typeof openEncoder>[1] = {},
    ): Promise<string> => {
      const encoder = await openEncoder(model, { threads: 1, ...options });
      await encoder.close();
      return encoder.backend;
    };

    it('make the vectors that ONNX Runtime makes, under the same fingerprint', async () => {
      const texts = [
        'how to install a driver',
        'usb',
        'the screen is black after the update, what can I do?',
      ];
      const [kernel, graph] = await Promise.all(
        (['kernels', 'onnxruntime'] as const).map((backend) => openEncoder(suited, { backend, threads: 2 })),
      );
      const [found, expected] = [await kernel.encode(texts), await graph.encode(texts)];
      assert.ok(largestDifference(found, expected) < 1e-3);
      assert.equal(kernel.fingerprint, graph.fingerprint);
      assert.equal(found.length, 3 * 24);
      await Promise.all([kernel.close(), graph.close()]);
    });

    it('are taken where they are built and suit the model', async () => {
      assert.equal(await backendOf(suited), 'kernels');
      assert.equal(await backendOf(suited, { precision: 'int8' }), 'kernels');
      assert.equal(await backendOf(suited, { precision: 'quantized' }), 'onnxruntime');
      assert.equal(await backendOf(other), 'onnxruntime');
      process.env.SENTENCE_JEPA_BACKEND = 'onnxruntime';
      assert.equal(await backendOf(suited), 'onnxruntime');
      assert.equal(await backendOf(suited, { backend: 'kernels' }), 'kernels');
      putBack();
    });

    it('say why they are not, when they are asked for', async () => {
      await assert.rejects(backendOf(other, { backend: 'kernels' }), {
        kind: 'unavailable',
        message: /can't compute other: they are for a hidden size .* other has 32, 64 and 8$/,
      });
      await assert.rejects(backendOf(suited, { backend: 'kernels', precision: 'quantized' }), {
        kind: 'unavailable',
        message: /own graph, which ONNX Runtime runs/,
      });
      const nowhere = path.join(scratch, 'nowhere');
      assert.deepEqual(loadKernels(nowhere), { reason: 'they are not built: npm run setup -- --kernels' });
      await mkdir(nowhere);
      await writeFile(path.join(nowhere, 'kernels.node'), 'no library');
      const broken = loadKernels(nowhere);
      assert.match(
        'reason' in broken ? broken.reason : '',
        /can't be loaded \(.*\); remove .*nowhere and build/,
      );
      process.env.SENTENCE_JEPA_BACKEND = 'cuda';
      await assert.rejects(backendOf(suited), {
        kind: 'invalid',
        message: 'SENTENCE_JEPA_BACKEND: expected auto, kernels, onnxruntime, found cuda',
      });
      putBack();
    });

    it('have the digest of the weights from reading them once', async () => {
      const { weightsFile, config } = await openModelFolder(suited);
      let read = 0;
      const digest = await weightsFileDigest(weightsFile!, config, ({ length }) => (read += length));
      const { weights } = tinyContent({ hiddenSize: 64, heads: 4 });
      assert.equal(digest, weightsDigest(config, weights));
      assert.equal(
        read,
        [...weights.values()].reduce((sum, { data }) => sum + data.length, 0),
      );
    });
  });
});
