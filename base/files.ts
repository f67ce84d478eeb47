import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';

import { messageOf, UserError } from './errors.js';

/** Turns the file system's error into one that says what to do. */
export function fileError(error: unknown, file: string, doing: 'read' | 'write'): UserError {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === 'ENOENT')
    return new UserError('not-found', `${file}: no such file or folder`, { cause: error });
  if (code === 'EISDIR')
    return new UserError('invalid', `${file}: expected a file, found a folder`, { cause: error });
  if (code === 'ENOTDIR')
    return new UserError('invalid', `${file}: expected a folder, found a file on the way`, { cause: error });
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS')
    return new UserError('unavailable', `${file}: no permission to ${doing} it`, { cause: error });
  if (code === 'ENOSPC' || code === 'EDQUOT')
    return new UserError(
      'unavailable',
      `${file}: the disk is full; nothing was replaced. Free some space and run it again`,
      { cause: error },
    );
  return new UserError('unavailable', `${file}: could not ${doing} it: ${messageOf(error)}`, {
    cause: error,
  });
}

/** After a rename in it: the new name survives a power cut as well. */
export async function fsyncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** A name beside `target`, on the same file system, so that rename is atomic. */
export function besideName(target: string): string {
  return path.join(
    path.dirname(target),
    `.${path.basename(target)}.${randomBytes(6).toString('hex')}.partial`,
  );
}

/**
 * Writes a file so that a reader, or a machine that loses power, sees the old content or the whole
 * new one: written beside, fsynced, renamed.
 *
 * @param content bytes, text, or chunks of bytes for what is too large to hold twice
 * @throws UserError `unavailable` when the disk is full or not writable; the old file is untouched
 */
export async function writeFileAtomic(
  file: string,
  content: string | Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): Promise<void> {
  const beside = besideName(file);
  try {
    await mkdir(path.dirname(file), { recursive: true });
    const handle = await open(beside, 'wx');
    try {
      if (typeof content === 'string' || content instanceof Uint8Array) await handle.writeFile(content);
      else for await (const chunk of content) await handle.writeFile(chunk);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(beside, file);
    await fsyncFolder(path.dirname(file));
  } catch (error) {
    await rm(beside, { force: true }).catch(() => undefined);
    throw error instanceof UserError ? error : fileError(error, file, 'write');
  }
}

/**
 * Makes a whole folder appear at once: `fill` writes into a folder beside the target, which is
 * renamed when it is complete. Nothing is left behind when `fill` throws.
 *
 * @throws UserError `exists` when the target is there already and is not an empty folder
 */
export async function writeFolderAtomic(
  target: string,
  fill: (folder: string) => Promise<void>,
): Promise<void> {
  const beside = besideName(path.resolve(target));
  try {
    await mkdir(beside, { recursive: true });
    await fill(beside);
    await fsyncFolder(beside);
    await rename(beside, target);
    await fsyncFolder(path.dirname(path.resolve(target)));
  } catch (error) {
    await rm(beside, { recursive: true, force: true }).catch(() => undefined);
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOTEMPTY' || code === 'EEXIST' || (code === 'ENOTDIR' && (await exists(target))))
      throw new UserError('exists', `${target}: already there; name another folder or remove it first`, {
        cause: error,
      });
    throw error instanceof UserError ? error : fileError(error, target, 'write');
  }
}

/**
 * {@link writeFolderAtomic} for what every process makes alike: where another one was faster, its folder stays.
 */
export async function writeFolderIfFirst(
  target: string,
  fill: (folder: string) => Promise<void>,
): Promise<void> {
  try {
    await writeFolderAtomic(target, fill);
  } catch (error) {
    if (!(error instanceof UserError && error.kind === 'exists')) throw error;
  }
}

export async function exists(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    () => false,
  );
}

/** Every file of a folder and of those in it, links to files among them, by its path from there, in order. */
export async function filesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files: string[] = [];
  for (const entry of entries) {
    const file = path.join(entry.parentPath, entry.name);
    if (entry.isFile() || (entry.isSymbolicLink() && (await stat(file)).isFile()))
      files.push(path.relative(folder, file));
  }
  return files.sort();
}

/** Reads a JSON file. @throws UserError `not-found`, or `malformed` with the file's name */
export async function readJson<T>(file: string): Promise<T> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    throw fileError(error, file, 'read');
  }
  try {
    return JSON.parse(text) as T;
  } catch (error) {
    throw new UserError('malformed', `${file}: expected JSON: ${messageOf(error)}`, { cause: error });
  }
}

/** SHA-256 of a file as lower-case hex, streamed. */
export async function sha256File(file: string): Promise<string> {
  const hash = createHash('sha256');
  try {
    for await (const chunk of createReadStream(file, { highWaterMark: 1 << 22 }))
      hash.update(chunk as Buffer);
  } catch (error) {
    throw fileError(error, file, 'read');
  }
  return hash.digest('hex');
}
