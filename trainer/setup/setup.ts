import { rm } from 'node:fs/promises';
import path from 'node:path';

import { messageOf, UserError } from '../../base/errors.js';
import { runTool } from '../../base/run-tool.js';
import { unavailable } from '../tensorflow/load.js';
import { buildFromWheel, type SetupOptions } from './build.js';
import { installedPackage, TENSORFLOW_VERSION } from './locations.js';
import { findWorking, hasAddon } from './verify.js';

/**
 * Sees to it that TensorFlow works here: finds it, or gets it by tfjs-node's own download, or builds it
 * from PyPI's wheel.
 *
 * @returns the folder of the tfjs-node that works
 * @throws UserError `unavailable` with a paragraph that says what is missing, why, and what works all the same
 */
export async function setupTensorFlow(options: SetupOptions): Promise<string> {
  const found = await findWorking();
  if ('folder' in found) return found.folder;
  const reasons: string[] = [];
  for (const [name, get] of [
    ["tfjs-node's own download", ownDownload],
    [`building it from PyPI's TensorFlow ${TENSORFLOW_VERSION}`, buildFromWheel],
  ] as const) {
    try {
      await get(options);
      const got = await findWorking();
      if ('folder' in got) return got.folder;
      reasons.push(`${name}: ${got.reason}`);
    } catch (error) {
      options.signal?.throwIfAborted();
      if (!(error instanceof UserError)) throw error;
      reasons.push(`${name}: ${messageOf(error)}`);
    }
  }
  throw unavailable(reasons.join('; '));
}

/** What npm does when it installs tfjs-node, for where it was told to leave install scripts out. */
async function ownDownload({ say, signal }: SetupOptions): Promise<void> {
  const folder = installedPackage();
  if (!folder) throw new UserError('unavailable', 'npm left the package out, as it could not be downloaded');
  if (hasAddon(folder)) throw new UserError('unavailable', 'what it brought does not work');
  say("trying tfjs-node's own download");
  const tools = path.join(folder, '..', '..', '.bin');
  const env = {
    ...process.env,
    PATH: [tools, path.dirname(process.execPath), process.env.PATH].join(path.delimiter),
  };
  try {
    await runTool(process.execPath, ['scripts/install.js'], { cwd: folder, env }, { minutes: 5, signal });
  } finally {
    if (!hasAddon(folder))
      for (const part of ['deps', 'lib']) await rm(path.join(folder, part), { recursive: true, force: true });
  }
}
