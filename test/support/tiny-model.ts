import { Random } from '../../base/random.js';
import { bertTensors, type BertConfig } from '../../encoder/bert.js';
import { type ModelContent, type Pooling, writeModelFolder } from '../../encoder/model-folder.js';
import { wordPieceFiles } from '../../encoder/tokenizer-files.js';
import type { DenseLayer } from '../../encoder/dense.js';
import type { Tensor } from '../../encoder/safetensors.js';
import { countOf } from '../../encoder/safetensors.js';

const WORDS =
  'the a an to in on of for with and or not is are was do does can how what why where which when i my it this ' +
  'from after before install update upgrade remove delete file folder disk drive usb boot grub window desktop ' +
  'panel screen sound network wireless driver card kernel package server command terminal user password login ' +
  'black slow error problem fail work start stop run open close change make get set find show hide move copy ' +
  'ubuntu linux python java';

/** A small lower-case WordPiece vocabulary: whole words, each letter and digit alone and as a continuation. */
export const TINY_VOCABULARY: readonly string[] = (() => {
  const characters = [...'abcdefghijklmnopqrstuvwxyz0123456789'];
  return [
    '[PAD]',
    '[UNK]',
    '[CLS]',
    '[SEP]',
    '[MASK]',
    ...characters,
    ...characters.map((character) => `##${character}`),
    ...'.,:;!?\'"()-/_',
    '##ed',
    '##ing',
    '##er',
    '##ly',
    ...WORDS.split(' ').filter((word) => word.length > 1),
  ];
})();

export interface TinyModelOptions {
  seed?: number;
  layers?: number;
  hiddenSize?: number;
  heads?: number;
  pooling?: Pooling;
  /** Widths of Dense layers behind the pooling, the last one with a tanh. */
  dense?: readonly number[];
  normalize?: boolean;
  maxTokens?: number;
}

export function tinyConfig(options: TinyModelOptions = {}): BertConfig {
  const { layers = 2, hiddenSize = 32, heads = 4 } = options;
  return {
    vocabSize: TINY_VOCABULARY.length,
    hiddenSize,
    layers,
    heads,
    intermediateSize: 2 * hiddenSize,
    maxPositions: 64,
    typeVocabSize: 2,
    layerNormEps: 1e-12,
    padTokenId: 0,
    hiddenDropout: 0.1,
    attentionDropout: 0.1,
  };
}

/** Random weights with every bias and scale away from 0 and 1, so that a forgotten one shows. */
export function tinyWeights(config: BertConfig, seed = 1): Map<string, Tensor> {
  const random = new Random(seed);
  const weights = new Map<string, Tensor>();
  for (const [name, shape] of bertTensors(config)) {
    const mean = name.endsWith('LayerNorm.weight') ? 1 : 0;
    const spread = shape.length === 2 && !name.startsWith('embeddings') ? 1 / Math.sqrt(shape[1]) : 0.2;
    const data = Float32Array.from({ length: countOf(shape) }, () => mean + spread * random.normal());
    weights.set(name, { shape, data });
  }
  return weights;
}

/** Random, with biases. */
function tinyDense(pooled: number, widths: readonly number[], seed: number): DenseLayer[] {
  const random = new Random(seed + 1);
  const normal = (n: number, spread: number): Float32Array =>
    Float32Array.from({ length: n }, () => spread * random.normal());
  return widths.map((out, i) => {
    const inner = widths[i - 1] ?? pooled;
    return {
      weight: { shape: [out, inner], data: normal(out * inner, 1 / Math.sqrt(inner)) },
      bias: normal(out, 0.2),
      activation: i === widths.length - 1 ? 'tanh' : 'identity',
    };
  });
}

export function tinyContent(options: TinyModelOptions = {}): ModelContent {
  const { seed = 1, pooling = 'mean', dense = [], normalize = true, maxTokens = 32 } = options;
  const config = tinyConfig(options);
  return {
    config,
    weights: tinyWeights(config, seed),
    tokenizer: wordPieceFiles(TINY_VOCABULARY, { lowerCase: true, maxTokens }),
    pooling,
    dense: tinyDense(config.hiddenSize, dense, seed),
    normalize,
    maxTokens,
    lowerCase: false,
    card: '# A tiny random encoder\n',
    provenance: { seed },
  };
}

/** Writes a complete model folder with random weights: 2 layers x 32 unless said otherwise. */
export async function makeTinyModel(dir: string, options: TinyModelOptions = {}): Promise<void> {
  await writeModelFolder(dir, tinyContent(options));
}
