import { cp, mkdtemp, open, rm, stat, truncate } from 'node:fs/promises';
import path from 'node:path';

import { filesIn } from '../../base/files.js';
import type { Random } from '../../base/random.js';

/** Of a folder that is about to be damaged. @returns where the copy is */
export async function saveFolder(folder: string): Promise<string> {
  const copy = await mkdtemp(`${folder}-saved-`);
  await cp(folder, copy, { recursive: true });
  return copy;
}

export async function restoreFolder(copy: string, folder: string): Promise<void> {
  await rm(folder, { recursive: true });
  await cp(copy, folder, { recursive: true });
  await rm(copy, { recursive: true });
}

type Damage = (file: string, size: number, random: Random) => Promise<string>;

const damages: Damage[] = [
  async (file, size, random) => {
    const left = random.below(size);
    await truncate(file, left);
    return `cut off at byte ${left} of ${size}`;
  },
  async (file, size, random) => {
    const at = random.below(size);
    const bit = random.below(8);
    await change(file, at, 1, (bytes) => (bytes[0] ^= 1 << bit));
    return `bit ${bit} of byte ${at} of ${size} flipped`;
  },
  async (file, size, random) => {
    const at = random.below(size);
    const length = Math.min(4096, size - at);
    await change(file, at, length, (bytes) => bytes.fill(0));
    return `${length} bytes from ${at} of ${size} zeroed`;
  },
];

/** Damages one file of a data folder somewhere. @returns what was done, in words */
export async function damage(folder: string, random: Random): Promise<string> {
  const files: { name: string; size: number }[] = [];
  for (const name of await filesIn(folder)) {
    const { size } = await stat(path.join(folder, name));
    if (size > 0) files.push({ name, size });
  }
  const { name, size } = files[random.below(files.length)];
  const done = await damages[random.below(damages.length)](path.join(folder, name), size, random);
  return `${name.replace(/hnsw-.*/, 'hnsw.bin')} ${done}`;
}

async function change(
  file: string,
  at: number,
  length: number,
  how: (bytes: Buffer) => unknown,
): Promise<void> {
  const handle = await open(file, 'r+');
  try {
    const bytes = Buffer.alloc(length);
    await handle.read(bytes, 0, length, at);
    how(bytes);
    await handle.write(bytes, 0, length, at);
  } finally {
    await handle.close();
  }
}
