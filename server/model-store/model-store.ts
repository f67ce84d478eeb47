import { createHash } from 'node:crypto';
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';

import { messageOf, UserError } from '../../base/errors.js';
import { exists, filesIn, sha256File, writeFileAtomic, writeFolderIfFirst } from '../../base/files.js';
import { cacheFolder } from '../../base/paths.js';
import { fingerprintsOf } from '../../encoder/fingerprints.js';
import type { Precision } from '../../encoder/graph-file.js';
import { openModelFolder } from '../../encoder/model-folder.js';
import { openObjects, type Objects } from './objects.js';

/**
 * Models by their fingerprints, where every server can get them: `files/SHA256` has each file once, and
 * `models/FINGERPRINT.json`, written behind them, names those of a model.
 */
export interface StoredModel {
  version: 1;
  /** Of its folder. */
  name: string;
  fingerprint: string;
  files: { path: string; bytes: number; sha256: string }[];
}

export interface ModelStoreOptions {
  /** Bytes. */
  onProgress?: (file: string, done: number, total: number) => void;
}

/** Of a manifest: beyond any there is. */
const MANIFEST_BYTES = 1 << 20;

/**
 * Puts a model folder into a store, for each precision that it can be run in. It can be obtained when this resolves; cut off,
 * there is nothing to be obtained. Once more does no harm, and repairs what was damaged there.
 *
 * @param store a folder, or s3://BUCKET/PREFIX
 * @param options.name what a server that obtains it calls it; default the folder's
 * @returns what it can be obtained by
 * @throws UserError as openModelFolder and openObjects; `forbidden` or `unavailable` when the store can't be written
 */
export async function publish(
  dir: string,
  store: string,
  { onProgress, name = path.basename(path.resolve(dir)) }: ModelStoreOptions & { name?: string } = {},
): Promise<Partial<Record<Precision, string>>> {
  const objects = await openObjects(store);
  const fingerprints = await fingerprintsOf(await openModelFolder(dir, name));
  const files: StoredModel['files'] = [];
  for (const file of await filesIn(dir)) {
    // A repository's history lies in there as well.
    if (file.split(path.sep).some((segment) => segment.startsWith('.'))) continue;
    const from = path.join(dir, file);
    const { size: bytes } = await stat(from);
    const sha256 = await sha256File(from);
    onProgress?.(file, 0, bytes);
    await objects.put(`files/${sha256}`, { file: from, bytes });
    onProgress?.(file, bytes, bytes);
    files.push({ path: file.split(path.sep).join('/'), bytes, sha256 });
  }
  for (const fingerprint of new Set(Object.values(fingerprints))) {
    const model: StoredModel = { version: 1, name, fingerprint, files };
    await objects.put(manifestKey(fingerprint), `${JSON.stringify(model, null, 2)}\n`);
  }
  return fingerprints;
}

/**
 * A model's folder in this machine's cache, fetched from a store when it is not there: it appears when every file has been
 * checked.
 *
 * @param store a folder, or s3://BUCKET/PREFIX
 * @returns the folder, named as the one that was published
 * @throws UserError `not-found` when the store has no such model, `corrupt` when a file there is not what was published,
 *   `forbidden` or `unavailable` when it can't be read
 */
export async function obtain(
  fingerprint: string,
  store: string,
  {
    onProgress,
    cacheDir = cacheFolder('models', 'obtained'),
  }: ModelStoreOptions & { cacheDir?: string } = {},
): Promise<string> {
  const target = path.join(cacheDir, fingerprint);
  if (!(await exists(target))) {
    const objects = await openObjects(store);
    const { name, files } = await manifestOf(objects, fingerprint);
    await writeFolderIfFirst(target, async (folder) => {
      for (const file of files)
        await writeFileAtomic(
          path.join(folder, name, file.path),
          await checkedFile(objects, file, (done) => onProgress?.(file.path, done, file.bytes)),
        );
    });
  }
  const [name] = await readdir(target);
  return path.join(target, name);
}

function manifestKey(fingerprint: string): string {
  return `models/${fingerprint}.json`;
}

async function manifestOf(objects: Objects, fingerprint: string): Promise<StoredModel> {
  const key = manifestKey(fingerprint);
  const content = await objects.get(key).catch((error: unknown) => {
    if (!(error instanceof UserError && error.kind === 'not-found' && !/bucket/.test(error.message)))
      throw error;
    throw new UserError(
      'not-found',
      `${objects.name}: has no model of fingerprint ${fingerprint.slice(0, 12)}; put it there from where it is: sentence-jepa model publish DIR|NAME --model-store ${objects.name}`,
      { cause: error },
    );
  });
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of content) {
    if ((bytes += chunk.length) > MANIFEST_BYTES) break;
    chunks.push(chunk);
  }
  try {
    return checkManifest(JSON.parse(Buffer.concat(chunks).toString()), fingerprint);
  } catch (error) {
    throw damaged(objects, key, messageOf(error));
  }
}

/** Nothing in it leads out of the folder that is filled. */
function checkManifest(found: unknown, fingerprint: string): StoredModel {
  const { version, name, fingerprint: of, files } = found as StoredModel;
  const isSegment = (text: unknown): boolean =>
    typeof text === 'string' && !['', '.', '..'].includes(text) && !/[/\\\0]/.test(text);
  const isFile = (file: StoredModel['files'][number]): boolean =>
    file.path.split('/').every(isSegment) && /^[\da-f]{64}$/.test(file.sha256) && file.bytes >= 0;
  if (version !== 1 || of !== fingerprint || !isSegment(name) || files.length === 0 || !files.every(isFile))
    throw new Error(`it is no list of the files of ${fingerprint.slice(0, 12)}`);
  return found as StoredModel;
}

/** A file's bytes; throws at their end unless they are the manifest's. */
async function checkedFile(
  objects: Objects,
  { sha256, bytes }: StoredModel['files'][number],
  onProgress: (done: number) => void,
): Promise<AsyncIterable<Uint8Array>> {
  const key = `files/${sha256}`;
  const content = await objects.get(key).catch((error: unknown) => {
    if (error instanceof UserError && error.kind === 'not-found')
      throw damaged(objects, key, 'it is not there');
    throw error;
  });
  return (async function* () {
    const hash = createHash('sha256');
    let done = 0;
    for await (const chunk of content) {
      done += chunk.length;
      if (done > bytes) break;
      hash.update(chunk);
      yield chunk;
      onProgress(done);
    }
    const found = hash.digest('hex');
    if (done !== bytes)
      throw damaged(objects, key, `expected ${bytes} bytes, found ${done > bytes ? 'more' : done}`);
    if (found !== sha256) throw damaged(objects, key, `expected its SHA-256, found ${found.slice(0, 12)}…`);
  })();
}

function damaged(objects: Objects, key: string, what: string): UserError {
  return new UserError(
    'corrupt',
    `${objects.name}/${key}: ${what}. Publish the model again: sentence-jepa model publish DIR|NAME --model-store ${objects.name}`,
  );
}
