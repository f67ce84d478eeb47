import { existsSync } from 'node:fs';
import path from 'node:path';

import { cacheFolder, projectRoot } from '../../base/paths.js';

/** The release of TensorFlow that setup builds against. */
export const TENSORFLOW_VERSION = '2.21.0';

const { platform, arch, versions } = process;

/** What a compiled addon is good for: node-20's binary says nothing about node-24. */
export const machineKey = `${platform}-${arch}-node${versions.modules}`;

const PACKAGE = path.join('node_modules', '@tensorflow', 'tfjs-node');

/** Where npm put tfjs-node: here, or in a folder above when this program is a dependency itself. */
export function installedPackage(): string | undefined {
  for (let folder = projectRoot; ; folder = path.dirname(folder)) {
    if (existsSync(path.join(folder, PACKAGE, 'package.json'))) return path.join(folder, PACKAGE);
    if (folder === path.dirname(folder)) return undefined;
  }
}

/** What setup builds: node_modules and the library, complete or not there. */
export function builtFolder(): string {
  return cacheFolder('tensorflow', `${TENSORFLOW_VERSION}-${machineKey}`);
}

/** tfjs-node inside what setup builds. */
export function builtPackage(folder = builtFolder()): string {
  return path.join(folder, PACKAGE);
}
