import { execFile } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { messageOf } from '../../base/errors.js';
import { installedPackage, builtPackage, machineKey } from './locations.js';

const TIMEOUT_MS = 180_000;

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
  const reason = await probe(folder);
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

function probe(folder: string): Promise<string | undefined> {
  const script = fileURLToPath(new URL('probe.js', import.meta.url));
  return new Promise((resolve) => {
    execFile(process.execPath, [script, folder], { timeout: TIMEOUT_MS }, (error, stdout, stderr) => {
      if (!error && stdout.includes('works')) resolve(undefined);
      else if (error?.killed) resolve(`no answer in ${TIMEOUT_MS / 1000} s`);
      else if (error?.signal) resolve(`the library ended the process that loaded it (${error.signal})`);
      else resolve(stderr.trim().split('\n').at(-1) || (error ? messageOf(error) : 'it computed nothing'));
    });
  });
}
