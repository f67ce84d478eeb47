import { isMainThread } from 'node:worker_threads';

import { UserError } from '../../base/errors.js';
import { cacheFolder } from '../../base/paths.js';
import { findWorking } from '../setup/verify.js';
import type { TF } from './binding.js';
import { openPackage } from './open-package.js';

export type { TF } from './binding.js';

let loaded: Promise<TF> | undefined;

/**
 * TensorFlow, from the tfjs-node that npm installed or else from the one that `sentence-jepa setup` built.
 * Only one that was seen to work in another process is loaded into this one. Only the main thread can.
 *
 * @param options.threads for kernels, all cores when it is not given; the first call in a process decides
 * @throws UserError `unavailable` when there is none that works
 */
export function loadTensorFlow(options: { threads?: number } = {}): Promise<TF> {
  loaded ??= load(options.threads);
  return loaded;
}

async function load(threads?: number): Promise<TF> {
  if (!isMainThread) throw new Error('TensorFlow can be loaded only on the main thread of a process');
  const found = await findWorking();
  if ('reason' in found) throw unavailable(found.reason);
  const tf = openPackage(found.folder, threads);
  await tf.ready();
  return tf;
}

/** Why there is no training here, what works all the same, and the way out: one paragraph. */
export function unavailable(reason: string): UserError {
  return new UserError(
    'unavailable',
    `TensorFlow's native library is missing: ${reason}. Only training (finetune) needs it; serve, search, ` +
      `evaluate, embed and model work without. It was looked for in node_modules and in the cache folder ` +
      `${cacheFolder()}; "npm run setup" (sentence-jepa setup), with the same SENTENCE_JEPA_CACHE, tries again to ` +
      `get it: from tfjs-node's own download, or from PyPI (python3 with pip), built with a C++ compiler and make.`,
  );
}
