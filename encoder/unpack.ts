import { fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { UserError } from '../base/errors.js';
import { exists, sha256File } from '../base/files.js';
import { cacheFolder } from '../base/paths.js';
import { COMPACT_WEIGHTS_FILE, GRAPH_VERSION, SETTINGS_FILES, WEIGHTS_FILE } from './model-files.js';
import { denseFiles } from './model-folder.js';
import type { Unpacked } from './unpack-process.js';

/** Changes when the same compact folder is unpacked into something else. */
const UNPACKED_VERSION = 1;

/** Takes a line for the person who waits. */
export type OnNote = (line: string) => void;

/** Whether a folder holds a model in the form in which a repository keeps it. */
export async function isCompact(dir: string): Promise<boolean> {
  return (
    (await exists(path.join(dir, COMPACT_WEIGHTS_FILE))) && !(await exists(path.join(dir, WEIGHTS_FILE)))
  );
}

/**
 * The complete model folder of a compact one, in the cache folder: written when it is asked for the first time,
 * where it appears whole or not at all, and trusted from then on.
 *
 * @returns its path
 * @throws UserError as readCompact
 */
export async function unpackCompact(dir: string, onNote?: OnNote): Promise<string> {
  const folder = cacheFolder('models', `compact-${await digestOf(dir)}`);
  if (await exists(folder)) return folder;
  onNote?.(`unpacking ${dir} into ${folder}, once`);
  const { error } = await unpackInProcess(dir, folder);
  // When it exists by now, another process was as quick, and made the same.
  if (error && error.kind !== 'exists') throw new UserError(error.kind, error.message);
  return folder;
}

/** In a process of its own, whose memory is given back: a server runs for months, and unpacks once. */
async function unpackInProcess(dir: string, out: string): Promise<Unpacked> {
  const file = fileURLToPath(new URL('./unpack-process.js', import.meta.url));
  const child = fork(file, [dir, out], { execArgv: [], stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  return new Promise((resolve, reject) => {
    child.once('message', (answer) => {
      child.disconnect();
      resolve(answer as Unpacked);
    });
    child.once('error', reject);
    child.once('close', (code, signal) => reject(new Error(`unpacking ended with ${signal ?? code}`)));
  });
}

/** SHA-256 over every file that the unpacked folder is made of. */
async function digestOf(dir: string): Promise<string> {
  const digests: unknown[] = [UNPACKED_VERSION, GRAPH_VERSION];
  for (const name of [
    ...SETTINGS_FILES,
    ...(await denseFiles(dir)),
    'sentence-jepa.json',
    COMPACT_WEIGHTS_FILE,
  ]) {
    const file = path.join(dir, name);
    if (await exists(file)) digests.push([name, await sha256File(file)]);
  }
  return createHash('sha256').update(JSON.stringify(digests)).digest('hex');
}
