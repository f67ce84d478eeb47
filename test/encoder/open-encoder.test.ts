import assert from 'node:assert/strict';
import { cp, mkdtemp, readdir, readFile, rm, stat, truncate, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { env, pipeline } from '@xenova/transformers';

import { batchByLength } from '../../encoder/batches.js';
import { openEncoder, type OpenEncoderOptions } from '../../encoder/open-encoder.js';
import { normalizeRows, pool } from '../../encoder/pooling.js';
import { readSafetensors, writeSafetensors } from '../../encoder/safetensors.js';
import { makeTinyModel } from '../support/tiny-model.js';
import { cosine } from './reference-bert.js';
import { keepEnvironment } from '../support/environment.js';

const TEXTS = [
  'how to install a driver',
  'usb',
  'the screen is black after the update, what can I do?',
  'how to install a driver',
  'x '.repeat(200),
  'wireless network slow',
];
const D = 32;

let scratch: string;
let whole: string;
const putBack = keepEnvironment('SENTENCE_JEPA_CACHE');
before(async () => {
  scratch = await mkdtemp(path.join(tmpdir(), 'open-encoder-'));
  process.env.SENTENCE_JEPA_CACHE = path.join(scratch, 'cache');
  whole = path.join(scratch, 'whole');
  await makeTinyModel(whole);
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

async function encodeWith(
  dir: string,
  texts = TEXTS,
  options: OpenEncoderOptions = {},
): Promise<Float32Array> {
  const encoder = await openEncoder(dir, { threads: 1, ...options });
  try {
    return await encoder.encode(texts);
  } finally {
    await encoder.close();
  }
}

async function fingerprintOf(dir: string, options: OpenEncoderOptions = {}): Promise<string> {
  const encoder = await openEncoder(dir, { threads: 1, ...options });
  await encoder.close();
  return encoder.fingerprint;
}

const row = (vectors: Float32Array, i: number): Float32Array => vectors.subarray(i * D, (i + 1) * D);

const largestDifference = (a: Float32Array, b: Float32Array): number =>
  a.reduce((largest, value, i) => Math.max(largest, Math.abs(value - b[i])), 0);

describe('pooling', () => {
  // Two texts of 1 and 2 tokens, padded to 2, d = 2; the padding must not show.
  const hidden = Float32Array.of(1, 2, 99, 99, 3, 4, 5, 8);
  it('takes the mean over the real tokens', () =>
    assert.deepEqual([...pool(hidden, [1, 2], 2, 2, 'mean')], [1, 2, 4, 6]));
  it('takes the first token', () => assert.deepEqual([...pool(hidden, [1, 2], 2, 2, 'cls')], [1, 2, 3, 4]));
  it('scales rows to length 1 and leaves a row of zeros', () => {
    const rows = Float32Array.of(3, 4, 0, 0);
    normalizeRows(rows, 2);
    assert.deepEqual([...rows], [Math.fround(0.6), Math.fround(0.8), 0, 0]);
  });
});

describe('batches', () => {
  it('hold texts of like length within the budget, longest first, each text once', () => {
    assert.deepEqual(batchByLength([2, 9, 3, 4, 40, 4], 12), [[4], [1], [3, 5, 2], [0]]);
    assert.deepEqual(batchByLength([], 12), []);
  });
});

describe('an encoder', () => {
  it('gives a row a text, in order, of length 1, duplicates alike', async () => {
    const vectors = await encodeWith(whole);
    assert.equal(vectors.length, TEXTS.length * D);
    for (let i = 0; i < TEXTS.length; i++) {
      const length = Math.sqrt(row(vectors, i).reduce((sum, value) => sum + value * value, 0));
      assert.ok(Math.abs(length - 1) < 1e-6);
    }
    assert.deepEqual(row(vectors, 3), row(vectors, 0));
    for (const [i, text] of TEXTS.entries())
      assert.ok(largestDifference(await encodeWith(whole, [text]), row(vectors, i)) < 1e-5);
  });

  it('gives no rows for no texts', async () => assert.equal((await encodeWith(whole, [])).length, 0));

  it('encodes many texts in several batches as it encodes each alone', async () => {
    const words = 'install update boot disk panel screen sound'.split(' ');
    const many = Array.from({ length: 300 }, (_, i) =>
      Array.from({ length: 1 + (i % 23) }, (_, j) => words[(i * 3 + j * 5) % 7]).join(' '),
    );
    const vectors = await encodeWith(whole, many);
    for (const i of [0, 22, 150, 299])
      assert.ok(largestDifference(await encodeWith(whole, [many[i]]), row(vectors, i)) < 1e-5);
  });

  it('reports progress up to all, and stops when it is told to', async () => {
    const encoder = await openEncoder(whole, { threads: 1 });
    const texts = Array.from({ length: 200 }, (_, i) => `${'disk '.repeat(i % 20)} ${i}`);
    const reports: number[] = [];
    await encoder.encode(texts, { onProgress: (done, total) => reports.push(done / total) });
    assert.ok(reports.length > 2);
    assert.ok(reports.every((value, i) => i === 0 || value > reports[i - 1]));
    assert.equal(reports.at(-1), 1);

    const controller = new AbortController();
    let batches = 0;
    const onProgress = (): void => {
      batches++;
      controller.abort(new Error('enough'));
    };
    await assert.rejects(encoder.encode(texts, { onProgress, signal: controller.signal }), /enough/);
    assert.equal(batches, 1);
    await encoder.close();
  });

  it('cuts off at maxTokens, which may be lower than the folder says and never above its positions', async () => {
    const cut = await encodeWith(whole, ['disk boot panel', 'disk'], { maxTokens: 3 });
    assert.deepEqual(row(cut, 0), row(cut, 1));
    await assert.rejects(openEncoder(whole, { maxTokens: 65 }), {
      kind: 'invalid',
      message: /3 to 64 tokens/,
    });
  });

  for (const [dtype, precision] of [
    ['fp32', 'fp32'],
    ['q8', 'quantized'],
  ] as const)
    it(`gives the vectors of plain transformers.js over the same folder: ${precision}`, async () => {
      env.allowRemoteModels = false;
      const plain = await pipeline('feature-extraction', whole, { dtype });
      // One by one: in 8 bits a text's vector moves with its batch-mates. And only texts that fit: of a longer
      // one transformers.js loses [SEP], which sentence-transformers keeps.
      for (const text of TEXTS.filter(({ length }) => length < 100)) {
        const { data } = await plain(text, { pooling: 'mean', normalize: true });
        const ours = await encodeWith(whole, [text], { precision });
        assert.ok(cosine(ours, data as Float32Array) > 0.99999, text);
      }
      await plain.dispose();
    });
});

describe('graphs built for a folder without them', () => {
  it('are kept in the cache and give the same vectors, in every precision', async () => {
    const dir = await copy();
    await rm(path.join(dir, 'onnx'), { recursive: true });
    for (const precision of ['fp32', 'int8', 'quantized'] as const) {
      assert.deepEqual(
        await encodeWith(dir, TEXTS, { precision }),
        await encodeWith(whole, TEXTS, { precision }),
      );
      assert.equal(await fingerprintOf(dir, { precision }), await fingerprintOf(whole, { precision }));
    }
    const [built] = await readdir(path.join(scratch, 'cache', 'graphs'));
    const at = path.join(scratch, 'cache', 'graphs', built);
    assert.deepEqual((await readdir(at)).sort(), ['packed-fp32.onnx', 'packed-int8.onnx', 'quantized.onnx']);
    const { mtimeMs } = await stat(path.join(at, 'packed-fp32.onnx'));
    await encodeWith(dir);
    assert.equal((await stat(path.join(at, 'packed-fp32.onnx'))).mtimeMs, mtimeMs);
  });

  it('are not needed by a folder with nothing but onnx/', async () => {
    const dir = await copy();
    await unlink(path.join(dir, 'model.safetensors'));
    const [theirs, ours] = [await encodeWith(dir), await encodeWith(whole)];
    theirs.forEach((value, i) => assert.ok(Math.abs(value - ours[i]) < 1e-6));
    await assert.rejects(openEncoder(dir, { precision: 'int8' }), {
      kind: 'unsupported-model',
      message: /expected model\.safetensors, found only the fp32 graph; run it with --precision fp32/,
    });
    await unlink(path.join(dir, 'onnx', 'model.onnx'));
    await assert.rejects(openEncoder(dir), {
      kind: 'unsupported-model',
      message: /found only the quantized graph; run it with --precision quantized/,
    });
  });
});

describe('the fingerprint', () => {
  const edit =
    (file: string, change: (text: string) => string) =>
    async (dir: string): Promise<void> => {
      const name = path.join(dir, file);
      await writeFile(name, change(await readFile(name, 'utf8')));
    };
  const deciding: Record<string, (dir: string) => Promise<void>> = {
    'a weight': async (dir) => {
      const file = path.join(dir, 'model.safetensors');
      const weights = await readSafetensors(file);
      weights.get('encoder.layer.1.output.LayerNorm.bias')!.data[0] += 1e-3;
      await writeSafetensors(file, weights);
      await rm(path.join(dir, 'onnx'), { recursive: true });
    },
    'the number of heads': edit('config.json', (text) =>
      text.replace('"num_attention_heads": 4', '"num_attention_heads": 8'),
    ),
    'the vocabulary': edit('tokenizer.json', (text) => text.replace('"disk"', '"disc"')),
    pooling: edit('1_Pooling/config.json', (text) =>
      text
        .replace('"pooling_mode_cls_token": false', '"pooling_mode_cls_token": true')
        .replace('"pooling_mode_mean_tokens": true', '"pooling_mode_mean_tokens": false'),
    ),
    normalization: edit('modules.json', (text) =>
      JSON.stringify((JSON.parse(text) as unknown[]).slice(0, 2)),
    ),
    'the longest text': edit('sentence_bert_config.json', (text) => text.replace('32', '31')),
    'lower-casing': edit('sentence_bert_config.json', (text) => text.replace('false', 'true')),
  };
  for (const [what, change] of Object.entries(deciding))
    it(`changes with ${what}`, async () => {
      const dir = await copy();
      await change(dir);
      assert.notEqual(await fingerprintOf(dir), await fingerprintOf(whole));
    });

  it('changes with the precision and with a lower maxTokens', async () => {
    const prints = new Set([
      await fingerprintOf(whole),
      await fingerprintOf(whole, { precision: 'int8' }),
      await fingerprintOf(whole, { precision: 'quantized' }),
      await fingerprintOf(whole, { maxTokens: 10 }),
    ]);
    assert.equal(prints.size, 4);
  });

  it('changes with nothing else', async () => {
    const dir = await copy();
    for (const file of ['README.md', 'sentence-jepa.json', 'special_tokens_map.json', 'vocab.txt'])
      await unlink(path.join(dir, file));
    await edit('config.json', (text) =>
      text.replace('"hidden_dropout_prob": 0.1', '"hidden_dropout_prob": 0.5'),
    )(dir);
    const file = path.join(dir, 'model.safetensors');
    const weights = [...(await readSafetensors(file))].reverse();
    await writeSafetensors(
      file,
      new Map([
        ...weights.map(([name, tensor]) => [`bert.${name}`, tensor] as const),
        ['bert.pooler.dense.bias', { shape: [1], data: Float32Array.of(1) }],
      ]),
      { made: 'elsewhere' },
    );
    assert.equal(await fingerprintOf(dir), await fingerprintOf(whole));
  });
});

describe('a graph that can not be run', () => {
  it('is refused by its name when it is cut short', async () => {
    const dir = await copy();
    // With weights, its own graphs are not looked at.
    await unlink(path.join(dir, 'model.safetensors'));
    await truncate(path.join(dir, 'onnx', 'model.onnx'), 10_000);
    await assert.rejects(openEncoder(dir), {
      kind: 'corrupt',
      message:
        /onnx\/model\.onnx: expected an ONNX graph, .* \(Protobuf parsing failed\.\); is it cut short\?/,
    });
  });

  it('is refused with what was looked for when there is no such model', async () => {
    await assert.rejects(openEncoder(path.join(scratch, 'no')), {
      kind: 'not-found',
      message: /no such model folder$/,
    });
    await assert.rejects(openEncoder('all-MiniLM-L6-v2'), {
      kind: 'not-found',
      message: /fetch it with: sentence-jepa model get all-MiniLM-L6-v2/,
    });
  });
});
