import { UserError } from '../base/errors.js';
import {
  floatChunks,
  readSafetensors,
  readSafetensorsHeader,
  shapeText,
  type Tensor,
} from './safetensors.js';

/** BERT as Devlin et al. 2018 define it: post-layer-norm, learned absolute positions, GELU by erf. */
export interface BertConfig {
  vocabSize: number;
  hiddenSize: number;
  layers: number;
  heads: number;
  intermediateSize: number;
  maxPositions: number;
  typeVocabSize: number;
  layerNormEps: number;
  padTokenId: number;
  /** Training only: dropout after the embeddings and after each dense layer. */
  hiddenDropout: number;
  /** Training only: dropout of the attention probabilities. */
  attentionDropout: number;
}

/**
 * Reads Hugging Face's config.json.
 *
 * @param file its name, for messages
 * @throws UserError `unsupported-model` when it describes another architecture
 */
export function parseBertConfig(json: Record<string, unknown>, file: string): BertConfig {
  const expect = (field: string, allowed: unknown[], fallback: unknown): void => {
    const found = json[field] ?? fallback;
    if (!allowed.includes(found))
      throw new UserError(
        'unsupported-model',
        `${file}: ${field}: expected ${allowed.map((value) => JSON.stringify(value)).join(' or ')}, found ${JSON.stringify(found)}`,
      );
  };
  const number = (field: string, fallback?: number): number => {
    const found = json[field] ?? fallback;
    if (typeof found !== 'number' || !Number.isFinite(found) || found < 0)
      throw new UserError(
        'unsupported-model',
        `${file}: ${field}: expected a number, found ${JSON.stringify(found)}`,
      );
    return found;
  };
  const size = (field: string, fallback?: number): number => {
    const found = number(field, fallback);
    if (!Number.isInteger(found) || found < 1)
      throw new UserError(
        'unsupported-model',
        `${file}: ${field}: expected a whole number from 1 up, found ${found}`,
      );
    return found;
  };
  expect('model_type', ['bert'], undefined);
  expect('hidden_act', ['gelu'], 'gelu');
  expect('position_embedding_type', ['absolute'], 'absolute');
  expect('is_decoder', [false], false);
  const config: BertConfig = {
    vocabSize: size('vocab_size'),
    hiddenSize: size('hidden_size'),
    layers: size('num_hidden_layers'),
    heads: size('num_attention_heads'),
    intermediateSize: size('intermediate_size'),
    maxPositions: size('max_position_embeddings'),
    typeVocabSize: size('type_vocab_size', 2),
    layerNormEps: number('layer_norm_eps', 1e-12),
    padTokenId: number('pad_token_id', 0),
    hiddenDropout: number('hidden_dropout_prob', 0.1),
    attentionDropout: number('attention_probs_dropout_prob', 0.1),
  };
  if (config.hiddenSize % config.heads !== 0)
    throw new UserError(
      'unsupported-model',
      `${file}: expected hidden_size to be a multiple of num_attention_heads, found ${config.hiddenSize} and ${config.heads}`,
    );
  return config;
}

/** config.json as Hugging Face writes it for a BertModel. */
export function bertConfigJson(config: BertConfig): Record<string, unknown> {
  return {
    architectures: ['BertModel'],
    model_type: 'bert',
    vocab_size: config.vocabSize,
    hidden_size: config.hiddenSize,
    num_hidden_layers: config.layers,
    num_attention_heads: config.heads,
    intermediate_size: config.intermediateSize,
    hidden_act: 'gelu',
    hidden_dropout_prob: config.hiddenDropout,
    attention_probs_dropout_prob: config.attentionDropout,
    max_position_embeddings: config.maxPositions,
    type_vocab_size: config.typeVocabSize,
    layer_norm_eps: config.layerNormEps,
    pad_token_id: config.padTokenId,
    position_embedding_type: 'absolute',
    initializer_range: 0.02,
    torch_dtype: 'float32',
  };
}

/**
 * The tensors of the encoder under Hugging Face's names, with their shapes, in the order of the forward
 * pass. The weight of a dense layer is [out, in].
 */
export function bertTensors(config: BertConfig): Map<string, number[]> {
  const { hiddenSize: h, intermediateSize: m } = config;
  const shapes = new Map<string, number[]>();
  const dense = (name: string, out: number, inner: number): void => {
    shapes.set(`${name}.weight`, [out, inner]);
    shapes.set(`${name}.bias`, [out]);
  };
  const norm = (name: string): void => {
    shapes.set(`${name}.weight`, [h]);
    shapes.set(`${name}.bias`, [h]);
  };
  shapes.set('embeddings.word_embeddings.weight', [config.vocabSize, h]);
  shapes.set('embeddings.position_embeddings.weight', [config.maxPositions, h]);
  shapes.set('embeddings.token_type_embeddings.weight', [config.typeVocabSize, h]);
  norm('embeddings.LayerNorm');
  for (let layer = 0; layer < config.layers; layer++) {
    const at = `encoder.layer.${layer}`;
    for (const part of ['query', 'key', 'value']) dense(`${at}.attention.self.${part}`, h, h);
    dense(`${at}.attention.output.dense`, h, h);
    norm(`${at}.attention.output.LayerNorm`);
    dense(`${at}.intermediate.dense`, m, h);
    dense(`${at}.output.dense`, h, m);
    norm(`${at}.output.LayerNorm`);
  }
  return shapes;
}

/** A file's own name of a tensor -> ours: no `bert.` in front, and TensorFlow's gamma and beta as PyTorch names them. */
function canonicalName(name: string): string {
  return name
    .replace(/^bert\./, '')
    .replace(/LayerNorm\.gamma$/, 'LayerNorm.weight')
    .replace(/LayerNorm\.beta$/, 'LayerNorm.bias');
}

/**
 * Reads the encoder's tensors; a pooler, position ids and pre-training heads in the file are left out.
 *
 * @returns in the order of {@link bertTensors}
 * @throws UserError `unsupported-model` for a missing tensor or another shape; `corrupt` for a truncated
 *   file or a weight that is not finite
 */
export async function readBertWeights(file: string, config: BertConfig): Promise<Map<string, Tensor>> {
  const stored = await storedNames(file, config);
  const names = new Set(stored.values());
  const read = await readSafetensors(file, (name) => names.has(name));
  const weights = new Map<string, Tensor>();
  for (const [name, storedName] of stored) {
    const tensor = read.get(storedName)!;
    checkFinite(file, storedName, tensor.data);
    weights.set(name, tensor);
  }
  return weights;
}

/**
 * The same numbers piece by piece, in the same order, without ever holding all of them.
 *
 * @yields a tensor's name and shape, and some of its numbers, which are overwritten by the next ones
 * @throws UserError as {@link readBertWeights}
 */
export async function* bertWeightChunks(
  file: string,
  config: BertConfig,
): AsyncGenerator<{ name: string; shape: number[]; data: Float32Array }> {
  const stored = await storedNames(file, config);
  const ours = new Map([...stored].map(([name, storedName]) => [storedName, name]));
  const shapes = bertTensors(config);
  for await (const { name: storedName, data } of floatChunks(file, stored.values())) {
    checkFinite(file, storedName, data);
    const name = ours.get(storedName)!;
    yield { name, shape: shapes.get(name)!, data };
  }
}

/** Our name of each tensor -> the file's, in the order of {@link bertTensors}. */
async function storedNames(file: string, config: BertConfig): Promise<Map<string, string>> {
  const expected = bertTensors(config);
  const found = new Map<string, string>();
  for (const [name, entry] of await readSafetensorsHeader(file)) {
    const canonical = canonicalName(name);
    const shape = expected.get(canonical);
    if (!shape) continue;
    found.set(canonical, name);
    if (shapeText(shape) !== shapeText(entry.shape))
      throw new UserError(
        'unsupported-model',
        `${file}: ${name}: expected shape ${shapeText(shape)} by config.json, found ${shapeText(entry.shape)}`,
      );
  }
  const stored = new Map<string, string>();
  for (const [name, shape] of expected) {
    const storedName = found.get(name);
    if (storedName === undefined)
      throw new UserError(
        'unsupported-model',
        `${file}: ${name}: expected a tensor of shape ${shapeText(shape)}, found none of that name`,
      );
    stored.set(name, storedName);
  }
  return stored;
}

function checkFinite(file: string, name: string, data: Float32Array): void {
  const bad = firstNotFinite(data);
  if (bad >= 0)
    throw new UserError('corrupt', `${file}: ${name}: expected finite numbers, found ${data[bad]} at ${bad}`);
}

function firstNotFinite(data: Float32Array): number {
  // A sum is not finite as soon as one number is not, and adding is faster than asking of each.
  let sum = 0;
  for (let i = 0; i < data.length; i++) sum += data[i];
  return Number.isFinite(sum) ? -1 : data.findIndex((value) => !Number.isFinite(value));
}
