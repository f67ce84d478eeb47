import { existsSync, readdirSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { whyNotWorking as tryScript } from '../../base/try-module.js';
import { installedPackage, builtPackage, machineKey } from './locations.js';

const PROBE_SECONDS = 180;

/**
 * Whether tfjs-node in a folder loads here and computes, tried in a process of its own, which a broken
 * native library may end. A mark beside the library remembers that it does, until npm replaces the package.
 *
 * @returns nothing when it works; else why it does not
 */
export async function whyNotWorking(folder: string): Promise<string | undefined> {
  if (!existsSync(path.join(folder, 'package.json'))) return 'the package is not there';
  if (!hasAddon(folder)) return 'the package is there without its native library';
  const mark = path.join(folder, `.works-on-${machineKey}`);
  if (existsSync(mark)) return undefined;
  const script = fileURLToPath(new URL('probe.js', import.meta.url));
  const reason = await tryScript(script, folder, { seconds: PROBE_SECONDS });
  // On a read-only file system it is tried each time.
  if (!reason) await writeFile(mark, '').catch(() => undefined);
  return reason;
}

/**
 * The folder of a tfjs-node that works: the one npm installed before the one that setup built.
 *
 * @returns the folder, or why there is none
 */
export async function findWorking(): Promise<{ folder: string } | { reason: string }> {
  const installed = installedPackage();
  const reasons: string[] = [];
  for (const [what, folder] of [
    ['installed', installed],
    ['built by setup', builtPackage()],
  ]) {
    if (!folder) continue;
    const reason = await whyNotWorking(folder);
    if (!reason) return { folder };
    if (hasAddon(folder)) reasons.push(`the one ${what} does not work: ${reason}`);
  }
  return { reason: reasons.join('; ') || 'it is not on this machine' };
}

/** Whether a compiled addon is in a tfjs-node; one that may not load. */
export function hasAddon(folder: string): boolean {
  const lib = path.join(folder, 'lib');
  return (
    existsSync(lib) && readdirSync(lib, { recursive: true }).some((name) => String(name).endsWith('.node'))
  );
}
