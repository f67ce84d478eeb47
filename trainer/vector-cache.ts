import { createHash, randomBytes } from 'node:crypto';
import { mkdir, open, readdir, type FileHandle } from 'node:fs/promises';
import path from 'node:path';

import { UserError } from '../base/errors.js';
import { fileError, writeFileAtomic } from '../base/files.js';
import type { EncodeOptions, Encoder } from '../encoder/encoder.js';
import { bytesOf } from '../encoder/safetensors.js';

/** Texts of a segment that {@link VectorCache.fill} writes: what a killed process does again, half a minute's work or so. */
const SEGMENT_TEXTS = 8192;

/** Of a text's SHA-256: enough that no two of a cache's texts will ever share them. */
const DIGEST_BYTES = 16;

const SEGMENT = /^[0-9a-f]{16}-(\d+)\.vectors$/;

interface Place {
  file: FileHandle;
  /** Byte at which the vector begins. */
  at: number;
}

/**
 * Vectors of texts on disk, found by the text's digest. They lie in segments, each written once and whole: n
 * digests, then n vectors of d little-endian floats. What a killed process had not finished is not there, and two
 * processes that fill the same folder do not disturb each other.
 */
export class VectorCache {
  private readonly places = new Map<string, Place>();
  private readonly files: FileHandle[] = [];

  private constructor(
    private readonly folder: string,
    private readonly dimensions: number,
  ) {}

  /** @throws UserError `unavailable` when the folder can't be made; `corrupt` for a segment of another size */
  static async open(folder: string, dimensions: number): Promise<VectorCache> {
    const cache = new VectorCache(folder, dimensions);
    try {
      await mkdir(folder, { recursive: true });
      for (const name of (await readdir(folder)).sort()) if (SEGMENT.test(name)) await cache.addSegment(name);
    } catch (error) {
      await cache.close();
      throw error instanceof UserError ? error : fileError(error, folder, 'write');
    }
    return cache;
  }

  has(text: string): boolean {
    return this.places.has(digestOf(text));
  }

  /**
   * Encodes the texts that are not there yet, and keeps their vectors segment by segment.
   *
   * @param encode as Encoder.encode
   * @throws as `encode`, with what was kept until then
   */
  async fill(
    texts: Iterable<string>,
    encode: Encoder['encode'],
    { signal, onProgress }: EncodeOptions = {},
  ): Promise<void> {
    const missing = [...new Set(texts)].filter((text) => !this.has(text));
    for (let from = 0; from < missing.length; from += SEGMENT_TEXTS) {
      const segment = missing.slice(from, from + SEGMENT_TEXTS);
      const onTexts = (done: number): void => onProgress?.(from + done, missing.length);
      await this.add(segment, await encode(segment, { signal, onProgress: onTexts }));
    }
  }

  /** @param vectors [texts, d] */
  async add(texts: readonly string[], vectors: Float32Array): Promise<void> {
    const digests = Buffer.from(texts.map(digestOf).join(''), 'latin1');
    const name = `${randomBytes(8).toString('hex')}-${texts.length}.vectors`;
    await writeFileAtomic(path.join(this.folder, name), [digests, bytesOf(vectors)]);
    await this.addSegment(name);
  }

  /** @returns [texts, d] @throws Error for a text that was not added */
  async read(texts: readonly string[]): Promise<Float32Array> {
    const { dimensions } = this;
    const vectors = new Float32Array(texts.length * dimensions);
    await Promise.all(
      texts.map(async (text, i) => {
        const place = this.places.get(digestOf(text));
        if (!place) throw new Error(`no vector of ${JSON.stringify(text)}`);
        const row = vectors.subarray(i * dimensions, (i + 1) * dimensions);
        await place.file.read(bytesOf(row), 0, row.byteLength, place.at);
      }),
    );
    return vectors;
  }

  async close(): Promise<void> {
    await Promise.all(this.files.map((file) => file.close()));
  }

  private async addSegment(name: string): Promise<void> {
    const at = path.join(this.folder, name);
    const n = Number(SEGMENT.exec(name)![1]);
    const rowBytes = 4 * this.dimensions;
    const file = await open(at, 'r');
    this.files.push(file);
    const { size } = await file.stat();
    if (size !== n * (DIGEST_BYTES + rowBytes))
      throw new UserError(
        'corrupt',
        `${at}: expected ${n * (DIGEST_BYTES + rowBytes)} bytes for ${n} vectors, found ${size}; remove it, it is made again`,
      );
    const digests = Buffer.alloc(n * DIGEST_BYTES);
    await file.read(digests, 0, digests.length, 0);
    for (let i = 0; i < n; i++)
      this.places.set(digests.toString('latin1', i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES), {
        file,
        at: n * DIGEST_BYTES + i * rowBytes,
      });
  }
}

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest().toString('latin1', 0, DIGEST_BYTES);
}
