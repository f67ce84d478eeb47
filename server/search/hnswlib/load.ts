import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';

import type Hnswlib from 'hnswlib-node';

import { builtFolder, builtPackage } from './locations.js';

const require = createRequire(import.meta.url);

/** This machine's copy where setup built one, else what npm installed: the same code, without AVX. */
export const { HierarchicalNSW, isForThisMachine } = load();

function load(): Pick<typeof Hnswlib, 'HierarchicalNSW'> & { isForThisMachine: boolean } {
  const folder = builtFolder();
  if (folder && existsSync(folder))
    try {
      const { HierarchicalNSW } = require(builtPackage(folder)) as typeof Hnswlib;
      return { HierarchicalNSW, isForThisMachine: true };
    } catch {
      // Part of it was removed; the other one does the same.
    }
  const { HierarchicalNSW } = require('hnswlib-node') as typeof Hnswlib;
  return { HierarchicalNSW, isForThisMachine: false };
}
