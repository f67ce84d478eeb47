import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';

import { UserError } from '../../base/errors.js';
import { exists, fileError, writeFileAtomic } from '../../base/files.js';
import type { Objects } from './objects.js';

/** A shared folder is somebody's to make: a mount that is not there must not be written beside. */
export async function openFolderObjects(folder: string): Promise<Objects> {
  if (!(await exists(folder)))
    throw new UserError(
      'not-found',
      `--model-store ${folder}: expected a folder, found none; make it, or see that it is mounted`,
    );
  const fileOf = (key: string): string => path.join(folder, ...key.split('/'));
  return {
    name: path.resolve(folder),
    put: (key, content) =>
      writeFileAtomic(fileOf(key), typeof content === 'string' ? content : createReadStream(content.file)),
    async get(key) {
      const handle = await open(fileOf(key)).catch((error: unknown) => {
        throw fileError(error, fileOf(key), 'read');
      });
      return handle.createReadStream();
    },
  };
}
