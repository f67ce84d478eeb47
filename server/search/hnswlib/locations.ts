import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

import { cacheFolder } from '../../../base/paths.js';
import { HUGE_PAGES_HEADER } from './huge-pages.js';

const require = createRequire(import.meta.url);

/** What is copied to be compiled again: hnswlib-node and what it needs for that and to be loaded. */
export const PACKAGES = Object.freeze(['hnswlib-node', 'node-addon-api', 'bindings', 'file-uri-to-path']);

/** The folder of one of PACKAGES, where npm put it. */
export function installedPackage(name: string): string {
  // Where one is needed by another, npm may have put it inside.
  const from = { paths: [path.dirname(require.resolve('hnswlib-node/package.json'))] };
  return path.dirname(require.resolve(`${name}/package.json`, from));
}

/**
 * Where a copy for this machine is, or would be: another processor, Node or release of hnswlib-node has another. Only for
 * x86 under Linux: hnswlib has instructions by hand for that one alone, and Linux says what a processor can do.
 */
export function builtFolder(): string | undefined {
  if (process.platform !== 'linux' || process.arch !== 'x64') return undefined;
  const flags = processorFlags();
  if (!flags) return undefined;
  const { version } = require('hnswlib-node/package.json') as { version: string };
  const digest = createHash('sha256').update(flags).update(HUGE_PAGES_HEADER).digest('hex').slice(0, 12);
  return cacheFolder('hnswlib', `${version}-node${process.versions.modules}-${digest}`);
}

function processorFlags(): string | undefined {
  try {
    const flags = /^flags\s*: (.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1];
    return flags?.split(' ').sort().join(' ');
  } catch {
    return undefined;
  }
}

/** hnswlib-node inside what `buildHnswlib` builds. */
export function builtPackage(folder: string): string {
  return path.join(folder, 'node_modules', 'hnswlib-node');
}
