import { rm } from 'node:fs/promises';

/** A trainer whose server was killed stops behind its step, and writes a checkpoint before that. */
const TRIES = 25;
const PAUSE_MS = 100;

/** Removes what processes that were left behind may still write to. Each try waits longer, half a minute in all. */
export function removeFolder(folder: string): Promise<void> {
  return rm(folder, { recursive: true, force: true, maxRetries: TRIES, retryDelay: PAUSE_MS });
}
