import { Sqlite } from './sqlite.js';

/**
 * Takes a lock that a file stands for. It is SQLite's own on an empty database, that is, the operating system's: it ends with the
 * process, kill -9 included, and leaves nothing stale.
 *
 * @returns what releases it; undefined when somebody else has it
 * @throws SQLite's error where the file can't be made or locked
 */
export function tryLock(file: string): (() => void) | undefined {
  const db = new Sqlite(file, { timeout: 0 });
  try {
    db.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    db.close();
    if ((error as { code?: string }).code === 'SQLITE_BUSY') return undefined;
    throw error;
  }
  return () => db.close();
}
