import { UserError } from '../base/errors.js';
import { exists, sha256File, writeFileAtomic } from '../base/files.js';
import { cacheFolder } from '../base/paths.js';
import { weightsFileDigest } from './fingerprint.js';
import { GRAPH_VERSION } from './model-files.js';
import { loadWeights, type ModelFolder } from './model-folder.js';
import { bertGraph, type Precision } from './onnx/bert-graph.js';

export interface GraphFile {
  file: string;
  /** What the fingerprint says of the weights. */
  weights: string;
}

/**
 * The ONNX graph to run: the folder's own, or one built from model.safetensors and kept in the cache folder.
 *
 * In fp32 the tensors decide a vector, so their digest stands for the weights whoever wrote the graph. Of
 * 8-bit graphs there are many for the same tensors, so there the graph's own digest does.
 *
 * @throws UserError `unsupported-model` when the folder has neither; as loadWeights
 */
export async function findGraph(folder: ModelFolder, precision: Precision): Promise<GraphFile> {
  const own = folder.graphs[precision];
  if (own && (precision === 'quantized' || !folder.weightsFile))
    return { file: own, weights: await sha256File(own) };
  if (!folder.weightsFile) {
    const there = precision === 'fp32' ? 'quantized' : 'fp32';
    throw new UserError(
      'unsupported-model',
      `${folder.dir}: expected onnx/${precision === 'fp32' ? 'model' : 'model_quantized'}.onnx or model.safetensors, found only the ${there} graph; run it with --precision ${there}`,
    );
  }
  const digest = await weightsFileDigest(folder.weightsFile, folder.config);
  if (own) return { file: own, weights: digest };
  const file = cacheFolder('graphs', `${digest}-${GRAPH_VERSION}`, `${precision}.onnx`);
  if (!(await exists(file)))
    await writeFileAtomic(file, bertGraph(folder.config, await loadWeights(folder), precision));
  return { file, weights: precision === 'fp32' ? digest : await sha256File(file) };
}
