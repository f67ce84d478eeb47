import path from 'node:path';

import { UserError } from '../../base/errors.js';
import { translated } from './schema.js';
import { Sqlite } from './sqlite.js';

/**
 * Keeps a second server off a data folder. The lock is SQLite's own on an empty database, that is, the
 * operating system's: it ends with the process, kill -9 included, and leaves nothing stale.
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
  const db = translated(file, () => new Sqlite(file, { timeout: 0 }));
  try {
    translated(file, () => db.exec('BEGIN EXCLUSIVE'));
  } catch (error) {
    db.close();
    if ((error as { code?: string }).code !== 'SQLITE_BUSY') throw error;
    return undefined;
  }
  return () => db.close();
}
