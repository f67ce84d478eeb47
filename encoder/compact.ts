import { createHash } from 'node:crypto';
import path from 'node:path';

import { firstDifference } from '../base/difference.js';
import { UserError } from '../base/errors.js';
import { exists, writeFolderAtomic } from '../base/files.js';
import { bertTensors, type BertConfig } from './bert.js';
import { weightsDigest } from './fingerprint.js';
import { COMPACT_WEIGHTS_FILE } from './model-files.js';
import { type ModelContent, readOrigin, readSettings, writeSettings } from './model-folder.js';
import { filesOfVocabulary, type TokenizerFiles, vocabTextOf } from './tokenizer-files.js';
import { dequantizeRows, quantizeRows } from './onnx/quantize.js';
import {
  readIntegers,
  readSafetensors,
  readSafetensorsHeader,
  readSafetensorsMetadata,
  shapeText,
  writeSafetensors,
  type IntegerTensor,
  type Tensor,
} from './safetensors.js';

/**
 * Writes a model in about a sixth of a complete folder's size: matrices in 8 bits with a scale for each row (an
 * output of a dense layer, a token of an embedding), no graphs, no tokenizer.json. What is left out is made again
 * by unpackCompact; only the rounding of the matrices is lost.
 *
 * @throws UserError `exists` when `out` is there already; `unsupported-model` for a tokenizer that vocab.txt alone
 *   doesn't give, naming what differs
 */
export async function writeCompactFolder(out: string, content: ModelContent): Promise<void> {
  if (await exists(out))
    throw new UserError('exists', `${out}: already there; name another folder or remove it first`);
  const vocabText = derivableVocabulary(content);
  const floats = new Map<string, Tensor>();
  const integers = new Map<string, IntegerTensor>();
  const unpacked = new Map<string, Tensor>();
  for (const name of bertTensors(content.config).keys()) {
    const tensor = content.weights.get(name);
    if (!tensor) throw new Error(`${name}: no such tensor among the weights`);
    const { shape } = tensor;
    if (shape.length === 2) {
      const { values, scales } = quantizeRows(tensor);
      integers.set(name, { shape, data: values });
      floats.set(scaleOf(name), { shape: [shape[0]], data: scales });
      unpacked.set(name, { shape, data: dequantizeRows({ values, scales }) });
    } else {
      floats.set(name, tensor);
      unpacked.set(name, tensor);
    }
  }
  const metadata = {
    format: 'pt',
    weights: weightsDigest(content.config, unpacked),
    vocabulary: sha256(vocabText),
  };
  await writeFolderAtomic(out, async (folder) => {
    await writeSettings(folder, content);
    // Floats first: they begin at a multiple of their size then.
    const tensors = new Map<string, Tensor | IntegerTensor>([...floats, ...integers]);
    await writeSafetensors(path.join(folder, COMPACT_WEIGHTS_FILE), tensors, metadata);
  });
}

/**
 * A compact folder's model, in fp32.
 *
 * @throws UserError `corrupt`, naming file, expected and found; as openModelFolder
 */
export async function readCompact(dir: string): Promise<ModelContent> {
  const file = path.join(dir, COMPACT_WEIGHTS_FILE);
  const settings = await readSettings(dir);
  const weights = await readCompactWeights(file, settings.config);
  const stated = await readSafetensorsMetadata(file);
  const check = (what: string, expected: unknown, found: string): void => {
    if (found !== expected)
      throw new UserError(
        'corrupt',
        `${what}: expected the SHA-256 ${String(expected)} that ${COMPACT_WEIGHTS_FILE} states, found ${found}; one of the two was changed`,
      );
  };
  check(path.join(dir, 'vocab.txt'), stated.vocabulary, sha256(vocabTextOf(settings.tokenizer) ?? ''));
  check(`${file}: weights`, stated.weights, weightsDigest(settings.config, weights));
  return { ...settings, weights, ...(await readOrigin({ dir, name: path.basename(path.resolve(dir)) })) };
}

/** In fp32, in the order of bertTensors. */
async function readCompactWeights(file: string, config: BertConfig): Promise<Map<string, Tensor>> {
  const header = await readSafetensorsHeader(file);
  const expect = (name: string, dtype: string, shape: number[]): void => {
    const entry = header.get(name);
    const found = entry ? `${entry.dtype} ${shapeText(entry.shape)}` : 'no such tensor';
    const expected = `${dtype} ${shapeText(shape)}`;
    if (found !== expected)
      throw new UserError('corrupt', `${file}: ${name}: expected ${expected}, found ${found}`);
  };
  const shapes = bertTensors(config);
  for (const [name, shape] of shapes)
    if (shape.length === 2) {
      expect(name, 'I8', shape);
      expect(scaleOf(name), 'F32', [shape[0]]);
    } else expect(name, 'F32', shape);
  const isMatrix = (name: string): boolean => shapes.get(name)?.length === 2;
  const integers = await readIntegers(file, isMatrix);
  const floats = await readSafetensors(file, (name) => !isMatrix(name));
  const weights = new Map<string, Tensor>();
  for (const [name, shape] of shapes) {
    const values = integers.get(name)?.data;
    const data = values
      ? dequantizeRows({ values, scales: floats.get(scaleOf(name))!.data })
      : floats.get(name)!.data;
    weights.set(name, { shape, data });
  }
  return weights;
}

function scaleOf(name: string): string {
  return `${name}.scale`;
}

/** vocab.txt, when tokenizer.json says nothing else about a text's ids. */
function derivableVocabulary({ tokenizer, config }: ModelContent): string {
  const vocabText = vocabTextOf(tokenizer);
  const refuse = (difference: string): UserError =>
    new UserError(
      'unsupported-model',
      `a compact folder keeps vocab.txt alone, and this tokenizer is not what follows from it: tokenizer.json: ${difference}; export it without --compact`,
    );
  if (vocabText === undefined) throw refuse('model: expected WordPiece, found another kind');
  const derived = filesOfVocabulary(vocabText, tokenizer.tokenizerConfig, config.maxPositions);
  const difference = firstDifference(decidesIds(derived), decidesIds(tokenizer));
  if (difference) {
    const { at, a, b } = difference;
    throw refuse(`${at}: expected ${shortJson(a)}, found ${shortJson(b)}`);
  }
  return vocabText;
}

/** The parts of tokenizer.json that decide ids: not truncation and padding, which are the reader's own. */
function decidesIds({ tokenizerJson }: TokenizerFiles): Record<string, unknown> {
  const json = JSON.parse(tokenizerJson) as Record<string, unknown>;
  const { normalizer, pre_tokenizer, post_processor, model } = json;
  const added = (json.added_tokens ?? []) as { content: string }[];
  return {
    added_tokens: Object.fromEntries(added.map((token) => [token.content, token])),
    normalizer,
    pre_tokenizer,
    post_processor,
    model: { type: 'WordPiece', ...(model as object) },
  };
}

function shortJson(value: unknown): string {
  const text = value === undefined ? 'nothing' : JSON.stringify(value);
  return text.length > 100 ? `${text.slice(0, 100)}...` : text;
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
