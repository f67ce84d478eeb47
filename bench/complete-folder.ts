import path from 'node:path';

import { loadWeights, type ModelFolder, writeModelFolder } from '../encoder/model-folder.js';

/** A folder of the same encoder with ONNX graphs in it, which transformers.js needs: this one, or one in `scratch`. */
export async function completeFolder(folder: ModelFolder, scratch: string): Promise<string> {
  if (folder.graphs.fp32 && folder.graphs.quantized) return path.resolve(folder.dir);
  const complete = path.join(scratch, 'complete');
  const weights = await loadWeights(folder);
  await writeModelFolder(complete, { ...folder, weights, card: `# ${folder.name}\n`, provenance: {} });
  return complete;
}
