import { fingerprintOf } from './fingerprint.js';
import { weightsIn, type Precision } from './graph-file.js';
import type { ModelFolder } from './model-folder.js';

/** The fingerprints of a model, by the precisions that its folder can be run in. */
export async function fingerprintsOf(folder: ModelFolder): Promise<Partial<Record<Precision, string>>> {
  const fingerprints: Partial<Record<Precision, string>> = {};
  for (const precision of ['fp32', 'int8', 'quantized'] as const)
    if (folder.weightsFile || (precision !== 'int8' && folder.graphs[precision]))
      fingerprints[precision] = fingerprintOf(folder, await weightsIn(folder, precision), precision);
  return fingerprints;
}
