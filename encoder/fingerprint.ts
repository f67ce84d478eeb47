import { createHash, type Hash } from 'node:crypto';

import { bertWeightChunks, type BertConfig } from './bert.js';
import { denseDigest } from './dense.js';
import type { ModelFolder } from './model-folder.js';
import type { Precision } from './graph-file.js';
import { bytesOf, type Tensor } from './safetensors.js';

/**
 * SHA-256 over what the tensors compute, however they are stored: the same for a file with other names,
 * order or tensors that the encoder doesn't use.
 *
 * @param weights as loadWeights gives them
 */
export function weightsDigest(config: BertConfig, weights: ReadonlyMap<string, Tensor>): string {
  const hash = beginDigest(config);
  for (const [name, { shape, data }] of weights)
    hash.update(JSON.stringify([name, shape])).update(bytesOf(data));
  return hash.digest('hex');
}

/**
 * The same of a file, read piece by piece: a server has no need of the numbers, nor of the memory for them.
 *
 * @param onNumbers gets the numbers of all tensors, in the order of bertTensors; they are overwritten by the next ones
 * @throws UserError as readBertWeights
 */
export async function weightsFileDigest(
  file: string,
  config: BertConfig,
  onNumbers?: (numbers: Float32Array) => void,
): Promise<string> {
  const hash = beginDigest(config);
  let current = '';
  for await (const { name, shape, data } of bertWeightChunks(file, config)) {
    if (name !== current) hash.update(JSON.stringify([name, shape]));
    current = name;
    hash.update(bytesOf(data));
    onNumbers?.(data);
  }
  return hash.digest('hex');
}

function beginDigest({ heads, layerNormEps }: BertConfig): Hash {
  return createHash('sha256').update(JSON.stringify([heads, layerNormEps]));
}

/**
 * SHA-256 over all that decides a vector. The format's number changes when pooling or tokenizing does.
 *
 * @param folder with the maxTokens that is used
 * @param weights digest of the tensors, or of the ONNX file where that decides
 */
export function fingerprintOf(
  folder: Pick<ModelFolder, 'tokenizer' | 'pooling' | 'dense' | 'normalize' | 'maxTokens' | 'lowerCase'>,
  weights: string,
  precision: Precision,
): string {
  const { tokenizer, pooling, dense, normalize, maxTokens, lowerCase } = folder;
  const decides = {
    format: 1,
    weights,
    tokenizer: createHash('sha256').update(tokenizer.tokenizerJson).digest('hex'),
    pooling,
    ...(dense.length > 0 && { dense: denseDigest(dense) }),
    normalize,
    maxTokens,
    lowerCase,
    precision,
  };
  return createHash('sha256').update(JSON.stringify(decides)).digest('hex');
}
