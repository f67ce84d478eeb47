import { readFile } from 'node:fs/promises';
import path from 'node:path';

import { messageOf, UserError } from '../base/errors.js';
import { exists, fileError, readJson, writeFileAtomic, writeFolderAtomic } from '../base/files.js';
import { version } from '../base/paths.js';
import { bertConfigJson, parseBertConfig, readBertWeights, type BertConfig } from './bert.js';
import { readDense, writeDense, denseDimensions, type DenseLayer } from './dense.js';
import { DENSE_FILES } from './model-files.js';
import { bertGraph } from './onnx/bert-graph.js';
import { writeSafetensors, type Tensor } from './safetensors.js';
import { filesOfVocabulary, specialTokens, vocabTextOf, type TokenizerFiles } from './tokenizer-files.js';

/** How the hidden states of a text's tokens become one vector. */
export type Pooling = 'mean' | 'cls';

/** What makes a BERT a sentence encoder. */
export interface EncoderSettings {
  config: BertConfig;
  pooling: Pooling;
  /** What is done to a pooled vector, before it is scaled; most encoders have none. */
  dense: readonly DenseLayer[];
  /** Whether vectors are scaled to length 1. */
  normalize: boolean;
  /** Longest text, in tokens with [CLS] and [SEP]. */
  maxTokens: number;
  /** Lower-case a text before the tokenizer sees it. */
  lowerCase: boolean;
}

/** What a folder's small files say. */
export interface FolderSettings extends EncoderSettings {
  tokenizer: TokenizerFiles;
  /** What the folder doesn't say and was assumed, a sentence each. */
  notes: string[];
}

/** A model folder on disk, its small files read and checked. */
export interface ModelFolder extends FolderSettings {
  dir: string;
  /** What a person calls it. */
  name: string;
  /** model.safetensors, when it is there. */
  weightsFile?: string;
  /** The graphs that are there. */
  graphs: { fp32?: string; quantized?: string };
}

/** Where an encoder comes from. */
export interface Origin {
  /** README.md, the model card. */
  card: string;
  /** sentence-jepa.json: recipe, seeds, data digests, metrics, versions. */
  provenance: Record<string, unknown>;
}

/** What a model folder is written from. */
export interface ModelContent extends EncoderSettings, Origin {
  /** Under the names of bertTensors. */
  weights: ReadonlyMap<string, Tensor>;
  tokenizer: TokenizerFiles;
}

type Json = Record<string, unknown>;

/**
 * Opens anybody's BERT sentence encoder: sentence-transformers' layout, or a plain BERT folder.
 *
 * @param name what to call it; the folder's name when left out
 * @throws UserError `not-found`; `malformed`, `corrupt` or `unsupported-model`, naming file and field
 */
export async function openModelFolder(dir: string, name?: string): Promise<ModelFolder> {
  const at = (...parts: string[]): string => path.join(dir, ...parts);
  if (!(await exists(dir))) throw new UserError('not-found', `${dir}: no such model folder`);
  const settings = await readSettings(dir);
  const graphs: ModelFolder['graphs'] = {};
  if (await exists(at('onnx', 'model.onnx'))) graphs.fp32 = at('onnx', 'model.onnx');
  if (await exists(at('onnx', 'model_quantized.onnx'))) graphs.quantized = at('onnx', 'model_quantized.onnx');
  const weightsFile = (await exists(at('model.safetensors'))) ? at('model.safetensors') : undefined;
  if (!weightsFile && !graphs.fp32 && !graphs.quantized)
    throw new UserError(
      'unsupported-model',
      `${dir}: expected model.safetensors or onnx/model.onnx, found neither`,
    );
  return { dir, name: name ?? path.basename(path.resolve(dir)), ...settings, weightsFile, graphs };
}

/**
 * Reads a folder's small files: all that it says beside the weights.
 *
 * @throws UserError as {@link openModelFolder}
 */
export async function readSettings(dir: string): Promise<FolderSettings> {
  const at = (...parts: string[]): string => path.join(dir, ...parts);
  const config = parseBertConfig(await readJson<Json>(at('config.json')), at('config.json'));
  const tokenizer = await readTokenizerFiles(dir, config);
  const sentence = await readJsonIfThere(at('sentence_bert_config.json'));
  const notes: string[] = [];

  const prompt = (await readJsonIfThere(at('config_sentence_transformers.json')))?.default_prompt_name;
  if (prompt)
    throw new UserError(
      'unsupported-model',
      `${at('config_sentence_transformers.json')}: default_prompt_name: expected null (a prompt before every text is not supported), found ${JSON.stringify(prompt)}`,
    );

  return {
    config,
    ...(await readModules(dir, config, notes)),
    maxTokens: maxTokensOf(config, sentence, tokenizer, notes),
    lowerCase: sentence?.do_lower_case === true,
    tokenizer,
    notes,
  };
}

/** Length of an encoder's vectors. */
export function dimensionsOf({ config, dense }: Pick<EncoderSettings, 'config' | 'dense'>): number {
  return denseDimensions(config.hiddenSize, dense);
}

/** The card and the provenance that a folder came with, or ones that say where it came from. */
export async function readOrigin({ dir, name }: Pick<ModelFolder, 'dir' | 'name'>): Promise<Origin> {
  const card = path.join(dir, 'README.md');
  const provenance = path.join(dir, 'sentence-jepa.json');
  return {
    card: (await exists(card)) ? await readText(card) : `# ${name}\n`,
    provenance: (await exists(provenance))
      ? await readJson(provenance)
      : { base: name, exportedBy: `sentence-jepa ${version}` },
  };
}

/**
 * The encoder's tensors, fp32.
 *
 * @throws UserError `unsupported-model` when the folder has only ONNX graphs, or as readBertWeights
 */
export async function loadWeights(folder: ModelFolder): Promise<Map<string, Tensor>> {
  if (!folder.weightsFile)
    throw new UserError(
      'unsupported-model',
      `${folder.dir}: expected model.safetensors, found only ONNX graphs; they serve, but cannot be trained or exported`,
    );
  return readBertWeights(folder.weightsFile, folder.config);
}

/**
 * Writes the whole model folder, so that it appears at once or not at all.
 *
 * @throws UserError `exists` when `out` is there already; `unavailable` when the disk is full
 */
export async function writeModelFolder(out: string, content: ModelContent): Promise<void> {
  if (await exists(out))
    throw new UserError('exists', `${out}: already there; name another folder or remove it first`);
  const { config, weights, tokenizer } = content;
  await writeFolderAtomic(out, async (folder) => {
    const at = (name: string): string => path.join(folder, name);
    await writeSettings(folder, content);
    await writeFileAtomic(at('tokenizer.json'), tokenizer.tokenizerJson);
    await writeSafetensors(at('model.safetensors'), weights);
    // What reads the graph alone would miss the Dense modules: there it says the whole vector too.
    const head = content.dense.length > 0 ? content : undefined;
    await writeFileAtomic(at('onnx/model.onnx'), bertGraph(config, weights, 'fp32', head));
    await writeFileAtomic(at('onnx/model_quantized.onnx'), bertGraph(config, weights, 'quantized', head));
  });
}

/** Writes the files that readSettings and readOrigin read, into a folder that is being made. */
export async function writeSettings(folder: string, content: ModelContent): Promise<void> {
  const { config, tokenizer, maxTokens } = content;
  const write = (name: string, text: string): Promise<void> => writeFileAtomic(path.join(folder, name), text);
  const json = (name: string, value: unknown): Promise<void> =>
    write(name, JSON.stringify(value, null, 2) + '\n');
  await json('config.json', bertConfigJson(config));
  // transformers.js truncates to model_max_length, sentence-transformers to max_seq_length.
  await json('tokenizer_config.json', {
    tokenizer_class: 'BertTokenizer',
    ...specialTokens(tokenizer),
    ...tokenizer.tokenizerConfig,
    model_max_length: maxTokens,
  });
  const vocabText = vocabTextOf(tokenizer);
  if (vocabText !== undefined) await write('vocab.txt', vocabText);
  await json('special_tokens_map.json', specialTokens(tokenizer));
  await json('modules.json', modulesJson(content));
  await json('1_Pooling/config.json', poolingJson(content));
  const [, ...behind] = moduleFolders(content);
  for (const [i, layer] of content.dense.entries()) await writeDense(path.join(folder, behind[i]), layer);
  if (content.normalize) await json(`${behind.at(-1)}/config.json`, {});
  await json('sentence_bert_config.json', { max_seq_length: maxTokens, do_lower_case: content.lowerCase });
  await json('config_sentence_transformers.json', {
    __version__: { sentence_transformers: '2.0.0' },
    prompts: {},
    default_prompt_name: null,
    similarity_fn_name: 'cosine',
  });
  await write('README.md', content.card);
  await json('sentence-jepa.json', content.provenance);
}

async function readJsonIfThere(file: string): Promise<Json | undefined> {
  return (await exists(file)) ? readJson<Json>(file) : undefined;
}

/** What comes behind the hidden states, as modules.json and the folders that it names say. */
async function readModules(
  dir: string,
  config: BertConfig,
  notes: string[],
): Promise<Pick<EncoderSettings, 'pooling' | 'dense' | 'normalize'>> {
  const file = path.join(dir, 'modules.json');
  const pooled = path.join(dir, '1_Pooling', 'config.json');
  if (!(await exists(file))) {
    notes.push('no modules.json: vectors are scaled to length 1');
    if (await exists(pooled)) return { pooling: await readPooling(pooled), dense: [], normalize: true };
    notes.push('no 1_Pooling: the mean over the tokens is taken');
    return { pooling: 'mean', dense: [], normalize: true };
  }
  const modules = await readModuleList(file);
  const kinds = modules.map(({ kind }) => kind);
  if (!/^Transformer,Pooling(,Dense)*(,Normalize)?$/.test(kinds.join()))
    throw new UserError(
      'unsupported-model',
      `${file}: expected the modules Transformer, Pooling, perhaps Dense, and perhaps Normalize, found ${kinds.join(', ')}`,
    );
  const dense: DenseLayer[] = [];
  for (const { kind, folder } of modules)
    if (kind === 'Dense')
      dense.push(await readDense(path.join(dir, folder), denseDimensions(config.hiddenSize, dense)));
  return {
    pooling: await readPooling(path.join(dir, modules[1].folder, 'config.json')),
    dense,
    normalize: kinds.at(-1) === 'Normalize',
  };
}

async function readModuleList(file: string): Promise<{ kind: string; folder: string }[]> {
  const modules = await readJson<{ type?: string; path?: string }[]>(file);
  if (!Array.isArray(modules)) throw new UserError('malformed', `${file}: expected a list of modules`);
  return modules.map(({ type, path: folder }, i) => {
    // sentence_transformers.models.Pooling, or sentence_transformers.sentence_transformer.modules.pooling.Pooling.
    const kind = String(type).split('.').at(-1)!;
    return { kind, folder: folder ?? `${i}_${kind}` };
  });
}

/** The files of the Dense modules that a folder's modules.json names, if any, as they are named in the folder. */
export async function denseFiles(dir: string): Promise<string[]> {
  const file = path.join(dir, 'modules.json');
  const modules = (await exists(file)) ? await readModuleList(file) : [];
  return modules
    .filter(({ kind }) => kind === 'Dense')
    .flatMap(({ folder }) => DENSE_FILES.map((name) => path.posix.join(folder, name)));
}

async function readPooling(file: string): Promise<Pooling> {
  const json = await readJson<Json>(file);
  const prefix = 'pooling_mode_';
  const modes =
    json.pooling_mode === undefined
      ? Object.keys(json).filter((key) => key.startsWith(prefix) && json[key] === true)
      : [json.pooling_mode].flat();
  const [mode] = modes.map((name) =>
    String(name)
      .replace(prefix, '')
      .replace(/_tokens?$/, ''),
  );
  if (modes.length !== 1 || (mode !== 'mean' && mode !== 'cls'))
    throw new UserError(
      'unsupported-model',
      `${file}: expected pooling by the mean of the tokens or by [CLS], found ${modes.join(' and ') || 'none'}`,
    );
  return mode;
}

function maxTokensOf(
  config: BertConfig,
  sentence: Json | undefined,
  tokenizer: TokenizerFiles,
  notes: string[],
): number {
  const stated = sentence?.max_seq_length;
  if (typeof stated === 'number' && stated >= 3) return Math.min(stated, config.maxPositions);
  const { model_max_length: limit } = tokenizer.tokenizerConfig;
  // "No limit" is written as a number with 30 digits.
  const maxTokens = Math.min(512, config.maxPositions, typeof limit === 'number' ? limit : 512);
  notes.push(`no max_seq_length in sentence_bert_config.json: texts are cut off at ${maxTokens} tokens`);
  return maxTokens;
}

async function readTokenizerFiles(dir: string, config: BertConfig): Promise<TokenizerFiles> {
  const file = path.join(dir, 'tokenizer.json');
  const vocabFile = path.join(dir, 'vocab.txt');
  const tokenizerConfig = await readJsonIfThere(path.join(dir, 'tokenizer_config.json'));
  if (await exists(file)) {
    const tokenizerJson = await readText(file);
    try {
      JSON.parse(tokenizerJson);
    } catch (error) {
      throw new UserError('malformed', `${file}: expected JSON: ${messageOf(error)}`, { cause: error });
    }
    return { tokenizerJson, tokenizerConfig: tokenizerConfig ?? {} };
  }
  if (!(await exists(vocabFile)))
    throw new UserError('unsupported-model', `${dir}: expected tokenizer.json or vocab.txt, found neither`);
  return filesOfVocabulary(await readText(vocabFile), tokenizerConfig ?? {}, config.maxPositions, vocabFile);
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw fileError(error, file, 'read');
  }
}

/** The modules behind the hidden states, each in a folder of its place and kind. */
function moduleFolders({ dense, normalize }: EncoderSettings): string[] {
  const kinds = ['Pooling', ...dense.map(() => 'Dense'), ...(normalize ? ['Normalize'] : [])];
  return kinds.map((kind, i) => `${i + 1}_${kind}`);
}

/** Spelled as sentence-transformers 2 wrote it; 6 still reads it, and text-embeddings-inference no other. */
function modulesJson(settings: EncoderSettings): object[] {
  return ['', ...moduleFolders(settings)].map((path, idx) => ({
    idx,
    name: String(idx),
    path,
    type: `sentence_transformers.models.${path.split('_')[1] ?? 'Transformer'}`,
  }));
}

function poolingJson({ config, pooling }: EncoderSettings): object {
  return {
    word_embedding_dimension: config.hiddenSize,
    pooling_mode_cls_token: pooling === 'cls',
    pooling_mode_mean_tokens: pooling === 'mean',
    pooling_mode_max_tokens: false,
    pooling_mode_mean_sqrt_len_tokens: false,
  };
}
