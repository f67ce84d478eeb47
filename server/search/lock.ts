import path from 'node:path';

import { UserError } from '../../base/errors.js';
import { tryLock } from '../../base/lock.js';
import { translated } from './schema.js';

/**
 * Keeps a second server off a data folder.
 *
 * @returns what releases it
 * @throws UserError `unavailable` when another process has it, or when the disk is full
 */
export function lockFolder(folder: string): () => void {
  const unlock = tryLockFolder(folder);
  if (!unlock)
    throw new UserError(
      'unavailable',
      `${folder}: in use by another sentence-jepa server, or by a migration. Stop that one, or name another --data-dir`,
    );
  return unlock;
}

/** @returns undefined when another process has it. @throws UserError `unavailable` when the disk is full */
export function tryLockFolder(folder: string): (() => void) | undefined {
  const file = path.join(folder, 'lock');
  return translated(file, () => tryLock(file));
}
