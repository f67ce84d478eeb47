import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import envPaths from 'env-paths';

/** The folder that holds package.json, from wherever this file was compiled to. */
export const projectRoot: string = (() => {
  let folder = path.dirname(fileURLToPath(import.meta.url));
  while (!existsSync(path.join(folder, 'package.json'))) {
    const parent = path.dirname(folder);
    if (parent === folder) throw new Error('package.json not found above ' + fileURLToPath(import.meta.url));
    folder = parent;
  }
  return folder;
})();

export const version: string = (
  JSON.parse(readFileSync(path.join(projectRoot, 'package.json'), 'utf8')) as { version: string }
).version;

/**
 * Where downloaded models, graphs built for a model and TensorFlow's library are kept:
 * SENTENCE_JEPA_CACHE, or the platform's cache folder. Everything in it can be made again.
 */
export function cacheFolder(...names: string[]): string {
  const root = process.env.SENTENCE_JEPA_CACHE || envPaths('sentence-jepa', { suffix: '' }).cache;
  return path.join(path.resolve(root), ...names);
}
