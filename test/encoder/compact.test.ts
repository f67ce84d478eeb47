import assert from 'node:assert/strict';
import { cp, mkdtemp, readdir, readFile, rm, stat, truncate, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { exists } from '../../base/files.js';
import { projectRoot } from '../../base/paths.js';
import { Random } from '../../base/random.js';
import { writeCompactFolder } from '../../encoder/compact.js';
import { loadWeights, openModelFolder, writeModelFolder } from '../../encoder/model-folder.js';
import { bertGraph } from '../../encoder/onnx/bert-graph.js';
import { dequantizeRows, exactRows } from '../../encoder/onnx/quantize.js';
import { openEncoder } from '../../encoder/open-encoder.js';
import { DEFAULT_MODEL, resolveModel } from '../../encoder/resolve.js';
import {
  readIntegers,
  readSafetensors,
  readSafetensorsHeader,
  readSafetensorsMetadata,
  writeSafetensors,
  type IntegerTensor,
  type Tensor,
} from '../../encoder/safetensors.js';
import { unpackCompact } from '../../encoder/unpack.js';
import { verifyModel } from '../../encoder/verify.js';
import { TINY_VOCABULARY, tinyContent } from '../support/tiny-model.js';
import { keepEnvironment } from '../support/environment.js';

const MATRIX = 'encoder.layer.1.output.dense.weight';
const content = {
  ...tinyContent(),
  card: '---\nlicense: apache-2.0\n---\n# Größe\r\n',
  provenance: { seed: 1, scores: [0.5] },
};
const putBack = keepEnvironment('SENTENCE_JEPA_CACHE');
let scratch: string;
let compact: string;
before(async () => {
  scratch = await mkdtemp(path.join(tmpdir(), 'compact-'));
  process.env.SENTENCE_JEPA_CACHE = path.join(scratch, 'cache');
  compact = path.join(scratch, 'tiny');
  await writeCompactFolder(compact, content);
});
after(async () => {
  putBack();
  await rm(scratch, { recursive: true });
});

let copies = 0;
/** What the tests change of tokenizer.json. */
interface TokenizerJson {
  added_tokens: object[];
  normalizer: { strip_accents: boolean | null };
  pre_tokenizer: object;
  post_processor: { single: object[] };
  model: { type?: string; vocab: Record<string, number> };
  [other: string]: object | null;
}

/** A copy of the compact folder to be changed. */
async function copy(): Promise<string> {
  const dir = path.join(scratch, `copy-${copies++}`);
  await cp(compact, dir, { recursive: true });
  return dir;
}

/** Writes the tensors of a compact folder again, some of them changed. */
async function editTensors(
  dir: string,
  change: (tensors: Map<string, Tensor | IntegerTensor>) => void,
): Promise<void> {
  const file = path.join(dir, 'model.int8.safetensors');
  const header = await readSafetensorsHeader(file);
  const isInteger = (name: string): boolean => header.get(name)!.dtype === 'I8';
  const tensors = new Map<string, Tensor | IntegerTensor>([
    ...(await readSafetensors(file, (name) => !isInteger(name))),
    ...(await readIntegers(file, isInteger)),
  ]);
  change(tensors);
  await writeSafetensors(file, tensors, (await readSafetensorsMetadata(file)) as Record<string, string>);
}

describe('writing a compact folder', () => {
  it('leaves out what can be made again: graphs, fp32 weights, tokenizer.json', async () => {
    const files = await readdir(compact, { recursive: true });
    assert.deepEqual(files.sort(), [
      '1_Pooling',
      '1_Pooling/config.json',
      '2_Normalize',
      '2_Normalize/config.json',
      'README.md',
      'config.json',
      'config_sentence_transformers.json',
      'model.int8.safetensors',
      'modules.json',
      'sentence-jepa.json',
      'sentence_bert_config.json',
      'special_tokens_map.json',
      'tokenizer_config.json',
      'vocab.txt',
    ]);
  });

  it('stores matrices as I8 with a scale for each row, and the rest as F32, each at a multiple of its size', async () => {
    const header = await readSafetensorsHeader(path.join(compact, 'model.int8.safetensors'));
    const stored = (name: string): unknown => {
      const { dtype, shape } = header.get(name)!;
      return [dtype, ...shape];
    };
    assert.deepEqual(stored(MATRIX), ['I8', 32, 64]);
    assert.deepEqual(stored(`${MATRIX}.scale`), ['F32', 32]);
    assert.deepEqual(stored('embeddings.word_embeddings.weight'), ['I8', TINY_VOCABULARY.length, 32]);
    assert.deepEqual(stored('embeddings.LayerNorm.weight'), ['F32', 32]);
    for (const { dtype, begin } of header.values()) if (dtype === 'F32') assert.equal(begin % 4, 0);
  });

  it('never writes over a folder', async () => {
    await assert.rejects(writeCompactFolder(compact, content), { kind: 'exists' });
  });

  /** tinyContent with another tokenizer.json. */
  function withTokenizer(change: (json: TokenizerJson) => void): typeof content {
    const json = JSON.parse(content.tokenizer.tokenizerJson) as TokenizerJson;
    change(json);
    return { ...content, tokenizer: { ...content.tokenizer, tokenizerJson: JSON.stringify(json) } };
  }

  it('takes a tokenizer.json that says the same in another order, with padding and truncation of its own', async () => {
    const dir = path.join(scratch, 'other-order');
    const same = withTokenizer((json) => {
      json.added_tokens.reverse();
      json.padding = { strategy: { Fixed: 128 } };
      json.truncation = { max_length: 128 };
      delete json.model.type;
      const { vocab, ...model } = json.model;
      json.model = { vocab: Object.fromEntries(Object.entries(vocab).reverse()), ...model };
    });
    await writeCompactFolder(dir, same);
    const { tokenizer } = await openModelFolder(await unpackCompact(dir));
    assert.equal(tokenizer.tokenizerJson, content.tokenizer.tokenizerJson);
  });

  const refusals: [what: string, change: (json: TokenizerJson) => void, message: RegExp][] = [
    [
      'another kind',
      (json) => (json.model.type = 'Unigram'),
      /model: expected WordPiece, found another kind/,
    ],
    [
      'one that keeps accents',
      (json) => (json.normalizer.strip_accents = false),
      /normalizer\.strip_accents: expected null, found false/,
    ],
    [
      'one that splits otherwise',
      (json) => (json.pre_tokenizer = { type: 'Whitespace' }),
      /pre_tokenizer\.type: expected "BertPreTokenizer", found "Whitespace"/,
    ],
    [
      'one that frames otherwise',
      (json) => json.post_processor.single.pop(),
      /post_processor\.single\.2: expected {"SpecialToken".*, found nothing/,
    ],
    [
      'a vocabulary with a gap',
      (json) => (json.model.vocab['##ed'] = 9999),
      /model\.vocab\.##ing: expected \d+, found \d+/,
    ],
    [
      'a token of its own',
      (json) => json.added_tokens.push({ id: 9, content: '<url>' }),
      /added_tokens\.<url>: expected nothing, found {"id":9,"content":"<url>"}/,
    ],
  ];
  for (const [what, change, message] of refusals)
    it(`refuses a tokenizer that vocab.txt doesn't give, saying what differs: ${what}`, async () => {
      const dir = path.join(scratch, 'refused');
      const refusal = { kind: 'unsupported-model', message };
      await assert.rejects(writeCompactFolder(dir, withTokenizer(change)), refusal);
      assert.ok(!(await exists(dir)));
    });
});

describe('unpacking a compact folder', () => {
  it('gives a whole model folder in the cache folder, whose graphs compute what its tensors say', async () => {
    const dir = await unpackCompact(compact);
    assert.equal(path.dirname(dir), path.join(scratch, 'cache', 'models'));
    const { missing, problems } = await verifyModel(await openModelFolder(dir));
    assert.deepEqual({ missing, problems }, { missing: [], problems: [] });
  });

  it('keeps settings, tokenizer, card and provenance as they were, to the byte', async () => {
    const dir = await unpackCompact(compact);
    const whole = path.join(scratch, 'whole');
    await writeModelFolder(whole, content);
    const same = (await readdir(whole, { recursive: true })).filter((file) => /\.(json|md|txt)$/.test(file));
    assert.equal(same.length, 12);
    for (const file of same)
      assert.deepEqual(await readFile(path.join(dir, file)), await readFile(path.join(whole, file)), file);
  });

  it('gives each weight of a matrix within half a step of its row, and the rest exactly', async () => {
    const weights = await loadWeights(await openModelFolder(await unpackCompact(compact)));
    assert.deepEqual([...weights.keys()], [...content.weights.keys()]);
    for (const [name, { shape, data }] of content.weights) {
      const found = weights.get(name)!.data;
      if (shape.length === 1) assert.deepEqual(found, data, name);
      else
        for (let row = 0; row < shape[0]; row++) {
          const at = (values: Float32Array): Float32Array =>
            values.subarray(row * shape[1], (row + 1) * shape[1]);
          const step = Math.max(...at(data).map(Math.abs)) / 127;
          const furthest = Math.max(...at(data).map((weight, i) => Math.abs(weight - at(found)[i])));
          assert.ok(furthest <= (step / 2) * (1 + 1e-4), `${name}, row ${row}: ${furthest} of ${step}`);
        }
    }
  });

  it("encodes as the original does, but for the matrices' rounding", async () => {
    const whole = path.join(scratch, 'original');
    await writeModelFolder(whole, content);
    const texts = ['usb boot', 'How do I install a package without root?', 'screen is black'];
    const [exact, rounded] = await Promise.all(
      [whole, compact].map(async (model) => {
        const encoder = await openEncoder(model, { threads: 1 });
        const vectors = await encoder.encode(texts);
        await encoder.close();
        return vectors;
      }),
    );
    texts.forEach((text, i) => {
      const from = i * 32;
      const cosine = exact
        .subarray(from, from + 32)
        .reduce((sum, value, j) => sum + value * rounded[from + j], 0);
      assert.ok(cosine > 0.999 && cosine < 1 - 1e-7, `${text}: ${cosine}`);
    });
  });

  it('keeps the word embeddings in 8 bits in the fp32 graph, the same to the bit', async () => {
    const folder = await openModelFolder(await unpackCompact(compact));
    const weights = await loadWeights(folder);
    const table = weights.get('embeddings.word_embeddings.weight')!;
    const integers = exactRows(table);
    assert.ok(integers);
    assert.deepEqual(dequantizeRows(integers), table.data);
    assert.equal(exactRows(content.weights.get('embeddings.word_embeddings.weight')!), undefined);
    const bytes = (tensors: ReadonlyMap<string, Tensor>): number =>
      bertGraph(content.config, tensors, 'fp32').reduce((sum, chunk) => sum + chunk.length, 0);
    assert.ok(bytes(weights) < bytes(content.weights) - 2.5 * table.data.length);
  });

  it('finds the scale of every row again, whichever way it rounds', () => {
    const random = new Random(5);
    const scales = Float32Array.from({ length: 3000 }, () => Math.exp(8 * random.normal()));
    const values = Int8Array.from({ length: 4 * scales.length }, (_, i) =>
      i % 4 === 0 ? 127 : random.below(255) - 127,
    );
    const data = dequantizeRows({ values, scales });
    const found = exactRows({ shape: [scales.length, 4], data });
    assert.ok(found);
    assert.deepEqual(dequantizeRows(found), data);
  });

  it('happens once: the folder is found again, with a note only the first time', async () => {
    const dir = await copy();
    await writeFile(path.join(dir, 'README.md'), '# Once\n');
    const notes: string[] = [];
    const first = await unpackCompact(dir, (line) => notes.push(line));
    const made = await stat(path.join(first, 'model.safetensors'));
    assert.equal(await unpackCompact(dir, (line) => notes.push(line)), first);
    const found = await stat(path.join(first, 'model.safetensors'));
    assert.deepEqual([found.ino, found.mtimeMs], [made.ino, made.mtimeMs]);
    assert.deepEqual(notes, [`unpacking ${dir} into ${first}, once`]);
  });

  it('happens again for a folder of other content', async () => {
    const dir = await copy();
    await writeFile(path.join(dir, 'README.md'), '# Another card\n');
    const unpacked = await unpackCompact(dir);
    assert.notEqual(unpacked, await unpackCompact(compact));
    assert.equal(await readFile(path.join(unpacked, 'README.md'), 'utf8'), '# Another card\n');
  });

  it('may be done by two at once', async () => {
    const dir = await copy();
    await writeFile(path.join(dir, 'README.md'), '# Twice\n');
    const [first, second] = await Promise.all([unpackCompact(dir), unpackCompact(dir)]);
    assert.equal(first, second);
    assert.ok(await exists(path.join(first, 'onnx', 'model.onnx')));
    const beside = await readdir(path.dirname(first));
    assert.deepEqual(
      beside.filter((name) => name.endsWith('.partial')),
      [],
    );
  });
});

describe('a compact folder that is not whole', () => {
  const damages: [what: string, change: (dir: string) => Promise<void>, kind: string, message: RegExp][] = [
    [
      'weights cut short',
      (dir) => truncate(path.join(dir, 'model.int8.safetensors'), 30_000),
      'corrupt',
      /model\.int8\.safetensors: .*: expected data up to byte \d+, found a file of 30000 bytes/,
    ],
    [
      'a bit that fell over',
      async (dir) => {
        const file = path.join(dir, 'model.int8.safetensors');
        const bytes = await readFile(file);
        bytes[bytes.length - 100] ^= 1;
        await writeFile(file, bytes);
      },
      'corrupt',
      /model\.int8\.safetensors: weights: expected the SHA-256 [0-9a-f]{64} .*, found [0-9a-f]{64}/,
    ],
    [
      'no scales for a matrix',
      (dir) => editTensors(dir, (tensors) => tensors.delete(`${MATRIX}.scale`)),
      'corrupt',
      /output\.dense\.weight\.scale: expected F32 \[32\], found no such tensor/,
    ],
    [
      'floats where integers belong',
      (dir) =>
        editTensors(dir, (tensors) => tensors.set(MATRIX, { shape: [32, 64], data: new Float32Array(2048) })),
      'corrupt',
      /output\.dense\.weight: expected I8 \[32, 64\], found F32 \[32, 64\]/,
    ],
    [
      'a matrix of another shape',
      (dir) =>
        editTensors(dir, (tensors) => tensors.set(MATRIX, { shape: [64, 32], data: new Int8Array(2048) })),
      'corrupt',
      /output\.dense\.weight: expected I8 \[32, 64\], found I8 \[64, 32\]/,
    ],
    [
      'no vocabulary',
      (dir) => unlink(path.join(dir, 'vocab.txt')),
      'unsupported-model',
      /expected tokenizer\.json or vocab\.txt, found neither/,
    ],
    [
      'a vocabulary cut short',
      (dir) => truncate(path.join(dir, 'vocab.txt'), 600),
      'corrupt',
      /vocab\.txt: expected the SHA-256 [0-9a-f]{64} .*, found [0-9a-f]{64}/,
    ],
    [
      'no config.json',
      (dir) => unlink(path.join(dir, 'config.json')),
      'not-found',
      /config\.json: no such file/,
    ],
  ];
  for (const [what, change, kind, message] of damages)
    it(`is refused with a message that names it, and leaves nothing in the cache: ${what}`, async () => {
      const dir = await copy();
      await change(dir);
      const before = await readdir(path.join(scratch, 'cache', 'models'));
      await assert.rejects(unpackCompact(dir), { name: 'UserError', kind, message });
      assert.deepEqual(await readdir(path.join(scratch, 'cache', 'models')), before);
    });

  it('is whole with the line ends of another system', async () => {
    const dir = await copy();
    const file = path.join(dir, 'vocab.txt');
    await writeFile(file, (await readFile(file, 'utf8')).replaceAll('\n', '\r\n'));
    const { tokenizer } = await openModelFolder(await unpackCompact(dir));
    assert.equal(tokenizer.tokenizerJson, content.tokenizer.tokenizerJson);
  });
});

describe('resolving a model', () => {
  it('takes a compact folder for the one that it unpacks into, by the name that it was given', async () => {
    assert.deepEqual(await resolveModel(compact), { dir: await unpackCompact(compact), name: 'tiny' });
  });

  it('leaves a folder alone that has model.safetensors as well', async () => {
    const dir = await copy();
    await writeSafetensors(path.join(dir, 'model.safetensors'), content.weights);
    assert.deepEqual(await resolveModel(dir), { dir, name: path.basename(dir) });
  });

  it('takes "default" for the encoder in the repository, and ./default for a folder of that name', async () => {
    const there = path.join(scratch, 'there');
    await cp(compact, path.join(there, 'default'), { recursive: true });
    const own = path.join(projectRoot, 'models', 'default');
    const back = process.cwd();
    process.chdir(there);
    try {
      assert.deepEqual(await resolveModel('./default'), {
        dir: await unpackCompact(compact),
        name: 'default',
      });
      const found = await resolveModel(DEFAULT_MODEL);
      assert.deepEqual(found, { dir: await unpackCompact(own), name: 'default' });
    } finally {
      process.chdir(back);
    }
  });
});
