import { copyFile, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { UserError } from '../../base/errors.js';
import { exists, writeFolderIfFirst } from '../../base/files.js';
import { rebuildPackage } from '../../base/run-tool.js';
import { whyNotWorking } from '../../base/try-module.js';
import { builtFile, builtFolder, NOT_FOR_HERE, sourceFile, SOURCES } from './locations.js';

const PACKAGE = 'sentence-jepa-kernels';

/**
 * Compiles the kernels into a folder, where they appear when they were seen to compute what they must. Takes a
 * quarter of a minute; nothing is done when they are there.
 *
 * @returns their folder
 * @throws UserError `unavailable` when something is missing (a compiler, another machine than Linux on x86), or when they
 *   do not work. Nothing is kept then
 */
export async function buildKernels(signal?: AbortSignal, folder = builtFolder()): Promise<string> {
  if (!folder) throw new UserError('unavailable', NOT_FOR_HERE);
  if (await exists(folder)) return folder;
  await writeFolderIfFirst(folder, (beside) => build(beside, signal));
  // Of earlier sources: who has them loaded keeps them. Not what another setup is making.
  const all = path.dirname(folder);
  for (const name of await readdir(all))
    if (/^[0-9a-f]{12}$/.test(name) && name !== path.basename(folder))
      await rm(path.join(all, name), { recursive: true, force: true });
  return folder;
}

async function build(folder: string, signal?: AbortSignal): Promise<void> {
  const scratch = await mkdtemp(path.join(folder, 'build-'));
  const home = path.join(scratch, 'node_modules', PACKAGE);
  await mkdir(home, { recursive: true });
  for (const name of SOURCES) await copyFile(sourceFile(name), path.join(home, name));
  const description = { name: PACKAGE, version: '0.0.0', private: true, gypfile: true };
  await writeFile(
    path.join(home, 'package.json'),
    JSON.stringify({ ...description, scripts: { install: 'node-gyp rebuild' } }),
  );
  await rebuildPackage(scratch, PACKAGE, { signal });
  const file = builtFile(folder);
  await copyFile(path.join(home, 'build', 'Release', 'kernels.node'), file);
  await rm(scratch, { recursive: true });
  const reason = await whyNotWorking(fileURLToPath(new URL('check.js', import.meta.url)), file);
  if (reason) throw new UserError('unavailable', `they were built and do not work: ${reason}`);
}
