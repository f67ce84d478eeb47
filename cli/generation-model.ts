import path from 'node:path';

import { fingerprintsOf } from '../encoder/fingerprints.js';
import { openModelFolder } from '../encoder/model-folder.js';
import { resolveModel } from '../encoder/resolve.js';
import { ownModel } from '../server/jobs/folders.js';
import type { ServerConfig } from '../server/config.js';

/** A generation, as far as it says where its model is. */
export interface GenerationModel {
  model: string;
  fingerprint: string;
  /** The training job that made the model. */
  job?: number;
  /** What --model said. */
  source?: string;
}

type Places = Pick<ServerConfig, 'dataDir' | 'modelStore'>;

/**
 * What the model of a generation is loaded from: the one that is here or, where that is not what made the vectors, from the
 * model store.
 *
 * @returns a folder, or a name
 * @throws UserError as `obtain`
 */
export async function modelOf(
  generation: GenerationModel,
  { dataDir, modelStore }: Places,
  say: (line: string) => void,
): Promise<string> {
  const own = ownModel(generation, path.resolve(dataDir));
  if (modelStore === undefined || (await makes(own, generation.fingerprint, say))) return own;
  return obtained(generation.fingerprint, modelStore, say);
}

/** Whether a model is on this machine, and of that fingerprint in one of its precisions. */
async function makes(model: string, fingerprint: string, say: (line: string) => void): Promise<boolean> {
  const found = await resolveModel(model, say).catch(() => undefined);
  if (!found) return false;
  return Object.values(await fingerprintsOf(await openModelFolder(found.dir, found.name))).includes(
    fingerprint,
  );
}

async function obtained(
  fingerprint: string,
  modelStore: string,
  say: (line: string) => void,
): Promise<string> {
  // Loaded when it is asked for: most servers have their model.
  const { obtain } = await import('../server/model-store/model-store.js');
  const dir = await obtain(fingerprint, modelStore);
  say(`the model of ${fingerprint.slice(0, 12)}, from ${modelStore}, is in ${dir}`);
  return dir;
}
