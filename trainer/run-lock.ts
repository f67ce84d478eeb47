import { rmdirSync, rmSync } from 'node:fs';
import { mkdir, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { messageOf, UserError } from '../base/errors.js';
import { fileError } from '../base/files.js';
import { tryLock } from '../base/lock.js';

/** In a run's folder, what says that somebody trains there. */
const LOCK = 'lock';
/** One that was told to stop ends its step and writes a checkpoint first. */
const WAIT_SECONDS = 60;
const LOOK_MS = 200;

/**
 * Keeps a second training off a run's folder, which is made. Where another one is at work there, as one may be whose server was
 * killed, it is waited for.
 *
 * @returns what releases it, and removes the folder where there is nothing in it
 * @throws UserError `unavailable` when the other one does not end in time, or the folder can't be made
 */
export async function lockRun(
  folder: string,
  options: { onNote(note: string): void; signal?: AbortSignal; waitSeconds?: number },
): Promise<() => void> {
  const { onNote, signal, waitSeconds = WAIT_SECONDS } = options;
  const file = path.join(folder, LOCK);
  const deadline = performance.now() + 1000 * waitSeconds;
  for (let isFirst = true; ; isFirst = false) {
    await mkdir(folder, { recursive: true }).catch((error: unknown) => {
      throw fileError(error, folder, 'write');
    });
    let unlock: (() => void) | undefined;
    try {
      unlock = tryLock(file);
    } catch (error) {
      // Not every file system can.
      onNote(`${folder}: it can't be locked (${messageOf(error)}); see that nobody else trains there`);
      return () => undefined;
    }
    if (unlock) return () => release(folder, unlock);
    if (performance.now() > deadline)
      throw new UserError(
        'unavailable',
        `${folder}: another training is at work there; wait for its end, or name another folder with --out`,
      );
    if (isFirst)
      onNote(`${folder}: another training is at work there; it is waited for, ${waitSeconds} s at most`);
    await sleep(LOOK_MS, undefined, { signal });
  }
}

/** The file goes while it is locked: whoever opens it anew is alone. */
function release(folder: string, unlock: () => void): void {
  try {
    rmSync(path.join(folder, LOCK), { force: true });
    rmdirSync(folder);
  } catch {
    // There is a run in it.
  }
  unlock();
}

/** Removes what an earlier run has left in its folder, which the caller has locked. */
export async function emptyRun(folder: string): Promise<void> {
  for (const name of await readdir(folder))
    if (name !== LOCK) await rm(path.join(folder, name), { recursive: true, force: true });
}
