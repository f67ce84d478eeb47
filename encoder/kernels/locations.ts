import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

import { projectRoot } from '../../base/paths.js';

/** What the kernels are compiled from: C++, and how Node's own tool compiles it. */
export const SOURCES = Object.freeze([
  ...[
    'addon.cc',
    'avx2.cc',
    'avx512vnni.cc',
    'forward.cc',
    'forward.h',
    'forward-pass.h',
    'model.cc',
    'model.h',
  ],
  ...['session.cc', 'session.h', 'team.cc', 'team.h', 'binding.gyp'],
]);

/** Why there are none: a clause. */
export const NOT_FOR_HERE =
  'they are for Linux on x86-64, with their sources (encoder/kernels/native) beside dist';

export function sourceFile(name: string): string {
  return path.join(projectRoot, 'encoder', 'kernels', 'native', name);
}

/**
 * Where the compiled kernels are, or would be: beside the program that was compiled, with which they go. One file is for
 * every processor, as it chooses among what it was compiled for when it is loaded, and for every Node, as it needs nothing
 * of it but Node-API.
 *
 * @returns nothing where there are none: see NOT_FOR_HERE
 */
export function builtFolder(): string | undefined {
  if (process.platform !== 'linux' || process.arch !== 'x64') return undefined;
  if (!SOURCES.every((name) => existsSync(sourceFile(name)))) return undefined;
  const hash = createHash('sha256');
  for (const name of SOURCES) hash.update(name).update(readFileSync(sourceFile(name)));
  return path.join(projectRoot, 'dist', 'kernels', hash.digest('hex').slice(0, 12));
}

/** The kernels inside what `buildKernels` builds. */
export function builtFile(folder: string): string {
  return path.join(folder, 'kernels.node');
}
