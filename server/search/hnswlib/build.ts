import { cp, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { UserError } from '../../../base/errors.js';
import { exists, writeFolderIfFirst } from '../../../base/files.js';
import { rebuildPackage } from '../../../base/run-tool.js';
import { whyNotWorking as tryScript } from '../../../base/try-module.js';
import { HUGE_PAGES_HEADER } from './huge-pages.js';
import { builtFolder, builtPackage, installedPackage, PACKAGES } from './locations.js';

const HEADER = 'huge-pages.h';

/**
 * Compiles a copy of hnswlib-node with all that this processor can do, and its graph in large pages, into the cache
 * folder, where it appears when it was seen to work. Takes half a minute; nothing is done when it is there.
 *
 * @returns its folder
 * @throws UserError `unavailable` when something is missing (a compiler, another machine than Linux on x86), or when it
 *   does not work. Nothing is kept then
 */
export async function buildHnswlib(signal?: AbortSignal): Promise<string> {
  const folder = builtFolder();
  if (!folder) throw new UserError('unavailable', 'it gains nothing but under Linux on x86-64');
  if (await exists(folder)) return folder;
  await writeFolderIfFirst(folder, (beside) => build(beside, signal));
  return folder;
}

async function build(folder: string, signal?: AbortSignal): Promise<void> {
  const home = builtPackage(folder);
  for (const name of PACKAGES)
    await cp(installedPackage(name), path.join(folder, 'node_modules', name), { recursive: true });
  await rm(path.join(home, 'build'), { recursive: true, force: true });
  await writeFile(path.join(home, HEADER), HUGE_PAGES_HEADER);
  // From where make runs, home/build: a path of the machine could have spaces, which flags are split at.
  const flags = `${process.env.CXXFLAGS ?? ''} -include ../${HEADER} -march=native`;
  await rebuildPackage(folder, 'hnswlib-node', { env: { CXXFLAGS: flags }, signal });
  const reason = await whyNotWorking(home);
  if (reason) throw new UserError('unavailable', `it was built and does not work: ${reason}`);
}

/** As whyNotWorking of base/try-module.ts, of a compiled hnswlib-node in the folder `home`. */
export function whyNotWorking(home: string): Promise<string | undefined> {
  return tryScript(fileURLToPath(new URL('probe.js', import.meta.url)), home);
}
