import { chmod, writeFile } from 'node:fs/promises';
import path from 'node:path';

/** Puts into a folder of PATH, in place of npm, which would compile for a while, a shell script of these lines. */
export async function fakeNpm(bin: string, ...lines: string[]): Promise<void> {
  const script = ['#!/bin/sh', 'PATH=/usr/bin:/bin', ...lines].join('\n');
  await writeFile(path.join(bin, 'npm'), script + '\n');
  await chmod(path.join(bin, 'npm'), 0o755);
}
