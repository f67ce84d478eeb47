import assert from 'node:assert/strict';
import {
  cp,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  truncate,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { bertTensors } from '../../encoder/bert.js';
import { loadWeights, openModelFolder, writeModelFolder } from '../../encoder/model-folder.js';
import { loadTokenizer } from '../../encoder/tokenizer.js';
import { readSafetensors, writeSafetensors, type Tensor } from '../../encoder/safetensors.js';
import { makeTinyModel, tinyConfig, tinyContent } from '../support/tiny-model.js';

let scratch: string;
let whole: string;
before(async () => {
  scratch = await mkdtemp(path.join(tmpdir(), 'model-folder-'));
  whole = path.join(scratch, 'whole');
  await makeTinyModel(whole);
});
after(() => rm(scratch, { recursive: true }));

let copies = 0;
/** A copy of the whole model to be changed. */
async function copy(): Promise<string> {
  const dir = path.join(scratch, `copy-${copies++}`);
  await cp(whole, dir, { recursive: true });
  return dir;
}

async function edit(dir: string, file: string, change: Record<string, unknown>): Promise<void> {
  const name = path.join(dir, file);
  const json = JSON.parse(await readFile(name, 'utf8')) as object;
  await writeFile(name, JSON.stringify({ ...json, ...change }));
}

/** Writes the weights again, some of them changed. */
async function editWeights(dir: string, change: (weights: Map<string, Tensor>) => void): Promise<void> {
  const file = path.join(dir, 'model.safetensors');
  const weights = await readSafetensors(file);
  change(weights);
  await writeSafetensors(file, weights);
}

describe('writing a model folder', () => {
  it('writes every file that the other runtimes look for', async () => {
    const files = await readdir(whole, { recursive: true });
    assert.deepEqual(files.sort(), [
      '1_Pooling',
      '1_Pooling/config.json',
      '2_Normalize',
      '2_Normalize/config.json',
      'README.md',
      'config.json',
      'config_sentence_transformers.json',
      'model.safetensors',
      'modules.json',
      'onnx',
      'onnx/model.onnx',
      'onnx/model_quantized.onnx',
      'sentence-jepa.json',
      'sentence_bert_config.json',
      'special_tokens_map.json',
      'tokenizer.json',
      'tokenizer_config.json',
      'vocab.txt',
    ]);
  });

  it('reads back as what was written', async () => {
    const content = tinyContent();
    const folder = await openModelFolder(whole);
    const { config, pooling, normalize, maxTokens, lowerCase, tokenizer, notes } = folder;
    assert.deepEqual(
      { config, pooling, normalize, maxTokens, lowerCase },
      {
        config: tinyConfig(),
        pooling: 'mean',
        normalize: true,
        maxTokens: 32,
        lowerCase: false,
      },
    );
    assert.equal(tokenizer.tokenizerJson, content.tokenizer.tokenizerJson);
    assert.deepEqual(notes, []);
    assert.deepEqual(await loadWeights(folder), content.weights);
    assert.deepEqual([...(await loadWeights(folder)).keys()], [...bertTensors(config).keys()]);
    assert.equal(folder.name, 'whole');
  });

  it('writes [CLS] pooling without normalization so that it reads back', async () => {
    const dir = path.join(scratch, 'cls');
    await makeTinyModel(dir, { pooling: 'cls', normalize: false });
    const { pooling, normalize } = await openModelFolder(dir);
    assert.deepEqual({ pooling, normalize }, { pooling: 'cls', normalize: false });
    assert.ok(!(await readdir(dir)).includes('2_Normalize'));
  });

  it('refuses a folder that is there, and leaves it alone', async () => {
    const before = await stat(path.join(whole, 'model.safetensors'));
    await assert.rejects(makeTinyModel(whole), { kind: 'exists', message: /whole: already there/ });
    assert.equal((await stat(path.join(whole, 'model.safetensors'))).mtimeMs, before.mtimeMs);
  });

  it('leaves nothing behind when it fails in the middle', async () => {
    const own = await mkdtemp(path.join(scratch, 'own-'));
    const content = tinyContent();
    const weights = new Map(content.weights);
    weights.delete('encoder.layer.1.output.dense.bias');
    await assert.rejects(writeModelFolder(path.join(own, 'model'), { ...content, weights }));
    assert.deepEqual(await readdir(own), []);
  });
});

describe('opening a model folder', () => {
  it('takes one without onnx/, and one with nothing but onnx/', async () => {
    const plain = await copy();
    await rm(path.join(plain, 'onnx'), { recursive: true });
    const { graphs, weightsFile } = await openModelFolder(plain);
    assert.deepEqual(graphs, {});
    assert.ok(weightsFile);

    const graphOnly = await copy();
    await unlink(path.join(graphOnly, 'model.safetensors'));
    const folder = await openModelFolder(graphOnly);
    assert.deepEqual(Object.keys(folder.graphs), ['fp32', 'quantized']);
    await assert.rejects(loadWeights(folder), {
      kind: 'unsupported-model',
      message: /expected model.safetensors, found only ONNX graphs/,
    });

    await rm(path.join(plain, 'model.safetensors'));
    await assert.rejects(
      openModelFolder(plain),
      /expected model.safetensors or onnx\/model.onnx, found neither/,
    );
  });

  it('takes a BERT with no sign of sentence-transformers, and says what it assumes', async () => {
    const dir = await copy();
    for (const file of ['modules.json', '1_Pooling', '2_Normalize', 'sentence_bert_config.json'])
      await rm(path.join(dir, file), { recursive: true });
    await edit(dir, 'tokenizer_config.json', { model_max_length: 1e30 });
    const { pooling, normalize, maxTokens, notes } = await openModelFolder(dir);
    assert.deepEqual({ pooling, normalize, maxTokens }, { pooling: 'mean', normalize: true, maxTokens: 64 });
    assert.equal(notes.length, 3);
  });

  it('reads the spellings of sentence-transformers 6', async () => {
    const dir = await copy();
    const type = (name: string, file: string): string =>
      `sentence_transformers.${name}.modules.${file.toLowerCase()}.${file}`;
    const modules = [
      { idx: 0, name: '0', path: '', type: type('base', 'Transformer') },
      { idx: 1, name: '1', path: 'pool', type: type('sentence_transformer', 'Pooling') },
    ];
    await writeFile(path.join(dir, 'modules.json'), JSON.stringify(modules));
    await rename(path.join(dir, '1_Pooling'), path.join(dir, 'pool'));
    const pooling = { embedding_dimension: 32, pooling_mode: 'cls', include_prompt: true };
    await writeFile(path.join(dir, 'pool/config.json'), JSON.stringify(pooling));
    const folder = await openModelFolder(dir);
    assert.equal(folder.pooling, 'cls');
    assert.equal(folder.normalize, false);
  });

  it('makes the tokenizer from vocab.txt when there is no tokenizer.json', async () => {
    const dir = await copy();
    await unlink(path.join(dir, 'tokenizer.json'));
    const text = 'How to install USB-drivers, v2?';
    const expected = loadTokenizer(await openModelFolder(whole)).encode(text);
    assert.deepEqual(loadTokenizer(await openModelFolder(dir)).encode(text), expected);
  });

  it('takes weights of a BertForPreTraining: a prefix, old names of LayerNorm, a pooler, position ids', async () => {
    const dir = await copy();
    const expected = await loadWeights(await openModelFolder(dir));
    await editWeights(dir, (weights) => {
      for (const [name, tensor] of [...weights].reverse()) {
        weights.delete(name);
        const old = name
          .replace('LayerNorm.weight', 'LayerNorm.gamma')
          .replace('LayerNorm.bias', 'LayerNorm.beta');
        weights.set(`bert.${old}`, tensor);
      }
      weights.set('bert.pooler.dense.bias', { shape: [32], data: new Float32Array(32) });
      weights.set('bert.embeddings.position_ids', { shape: [1, 2], data: new Float32Array(2) });
      weights.set('cls.predictions.bias', { shape: [1], data: Float32Array.of(Number.NaN) });
    });
    assert.deepEqual(await loadWeights(await openModelFolder(dir)), expected);
  });

  it('never cuts off later than there are positions', async () => {
    const dir = await copy();
    await edit(dir, 'sentence_bert_config.json', { max_seq_length: 512 });
    assert.equal((await openModelFolder(dir)).maxTokens, 64);
  });
});

describe('a model folder that can not be represented', () => {
  const refusals: [what: string, change: (dir: string) => Promise<void>, kind: string, message: RegExp][] = [
    [
      'another architecture',
      (dir) => edit(dir, 'config.json', { model_type: 'roberta' }),
      'unsupported-model',
      /config\.json: model_type: expected "bert", found "roberta"/,
    ],
    [
      'another activation',
      (dir) => edit(dir, 'config.json', { hidden_act: 'relu' }),
      'unsupported-model',
      /config\.json: hidden_act: expected "gelu", found "relu"/,
    ],
    [
      'relative positions',
      (dir) => edit(dir, 'config.json', { position_embedding_type: 'relative_key' }),
      'unsupported-model',
      /position_embedding_type: expected "absolute", found "relative_key"/,
    ],
    [
      'a size that is no number',
      (dir) => edit(dir, 'config.json', { hidden_size: 'big' }),
      'unsupported-model',
      /hidden_size: expected a number, found "big"/,
    ],
    [
      'heads that do not divide the hidden size',
      (dir) => edit(dir, 'config.json', { num_attention_heads: 5 }),
      'unsupported-model',
      /expected hidden_size to be a multiple of num_attention_heads, found 32 and 5/,
    ],
    [
      'no config.json',
      (dir) => unlink(path.join(dir, 'config.json')),
      'not-found',
      /config\.json: no such file/,
    ],
    [
      'a config.json cut short',
      (dir) => truncate(path.join(dir, 'config.json'), 20),
      'malformed',
      /config\.json: expected JSON/,
    ],
    [
      'a tokenizer.json cut short',
      (dir) => truncate(path.join(dir, 'tokenizer.json'), 200),
      'malformed',
      /tokenizer\.json: expected JSON/,
    ],
    [
      'a model.safetensors cut short',
      (dir) => truncate(path.join(dir, 'model.safetensors'), 50_000),
      'corrupt',
      /model\.safetensors: .*: expected data up to byte \d+, found a file of 50000 bytes/,
    ],
    [
      'a missing tensor',
      (dir) => editWeights(dir, (weights) => weights.delete('encoder.layer.1.output.dense.bias')),
      'unsupported-model',
      /model\.safetensors: encoder\.layer\.1\.output\.dense\.bias: expected a tensor of shape \[32\], found none/,
    ],
    [
      'a tensor of another shape',
      (dir) =>
        editWeights(dir, (weights) =>
          weights.set('embeddings.LayerNorm.bias', { shape: [4, 8], data: new Float32Array(32) }),
        ),
      'unsupported-model',
      /embeddings\.LayerNorm\.bias: expected shape \[32\] by config\.json, found \[4, 8\]/,
    ],
    [
      'a weight that is NaN',
      (dir) =>
        editWeights(dir, (weights) => {
          weights.get('encoder.layer.0.attention.self.key.bias')!.data[3] = Number.NaN;
        }),
      'corrupt',
      /encoder\.layer\.0\.attention\.self\.key\.bias: expected finite numbers, found NaN at 3/,
    ],
    [
      'a module of another kind',
      async (dir) => {
        const modules = ['Transformer', 'Pooling', 'LSTM'].map((name) => ({
          type: `sentence_transformers.models.${name}`,
        }));
        await writeFile(path.join(dir, 'modules.json'), JSON.stringify(modules));
      },
      'unsupported-model',
      /modules\.json: expected the modules .* found Transformer, Pooling, LSTM/,
    ],
    [
      'another pooling',
      (dir) => edit(dir, '1_Pooling/config.json', { pooling_mode_max_tokens: true }),
      'unsupported-model',
      /expected pooling .* found pooling_mode_mean_tokens and pooling_mode_max_tokens/,
    ],
    [
      'mean pooling divided by the root of the length',
      (dir) =>
        edit(dir, '1_Pooling/config.json', {
          pooling_mode_mean_tokens: false,
          pooling_mode_mean_sqrt_len_tokens: true,
        }),
      'unsupported-model',
      /found pooling_mode_mean_sqrt_len_tokens/,
    ],
    [
      'a prompt before every text',
      (dir) => edit(dir, 'config_sentence_transformers.json', { default_prompt_name: 'query' }),
      'unsupported-model',
      /default_prompt_name: expected null .* found "query"/,
    ],
    [
      'a vocabulary larger than the embeddings',
      (dir) => edit(dir, 'config.json', { vocab_size: 100 }),
      'unsupported-model',
      /tokenizer\.json: expected ids below vocab_size 100/,
    ],
  ];
  for (const [what, change, kind, message] of refusals)
    it(`is refused with a message that names it: ${what}`, async () => {
      const dir = await copy();
      await change(dir);
      const use = async (): Promise<void> => {
        const folder = await openModelFolder(dir);
        loadTokenizer(folder);
        await loadWeights(folder);
      };
      await assert.rejects(use(), { name: 'UserError', kind, message });
    });

  it('is refused when it is not there', async () => {
    await assert.rejects(openModelFolder(path.join(scratch, 'no')), {
      kind: 'not-found',
      message: /no such model folder/,
    });
  });
});
