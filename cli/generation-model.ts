import { existsSync } from 'node:fs';
import path from 'node:path';

import { resolveModel } from '../encoder/resolve.js';
import type { Inference } from '../server/batching/inference.js';
import type { ServerConfig } from '../server/config.js';
import { trainedModelFolder } from '../server/search/store.js';

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

/** The folder of a model that a training job has made: the data folder's, or else from the model store. */
export async function folderOfJob(
  { model, fingerprint }: GenerationModel,
  { dataDir, modelStore }: Places,
  say: (line: string) => void,
): Promise<string> {
  const own = trainedModelFolder(path.resolve(dataDir), model);
  return modelStore === undefined || existsSync(own) ? own : obtained(fingerprint, modelStore, say);
}

/**
 * Loads the model of a generation that another server has put live: the one that is here, or else, and where that is not what
 * made the vectors, from the model store.
 *
 * @throws UserError as `load` and `obtain`
 */
export async function openGenerationModel(
  generation: GenerationModel,
  { dataDir, modelStore }: Places,
  load: (model: string) => Promise<Inference>,
  say: (line: string) => void,
): Promise<Inference> {
  const { model, fingerprint, job, source } = generation;
  const own = job === undefined ? (source ?? model) : trainedModelFolder(path.resolve(dataDir), model);
  if (modelStore === undefined) return load(own);
  if (await isHere(own, say)) {
    const inference = await load(own);
    if (inference.fingerprint === fingerprint) return inference;
    await inference.close();
  }
  return load(await obtained(fingerprint, modelStore, say));
}

/** Whether a model is on this machine. */
export async function isHere(model: string, say: (line: string) => void): Promise<boolean> {
  return resolveModel(model, say).then(
    () => true,
    () => false,
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
