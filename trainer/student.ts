import { UserError } from '../base/errors.js';
import { Random } from '../base/random.js';
import { bertTensors, type BertConfig } from '../encoder/bert.js';
import type { ModelFolder } from '../encoder/model-folder.js';
import { loadTokenizer } from '../encoder/tokenizer.js';
import { type TokenizerFiles, wordPieceFiles } from '../encoder/tokenizer-files.js';
import type { Tensor } from '../encoder/safetensors.js';
import { product, transposedProduct } from './matrix.js';
import type { StudentShape } from './student-shape.js';
import type { Measured } from './tensorflow/measure.js';
import { countTokens, countWords, pruneVocabulary, trainVocabulary, vocabularyOf } from './vocabulary.js';

/** Tells the random numbers of first weights from all others of a run. */
const STUDENT = 6;

/** Standard deviation of first weights (Devlin et al. 2018). */
const INITIAL_STD = 0.02;

/** A new encoder, before it is trained. */
export interface Student {
  config: BertConfig;
  weights: Map<string, Tensor>;
  tokenizer: TokenizerFiles;
}

/** The student's vocabulary, and what each of its tokens is made of in the source's. */
export interface StudentVocabulary {
  tokenizer: TokenizerFiles;
  /** For each token the source's ids; the mean of their embeddings is the token's first. */
  pieces: Int32Array[];
}

/**
 * The vocabulary of a student: tokens of the source's that the texts use most, or one learned on the texts.
 *
 * @throws UserError `unsupported-model` when the source's tokenizer is not WordPiece; `usage` for a size too small
 */
export function studentVocabulary(
  source: ModelFolder,
  { vocab, vocabulary: kind }: Pick<StudentShape, 'vocab' | 'vocabulary'>,
  texts: Iterable<string>,
): StudentVocabulary {
  const known = vocabularyOf(source.tokenizer);
  if (!known)
    throw new UserError(
      'unsupported-model',
      `${source.dir}: expected a WordPiece tokenizer to make a student's of, found another kind`,
    );
  const tokenizer = loadTokenizer(source);
  const files = (tokens: readonly string[]): TokenizerFiles => {
    const { do_lower_case: lowerCase = true } = source.tokenizer.tokenizerConfig;
    return wordPieceFiles(tokens, { lowerCase: lowerCase !== false, maxTokens: source.maxTokens });
  };
  if (kind === 'trained') {
    const tokens = trainVocabulary(countWords(texts, tokenizer), vocab);
    const special = new Set(Object.values(tokenizer.special));
    const ids = new Map(known.map((token, id) => [token, id]));
    const pieces = tokens.map((token) => {
      const id = ids.get(token);
      if (id !== undefined) return Int32Array.of(id);
      const spelled = tokenizer.encode(token.replace(/^##/, '')).filter((piece) => !special.has(piece));
      return spelled.length > 0 ? spelled : Int32Array.of(tokenizer.special.unknown);
    });
    return { tokenizer: files(tokens), pieces };
  }
  if (vocab >= known.length)
    return { tokenizer: source.tokenizer, pieces: known.map((_, id) => Int32Array.of(id)) };
  const counts = countTokens(
    Array.from(texts, (text) => tokenizer.encode(text)),
    known.length,
  );
  const kept = pruneVocabulary(known, counts, vocab);
  return {
    tokenizer: files(Array.from(kept, (id) => known[id])),
    pieces: Array.from(kept, (id) => Int32Array.of(id)),
  };
}

/** What a student's sizes and vocabulary make of its source's configuration. */
export function studentConfig(source: BertConfig, shape: StudentShape, vocabSize: number): BertConfig {
  return {
    ...source,
    vocabSize,
    hiddenSize: shape.hidden,
    layers: shape.layers,
    heads: shape.heads,
    intermediateSize: shape.intermediate,
    padTokenId: 0,
  };
}

/** Weights drawn anew: normal for matrices, 1 and 0 for norms, 0 for biases. */
export function randomWeights(config: BertConfig, seed: number): Map<string, Tensor> {
  const random = new Random(seed, STUDENT);
  const weights = new Map<string, Tensor>();
  for (const [name, shape] of bertTensors(config)) {
    const data = new Float32Array(shape.reduce((a, b) => a * b));
    if (shape.length > 1) for (let i = 0; i < data.length; i++) data[i] = INITIAL_STD * random.normal();
    else if (name.endsWith('LayerNorm.weight')) data.fill(1);
    weights.set(name, { shape, data });
  }
  return weights;
}

/**
 * Weights cut out of the source's. Layers are the ones to take. In each, the attention heads and the neurons of the
 * feed-forward half that do most on the data are kept (Michel et al. 2019; McCarley et al. 2019). A narrower hidden
 * state is the source's, projected onto the directions in which the data's embeddings lie most; what a layer norm
 * scales has no counterpart there and begins at 1 and 0.
 *
 * @param measured on the source, see measureSource
 */
export function cutWeights(
  source: { config: BertConfig; weights: ReadonlyMap<string, Tensor> },
  config: BertConfig,
  shape: StudentShape,
  { pieces }: StudentVocabulary,
  measured: Measured,
): Map<string, Tensor> {
  const { hiddenSize: wide, heads: sourceHeads, intermediateSize } = source.config;
  const narrow = config.hiddenSize;
  const project = narrow === wide ? undefined : measured.directions(narrow);
  const of = (name: string): Tensor => source.weights.get(name)!;
  /** The rows of a matrix whose columns are the hidden state: [rows, wide] -> [rows, narrow]. */
  const columns = ({ shape: [rows], data }: Tensor): Tensor =>
    project
      ? { shape: [rows, narrow], data: product(data, project, rows, wide, narrow) }
      : { shape: [rows, wide], data };
  /** A matrix or bias whose rows are the hidden state: [wide, columns] -> [narrow, columns]. */
  const rows = ({ shape: [, count = 1], data, shape: { length } }: Tensor): Tensor => {
    if (!project) return { shape: length > 1 ? [wide, count] : [wide], data };
    const result = transposedProduct(project, data, wide, narrow, count);
    return { shape: length > 1 ? [narrow, count] : [narrow], data: result };
  };
  const norm = (tensor: Tensor, begins: number): Tensor =>
    project ? { shape: [narrow], data: new Float32Array(narrow).fill(begins) } : tensor;

  const weights = new Map<string, Tensor>();
  const words = of('embeddings.word_embeddings.weight');
  weights.set('embeddings.word_embeddings.weight', columns(meanRows(words, pieces)));
  for (const table of ['position', 'token_type'])
    weights.set(
      `embeddings.${table}_embeddings.weight`,
      columns(of(`embeddings.${table}_embeddings.weight`)),
    );
  weights.set('embeddings.LayerNorm.weight', norm(of('embeddings.LayerNorm.weight'), 1));
  weights.set('embeddings.LayerNorm.bias', norm(of('embeddings.LayerNorm.bias'), 0));

  const headSize = wide / sourceHeads;
  const keptHeadSize = narrow / config.heads;
  shape.take.forEach((from, to) => {
    const { headImportance, neuronImportance } = measured.layers[from];
    const heads = largest(headImportance, config.heads);
    const inner = Array.from(heads).flatMap((head) =>
      Array.from({ length: keptHeadSize }, (_, i) => head * headSize + i),
    );
    const neurons = Array.from(
      config.intermediateSize === intermediateSize
        ? neuronImportance.keys()
        : largest(neuronImportance, config.intermediateSize),
    );
    const at = (name: string): Tensor => of(`encoder.layer.${from}.${name}`);
    const set = (name: string, tensor: Tensor): void =>
      void weights.set(`encoder.layer.${to}.${name}`, tensor);
    for (const part of ['query', 'key', 'value'].map((name) => `attention.self.${name}`)) {
      set(`${part}.weight`, columns(takeRows(at(`${part}.weight`), inner)));
      set(`${part}.bias`, takeRows(at(`${part}.bias`), inner));
    }
    set('attention.output.dense.weight', rows(takeColumns(at('attention.output.dense.weight'), inner)));
    set('attention.output.dense.bias', rows(at('attention.output.dense.bias')));
    set('intermediate.dense.weight', columns(takeRows(at('intermediate.dense.weight'), neurons)));
    set('intermediate.dense.bias', takeRows(at('intermediate.dense.bias'), neurons));
    set('output.dense.weight', rows(takeColumns(at('output.dense.weight'), neurons)));
    set('output.dense.bias', rows(at('output.dense.bias')));
    for (const name of ['attention.output.LayerNorm', 'output.LayerNorm']) {
      set(`${name}.weight`, norm(at(`${name}.weight`), 1));
      set(`${name}.bias`, norm(at(`${name}.bias`), 0));
    }
  });
  // In the order that a digest of them is taken in.
  return new Map([...bertTensors(config).keys()].map((name) => [name, weights.get(name)!]));
}

/** Places of the k largest, rising. */
function largest(values: Float32Array, k: number): Uint32Array {
  const order = Uint32Array.from(values.keys()).sort((a, b) => values[b] - values[a] || a - b);
  return order.slice(0, k).sort();
}

function takeRows({ shape: [, columns = 1], shape, data }: Tensor, rows: readonly number[]): Tensor {
  const result = new Float32Array(rows.length * columns);
  rows.forEach((row, i) => result.set(data.subarray(row * columns, (row + 1) * columns), i * columns));
  return { shape: [rows.length, ...shape.slice(1)], data: result };
}

function takeColumns({ shape: [rows, columns], data }: Tensor, taken: readonly number[]): Tensor {
  const result = new Float32Array(rows * taken.length);
  for (let row = 0; row < rows; row++)
    taken.forEach((column, i) => (result[row * taken.length + i] = data[row * columns + column]));
  return { shape: [rows, taken.length], data: result };
}

/** A row for each list of rows: their mean. */
function meanRows({ shape: [, columns], data }: Tensor, lists: readonly Int32Array[]): Tensor {
  const result = new Float32Array(lists.length * columns);
  lists.forEach((list, i) => {
    for (const row of list)
      for (let j = 0; j < columns; j++) result[i * columns + j] += data[row * columns + j] / list.length;
  });
  return { shape: [lists.length, columns], data: result };
}
