import assert from 'node:assert/strict';
import { cp, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { AutoModel, AutoTokenizer, env, type Tensor as HubTensor } from '@xenova/transformers';

import { writeCompactFolder } from '../../encoder/compact.js';
import { applyDense, denseDimensions, type DenseLayer } from '../../encoder/dense.js';
import { openModelFolder, readOrigin, loadWeights, writeModelFolder } from '../../encoder/model-folder.js';
import { openEncoder } from '../../encoder/open-encoder.js';
import { readSafetensors, writeSafetensors } from '../../encoder/safetensors.js';
import { verifyModel } from '../../encoder/verify.js';
import { makeTinyModel, tinyContent } from '../support/tiny-model.js';
import { keepEnvironment } from '../support/environment.js';

const TEXTS = ['how do i install a package', 'usb', 'the wireless network is slow after the last upgrade'];

const putBack = keepEnvironment('SENTENCE_JEPA_CACHE');
let scratch: string;
/** Of 32 dimensions; with Dense modules to 24, and by a tanh to 16. */
let whole: string;
before(async () => {
  scratch = await mkdtemp(path.join(tmpdir(), 'dense-'));
  process.env.SENTENCE_JEPA_CACHE = path.join(scratch, 'cache');
  whole = path.join(scratch, 'whole');
  await makeTinyModel(whole, { dense: [24, 16] });
});
after(async () => {
  putBack();
  await rm(scratch, { recursive: true });
});

let copies = 0;
async function copy(): Promise<string> {
  const dir = path.join(scratch, `copy-${copies++}`);
  await cp(whole, dir, { recursive: true });
  return dir;
}

async function editConfig(dir: string, change: Record<string, unknown>): Promise<void> {
  const file = path.join(dir, '2_Dense', 'config.json');
  const json = JSON.parse(await readFile(file, 'utf8')) as object;
  await writeFile(file, JSON.stringify({ ...json, ...change }));
}

async function editWeights(
  dir: string,
  change: (weights: Map<string, DenseLayer['weight']>) => void,
): Promise<void> {
  const file = path.join(dir, '2_Dense', 'model.safetensors');
  const weights = await readSafetensors(file);
  change(weights);
  await writeSafetensors(file, weights);
}

async function encode(dir: string, texts = TEXTS): Promise<Float32Array> {
  const encoder = await openEncoder(dir, { threads: 1 });
  return encoder.encode(texts).finally(() => encoder.close());
}

function assertNear(found: ArrayLike<number>, expected: ArrayLike<number>, within = 1e-6): void {
  assert.equal(found.length, expected.length);
  for (let i = 0; i < found.length; i++)
    assert.ok(Math.abs(found[i] - expected[i]) < within, `at ${i}: ${found[i]}, expected ${expected[i]}`);
}

describe('a Dense layer', () => {
  const layer: DenseLayer = {
    weight: { shape: [2, 3], data: Float32Array.of(1, 2, 3, 0, -1, 0.5) },
    bias: Float32Array.of(10, -1),
    activation: 'identity',
  };

  it('gives W x + b', () => {
    const vectors = Float32Array.of(1, 0, 0, 1, 2, 3);
    assert.deepEqual([...applyDense(vectors, [layer])], [11, -1, 24, -1.5]);
    assert.deepEqual([...applyDense(vectors, [{ ...layer, bias: undefined }])], [1, 0, 14, -0.5]);
  });

  it('gives the tanh of it', () => {
    const found = applyDense(Float32Array.of(-3, 0, 0), [{ ...layer, bias: undefined, activation: 'tanh' }]);
    assertNear(found, [-0.9950547536867305, 0]);
  });

  it('takes vectors of any length', () => {
    for (let d = 1; d <= 9; d++) {
      const data = Float32Array.from({ length: d }, (_, i) => i + 1);
      const ones = new Float32Array(d).fill(1);
      const sum: DenseLayer = { weight: { shape: [1, d], data }, activation: 'identity' };
      assert.deepEqual([...applyDense(ones, [sum])], [(d * (d + 1)) / 2]);
    }
  });

  it('stands behind another, and none changes nothing', () => {
    const second: DenseLayer = {
      weight: { shape: [1, 2], data: Float32Array.of(2, 1) },
      activation: 'identity',
    };
    assert.deepEqual([...applyDense(Float32Array.of(1, 2, 3), [layer, second])], [46.5]);
    assert.equal(denseDimensions(3, [layer, second]), 1);
    const vectors = Float32Array.of(1, 2, 3);
    assert.equal(applyDense(vectors, []), vectors);
    assert.equal(denseDimensions(3, []), 3);
  });
});

describe('a model folder with Dense modules', () => {
  it('has them between pooling and normalization, as sentence-transformers writes them', async () => {
    const modules = JSON.parse(await readFile(path.join(whole, 'modules.json'), 'utf8')) as Record<
      string,
      string
    >[];
    assert.deepEqual(
      modules.map(({ path: folder, type }) => [folder, type]),
      [
        ['', 'sentence_transformers.models.Transformer'],
        ['1_Pooling', 'sentence_transformers.models.Pooling'],
        ['2_Dense', 'sentence_transformers.models.Dense'],
        ['3_Dense', 'sentence_transformers.models.Dense'],
        ['4_Normalize', 'sentence_transformers.models.Normalize'],
      ],
    );
    assert.deepEqual(JSON.parse(await readFile(path.join(whole, '3_Dense/config.json'), 'utf8')), {
      in_features: 24,
      out_features: 16,
      bias: true,
      activation_function: 'torch.nn.modules.activation.Tanh',
    });
    const files = (await readdir(whole, { recursive: true })).filter((file) => file.includes('_'));
    assert.ok(files.includes('2_Dense/model.safetensors') && files.includes('4_Normalize/config.json'));
    assert.deepEqual(
      [...(await readSafetensors(path.join(whole, '2_Dense/model.safetensors')))].map(([name, { shape }]) => [
        name,
        shape,
      ]),
      [
        ['linear.weight', [24, 32]],
        ['linear.bias', [24]],
      ],
    );
  });

  it('reads back as what was written, and is all there', async () => {
    const folder = await openModelFolder(whole);
    assert.deepEqual(folder.dense, tinyContent({ dense: [24, 16] }).dense);
    assert.equal(folder.normalize, true);
    const { missing, problems, digests } = await verifyModel(folder);
    assert.deepEqual([missing, problems], [[], []]);
    assert.match(digests['3_Dense/model.safetensors'], /^[0-9a-f]{64}$/);
  });

  it('gives vectors of the last one, of length 1: those that it pools, through both', async () => {
    const plain = path.join(scratch, 'plain');
    await makeTinyModel(plain, { normalize: false });
    const pooled = await encode(plain);
    const [first, second] = tinyContent({ dense: [24, 16] }).dense;
    const through = ({ weight: { shape, data }, bias }: DenseLayer, x: number[]): number[] =>
      Array.from({ length: shape[0] }, (_, j) =>
        x.reduce((sum, value, i) => sum + value * data[j * shape[1] + i], bias![j]),
      );
    const expected = TEXTS.flatMap((_, row) => {
      const x = [...pooled.subarray(32 * row, 32 * (row + 1))];
      const y = through(second, through(first, x)).map(Math.tanh);
      const length = Math.hypot(...y);
      return y.map((value) => value / length);
    });
    assertNear(await encode(whole), expected);
  });

  it('has another fingerprint for another weight, bias or activation', async () => {
    const fingerprint = async (change: (dir: string) => Promise<void>): Promise<string> => {
      const dir = await copy();
      await change(dir);
      const encoder = await openEncoder(dir, { threads: 1 });
      await encoder.close();
      return encoder.fingerprint;
    };
    const fingerprints = [
      await fingerprint(async () => {}),
      await fingerprint((dir) =>
        editWeights(dir, (weights) => (weights.get('linear.weight')!.data[5] += 1e-6)),
      ),
      await fingerprint((dir) =>
        editWeights(dir, (weights) => (weights.get('linear.bias')!.data[5] += 1e-6)),
      ),
      await fingerprint((dir) => editConfig(dir, { bias: false })),
      await fingerprint((dir) =>
        editConfig(dir, { activation_function: 'torch.nn.modules.activation.Tanh' }),
      ),
    ];
    assert.equal(new Set(fingerprints).size, 5);
  });

  it('is written whole again, and compact, and gives the same vectors', async () => {
    const folder = await openModelFolder(whole);
    const content = { ...folder, weights: await loadWeights(folder), ...(await readOrigin(folder)) };
    const [again, compact] = [path.join(scratch, 'again'), path.join(scratch, 'compact')];
    await writeModelFolder(again, content);
    assert.deepEqual(await encode(again), await encode(whole));

    await writeCompactFolder(compact, content);
    assert.ok((await readdir(compact)).includes('3_Dense'));
    const expected = await encode(whole);
    const found = await encode(compact);
    for (let row = 0; row < TEXTS.length; row++) {
      const at = (vectors: Float32Array): Float32Array => vectors.subarray(16 * row, 16 * (row + 1));
      const cosine = at(found).reduce((sum, value, i) => sum + value * at(expected)[i], 0);
      assert.ok(cosine > 0.999, `cosine ${cosine}`);
    }
  });

  it('is unpacked anew when a Dense module of the compact folder changes', async () => {
    const compact = path.join(scratch, 'compact-changed');
    await writeCompactFolder(compact, tinyContent({ dense: [24, 16] }));
    const before = await encode(compact);
    await editWeights(compact, (weights) => weights.get('linear.bias')!.data.fill(1));
    assert.notDeepEqual(await encode(compact), before);
  });

  it('reads the spellings of sentence-transformers 6, names of its own, and no bias', async () => {
    const dir = await copy();
    await rename(path.join(dir, '2_Dense'), path.join(dir, '2_Dense_24'));
    const modules = ['Transformer', 'Pooling', 'Dense'].map((name, i) => ({
      path: ['', '1_Pooling', '2_Dense_24'][i],
      type: `sentence_transformers.base.modules.${name.toLowerCase()}.${name}`,
    }));
    await writeFile(path.join(dir, 'modules.json'), JSON.stringify(modules));
    const file = path.join(dir, '2_Dense_24/config.json');
    const names = { module_input_name: 'sentence_embedding', module_output_name: null };
    const config = JSON.parse(await readFile(file, 'utf8')) as object;
    await writeFile(file, JSON.stringify({ ...config, ...names, bias: false }));
    const { dense, normalize } = await openModelFolder(dir);
    assert.deepEqual([dense.length, dense[0].bias, normalize], [1, undefined, false]);
  });

  const refusals: [what: string, change: (dir: string) => Promise<void>, kind: string, message: RegExp][] = [
    [
      'another activation',
      (dir) => editConfig(dir, { activation_function: 'torch.nn.modules.activation.ReLU' }),
      'unsupported-model',
      /2_Dense\/config\.json: activation_function: expected torch\.nn\.modules\.linear\.Identity or .*Tanh, found .*ReLU/,
    ],
    [
      'vectors of another length',
      (dir) => editConfig(dir, { in_features: 48 }),
      'unsupported-model',
      /in_features: expected 32, the length of the vectors that it gets, found 48/,
    ],
    [
      'no length of its own',
      (dir) => editConfig(dir, { out_features: 0 }),
      'unsupported-model',
      /out_features: expected a whole number from 1 up, found 0/,
    ],
    [
      'token vectors for input',
      (dir) => editConfig(dir, { module_input_name: 'token_embeddings' }),
      'unsupported-model',
      /module_input_name: expected sentence_embedding, found token_embeddings/,
    ],
    [
      'a weight of another shape',
      (dir) => editConfig(dir, { out_features: 20 }),
      'unsupported-model',
      /2_Dense\/model\.safetensors: linear\.weight: expected shape \[20, 32\], found \[24, 32\]/,
    ],
    [
      'a bias that is not there',
      (dir) => editWeights(dir, (weights) => weights.delete('linear.bias')),
      'unsupported-model',
      /linear\.bias: expected shape \[24\], found no such tensor/,
    ],
    [
      'a weight that is NaN',
      (dir) => editWeights(dir, (weights) => (weights.get('linear.weight')!.data[7] = Number.NaN)),
      'corrupt',
      /linear\.weight: expected finite numbers/,
    ],
    [
      'no weights',
      (dir) => rm(path.join(dir, '2_Dense/model.safetensors')),
      'not-found',
      /2_Dense\/model\.safetensors: no such file/,
    ],
  ];
  for (const [what, change, kind, message] of refusals)
    it(`is refused with a message that names it: ${what}`, async () => {
      const dir = await copy();
      await change(dir);
      await assert.rejects(openModelFolder(dir), { name: 'UserError', kind, message });
    });
});

describe('the graphs of a folder with Dense modules, in transformers.js', () => {
  for (const options of [{}, { pooling: 'cls' }, { normalize: false }] as const)
    it(`say the whole vector too: ${JSON.stringify(options)}`, async () => {
      const dir = path.join(scratch, `graphs-${copies++}`);
      await makeTinyModel(dir, { dense: [24, 16], ...options });
      const allowed = env.allowRemoteModels;
      env.allowRemoteModels = false;
      try {
        const tokenizer = await AutoTokenizer.from_pretrained(dir);
        const model = await AutoModel.from_pretrained(dir, { dtype: 'fp32', device: 'cpu' });
        const inputs: unknown = await tokenizer(TEXTS, { padding: true, truncation: true });
        const outputs = (await model(inputs)) as Record<string, HubTensor>;
        assertNear(outputs.sentence_embedding.data as Float32Array, await encode(dir), 1e-5);
        assert.deepEqual(outputs.sentence_embedding.dims, [3, 16]);
        assert.equal(outputs.last_hidden_state.dims[2], 32);
        await model.dispose();
      } finally {
        env.allowRemoteModels = allowed;
      }
    });
});
