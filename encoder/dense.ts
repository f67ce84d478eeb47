import { createHash } from 'node:crypto';
import path from 'node:path';

import { UserError } from '../base/errors.js';
import { readJson, writeFileAtomic } from '../base/files.js';
import { DENSE_FILES } from './model-files.js';
import {
  bytesOf,
  readSafetensors,
  readSafetensorsHeader,
  shapeText,
  writeSafetensors,
  type Tensor,
} from './safetensors.js';

/** Under the names by which sentence-transformers spells them in config.json. */
const ACTIVATIONS = {
  'torch.nn.modules.linear.Identity': 'identity',
  'torch.nn.modules.activation.Tanh': 'tanh',
} as const;

/** What sentence-transformers' Dense module does to a pooled vector x: activation(W x + b). */
export interface DenseLayer {
  /** W: [out, in]. */
  weight: Tensor;
  /** b: [out]. */
  bias?: Float32Array;
  activation: (typeof ACTIVATIONS)[keyof typeof ACTIVATIONS];
}

/** Length of the vectors that come out of the layers when `pooled` is that of a pooled vector. */
export function denseDimensions(pooled: number, layers: readonly DenseLayer[]): number {
  return layers.at(-1)?.weight.shape[0] ?? pooled;
}

/**
 * @param vectors [n, in] of the first layer, row-major
 * @returns [n, out] of the last one; the vectors themselves when there is no layer
 */
export function applyDense(vectors: Float32Array, layers: readonly DenseLayer[]): Float32Array {
  return layers.reduce(applyLayer, vectors);
}

function applyLayer(vectors: Float32Array, { weight, bias, activation }: DenseLayer): Float32Array {
  const [out, inner] = weight.shape;
  const w = weight.data;
  const n = vectors.length / inner;
  const result = new Float32Array(n * out);
  for (let row = 0; row < n; row++)
    for (let j = 0; j < out; j++) {
      let [a, b] = [row * inner, j * inner];
      const end = a + inner;
      // Four sums at a time: each addition waits for the one before it.
      let [s0, s1, s2, s3] = [bias?.[j] ?? 0, 0, 0, 0];
      for (; a + 3 < end; a += 4, b += 4) {
        s0 += vectors[a] * w[b];
        s1 += vectors[a + 1] * w[b + 1];
        s2 += vectors[a + 2] * w[b + 2];
        s3 += vectors[a + 3] * w[b + 3];
      }
      for (; a < end; a++, b++) s0 += vectors[a] * w[b];
      const sum = s0 + s1 + s2 + s3;
      result[row * out + j] = activation === 'tanh' ? Math.tanh(sum) : sum;
    }
  return result;
}

/** SHA-256 over what the layers compute. */
export function denseDigest(layers: readonly DenseLayer[]): string {
  const hash = createHash('sha256');
  for (const { weight, bias, activation } of layers) {
    hash.update(JSON.stringify([weight.shape, bias !== undefined, activation]));
    hash.update(bytesOf(weight.data));
    if (bias) hash.update(bytesOf(bias));
  }
  return hash.digest('hex');
}

/**
 * Reads the folder of a Dense module.
 *
 * @param expected how long the vectors are that it gets
 * @throws UserError `unsupported-model` for another activation, input or size, naming file and field; `corrupt` for
 *   a number that is not finite; as readSafetensors
 */
export async function readDense(dir: string, expected: number): Promise<DenseLayer> {
  const [configFile, weightsFile] = DENSE_FILES.map((name) => path.join(dir, name));
  const config = await readJson<Record<string, unknown>>(configFile);
  const refuse = (where: string, wanted: string, found: string): UserError =>
    new UserError('unsupported-model', `${where}: expected ${wanted}, found ${found}`);

  const name = String(config.activation_function);
  if (!Object.hasOwn(ACTIVATIONS, name))
    throw refuse(`${configFile}: activation_function`, Object.keys(ACTIVATIONS).join(' or '), name);
  const activation = ACTIVATIONS[name as keyof typeof ACTIVATIONS];
  for (const field of ['module_input_name', 'module_output_name'])
    if (![undefined, null, 'sentence_embedding'].includes(config[field] as string | null | undefined))
      throw refuse(`${configFile}: ${field}`, 'sentence_embedding', String(config[field]));
  const { in_features: inner, out_features: out } = config;
  if (inner !== expected)
    throw refuse(
      `${configFile}: in_features`,
      `${expected}, the length of the vectors that it gets`,
      String(inner),
    );
  if (typeof out !== 'number' || !Number.isInteger(out) || out < 1)
    throw refuse(`${configFile}: out_features`, 'a whole number from 1 up', String(out));

  const shapes = new Map([['linear.weight', [out, expected]]]);
  if (config.bias !== false) shapes.set('linear.bias', [out]);
  const header = await readSafetensorsHeader(weightsFile);
  for (const [tensor, shape] of shapes) {
    const found = header.get(tensor);
    if (!found || shapeText(found.shape) !== shapeText(shape))
      throw refuse(
        `${weightsFile}: ${tensor}`,
        `shape ${shapeText(shape)}`,
        found ? shapeText(found.shape) : 'no such tensor',
      );
  }
  const tensors = await readSafetensors(weightsFile, (tensor) => shapes.has(tensor));
  for (const [tensor, { data }] of tensors)
    if (!data.every(Number.isFinite))
      throw new UserError('corrupt', `${weightsFile}: ${tensor}: expected finite numbers, found others`);
  return {
    weight: tensors.get('linear.weight')!,
    bias: tensors.get('linear.bias')?.data,
    activation,
  };
}

/** Writes the folder of a Dense module as sentence-transformers does. */
export async function writeDense(dir: string, { weight, bias, activation }: DenseLayer): Promise<void> {
  const [out, inner] = weight.shape;
  const [configFile, weightsFile] = DENSE_FILES.map((name) => path.join(dir, name));
  const config = {
    in_features: inner,
    out_features: out,
    bias: bias !== undefined,
    activation_function: Object.entries(ACTIVATIONS).find(([, name]) => name === activation)![0],
  };
  await writeFileAtomic(configFile, JSON.stringify(config, null, 2) + '\n');
  const tensors = new Map([['linear.weight', weight]]);
  if (bias) tensors.set('linear.bias', { shape: [out], data: bias });
  await writeSafetensors(weightsFile, tensors);
}
