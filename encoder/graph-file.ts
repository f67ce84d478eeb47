import { UserError } from '../base/errors.js';
import { exists, sha256File, writeFileAtomic } from '../base/files.js';
import { cacheFolder } from '../base/paths.js';
import { weightsFileDigest } from './fingerprint.js';
import { GRAPH_VERSION } from './model-files.js';
import { loadWeights, type ModelFolder } from './model-folder.js';
import { bertGraph, type GraphPrecision } from './onnx/bert-graph.js';
import { packedGraph, type PackedPrecision } from './onnx/packed-graph.js';

/**
 * How an encoder computes: as this program's own graphs do, or, as `quantized`, by the model folder's own graph of that
 * name, which other runtimes run, too.
 */
export type Precision = PackedPrecision | GraphPrecision;

export interface GraphFile {
  file: string;
  /** Of onnx/packed-graph.ts, in that precision; else as bertGraph makes them. */
  packed?: PackedPrecision;
  /** What the fingerprint says of the weights. */
  weights: string;
}

/**
 * The ONNX graph to run: ours, built from model.safetensors and kept in the cache folder; or, where there are no weights
 * or `quantized` is asked for, the folder's own.
 *
 * The tensors decide a vector, so their digest stands for the weights. Of `quantized` graphs there are many for the same
 * tensors, so there the graph's own digest does.
 *
 * @throws UserError `unsupported-model` when the folder has neither; as loadWeights
 */
export async function findGraph(folder: ModelFolder, precision: Precision): Promise<GraphFile> {
  if (precision !== 'quantized' && folder.weightsFile) {
    const weights = await weightsFileDigest(folder.weightsFile, folder.config);
    const file = await built(weights, `packed-${precision}`, async () =>
      packedGraph(folder.config, await loadWeights(folder), precision),
    );
    return { file, packed: precision, weights };
  }
  if (precision === 'int8') throw lacks(folder, 'model.safetensors');
  return folderGraph(folder, precision);
}

/** The graph as others run it: the folder's own, or built. @throws UserError as findGraph */
export async function folderGraph(folder: ModelFolder, precision: GraphPrecision): Promise<GraphFile> {
  const own = folder.graphs[precision];
  if (own) return { file: own, weights: await sha256File(own) };
  if (!folder.weightsFile)
    throw lacks(
      folder,
      `onnx/${precision === 'fp32' ? 'model' : 'model_quantized'}.onnx or model.safetensors`,
    );
  const digest = await weightsFileDigest(folder.weightsFile, folder.config);
  const file = await built(digest, precision, async () =>
    bertGraph(folder.config, await loadWeights(folder), precision),
  );
  return { file, weights: await sha256File(file) };
}

/** What the fingerprint says of the weights, without a graph where none is needed for it. @throws UserError as findGraph */
export async function weightsIn(folder: ModelFolder, precision: Precision): Promise<string> {
  if (precision !== 'quantized' && folder.weightsFile)
    return weightsFileDigest(folder.weightsFile, folder.config);
  return (await findGraph(folder, precision)).weights;
}

function lacks({ dir, graphs }: ModelFolder, expected: string): UserError {
  const there = graphs.fp32 ? 'fp32' : 'quantized';
  return new UserError(
    'unsupported-model',
    `${dir}: expected ${expected}, found only the ${there} graph; run it with --precision ${there}`,
  );
}

async function built(digest: string, name: string, build: () => Promise<Uint8Array[]>): Promise<string> {
  const file = cacheFolder('graphs', `${digest}-${GRAPH_VERSION}`, `${name}.onnx`);
  if (!(await exists(file))) await writeFileAtomic(file, await build());
  return file;
}
