import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import util from 'node:util';

import type { TF } from './binding.js';

/**
 * Loads the tfjs-node package in a folder into this process. A broken native library can end the process,
 * so a folder that was not verified (trainer/setup/verify.ts) must not come here.
 *
 * @param folder of the package: .../node_modules/@tensorflow/tfjs-node
 * @param threads for one kernel, and for kernels side by side; the library reads it once, when it loads
 * @throws Error of Node or of the package when it does not load
 */
export function openPackage(folder: string, threads = availableParallelism()): TF {
  process.env.TF_CPP_MIN_LOG_LEVEL = '3';
  process.env.TF_NUM_INTRAOP_THREADS = String(threads);
  process.env.TF_NUM_INTEROP_THREADS = String(threads);
  process.env.OMP_NUM_THREADS = String(threads);
  // oneDNN's products and its allocator, which keeps freed memory: TensorFlow itself turns them on only where a
  // processor has AVX-512 VNNI, but on one with AVX2 alone, a training step takes a fifth less time with them.
  process.env.TF_ENABLE_ONEDNN_OPTS ??= '1';
  restoreUtil();
  const require = createRequire(path.join(folder, 'package.json'));
  // It warns of each kernel that two of its parts register.
  const { log, warn } = console;
  console.log = console.warn = () => undefined;
  try {
    const tf = require(folder) as TF;
    // No advice on the console later on either.
    tf.enableProdMode();
    return tf;
  } finally {
    Object.assign(console, { log, warn });
  }
}

/** Two functions of node:util that tfjs-node 4.22 calls: Node 22 warns of them, Node 23 has them no more. */
function restoreUtil(): void {
  Object.assign(util, {
    isNullOrUndefined: (value: unknown): boolean => value === null || value === undefined,
    isArray: Array.isArray,
  });
}
