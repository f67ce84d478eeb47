import { stat } from 'node:fs/promises';
import path from 'node:path';

import { UserError } from '../base/errors.js';
import { exists } from '../base/files.js';
import { cacheFolder } from '../base/paths.js';

/** What `npm start` serves when no model is named. */
export const DEFAULT_MODEL = 'all-MiniLM-L6-v2';

/** A model's name, the way the Hugging Face Hub spells one: NAME, or ORGANIZATION/NAME. */
const NAME = /^(?:[\w-][\w.-]*\/)?[\w-][\w.-]*$/;

export function isModelName(text: string): boolean {
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
  if (isModelName(model)) {
    const dir = modelCacheFolder(model);
    if (await exists(dir)) return { dir, name: model };
    throw new UserError(
      'not-found',
      `${model}: no such model folder, and no model of that name on this machine; fetch it with: sentence-jepa model get ${model}`,
    );
  }
  throw new UserError('not-found', `${model}: no such model folder`);
}
