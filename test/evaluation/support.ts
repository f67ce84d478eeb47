import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after } from 'node:test';

import type { Encoder } from '../../encoder/encoder.js';

/** A folder with these files in it (name -> content), removed after the tests of the describe around it. */
export async function folderWith(files: Record<string, string | Uint8Array>): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'evaluation-'));
  after(() => rm(folder, { recursive: true, force: true }));
  for (const [name, content] of Object.entries(files)) {
    await mkdir(path.dirname(path.join(folder, name)), { recursive: true });
    await writeFile(path.join(folder, name), content);
  }
  return folder;
}

/** An encoder that knows a vector for every text by heart; `encoded` is what it was asked for. */
export function encoderOf(vectors: Record<string, number[]>): Encoder & { encoded: string[] } {
  const encoded: string[] = [];
  return {
    name: 'by heart',
    dimensions: Object.values(vectors)[0].length,
    maxTokens: 8,
    fingerprint: '0',
    encoded,
    async encode(texts) {
      encoded.push(...texts);
      return Float32Array.from(
        texts.flatMap((text) => {
          if (!(text in vectors)) throw new Error(`asked for an unknown text: ${text}`);
          return vectors[text];
        }),
      );
    },
    async close() {},
  };
}

/** The unit vector at an angle: cosines fall with the angle between two of them. */
export function at(degrees: number): number[] {
  return [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)];
}

export function closeTo(actual: number, expected: number, tolerance = 1e-12): void {
  if (!(Math.abs(actual - expected) <= tolerance))
    throw new Error(`expected ${expected} within ${tolerance}, found ${actual}`);
}
