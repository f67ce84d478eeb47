import { randomUUID } from 'node:crypto';
import { existsSync, rmSync } from 'node:fs';
import { mkdir, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { messageOf, UserError } from './errors.js';
import { fileError } from './files.js';
import { tryLock } from './lock.js';

/** In a run's folder, what says that somebody trains there. It stays: a new one would be another lock than that of who waits. */
const LOCK = '.lock';
const LOOK_MS = 200;

/**
 * Keeps a second training off a run's folder, which is made.
 *
 * @param onNote told where the file system has no locks
 * @returns what releases it
 * @throws UserError `unavailable` when another training is at work there, or the folder can't be made
 */
export async function lockRun(folder: string, onNote: (note: string) => void): Promise<() => void> {
  await mkdir(folder, { recursive: true }).catch((error: unknown) => {
    throw fileError(error, folder, 'write');
  });
  try {
    const unlock = tryLock(path.join(folder, LOCK));
    if (unlock) return unlock;
  } catch (error) {
    onNote(`${folder}: it can't be locked (${messageOf(error)}); see that nobody else trains there`);
    return () => undefined;
  }
  if (hasLocks(folder))
    throw new UserError(
      'unavailable',
      `${folder}: another training is at work there; wait for its end, or name another folder with --out`,
    );
  onNote(`${folder}: its file system has no locks; see that nobody else trains there`);
  return () => undefined;
}

/** Waits for a training that is at work in a run's folder, as one may be whose parent was killed, until the signal. */
export async function untilRunIsFree(folder: string, signal?: AbortSignal): Promise<void> {
  const file = path.join(folder, LOCK);
  while (!signal?.aborted && existsSync(file)) {
    try {
      const unlock = tryLock(file);
      unlock?.();
      if (unlock || !hasLocks(folder)) return;
    } catch {
      // Nobody can have it locked either.
      return;
    }
    await sleep(LOOK_MS);
  }
}

/** SQLite tells a file system without locks by the code that says that somebody else has one. */
function hasLocks(folder: string): boolean {
  const probe = path.join(folder, `${LOCK}-${randomUUID()}`);
  try {
    const unlock = tryLock(probe);
    unlock?.();
    return unlock !== undefined;
  } finally {
    rmSync(probe, { force: true });
  }
}

/** Removes what an earlier run has left in its folder, which the caller has locked. (SQLite has a journal beside its file.) */
export async function emptyRun(folder: string): Promise<void> {
  for (const name of await readdir(folder))
    if (!name.startsWith(LOCK)) await rm(path.join(folder, name), { recursive: true, force: true });
}
