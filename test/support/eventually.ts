import { setTimeout as sleep } from 'node:timers/promises';

/** On a busy machine, too, what does not come in this time does not come. */
const LIMIT_SECONDS = 120;
const PAUSE_MS = 10;

/** Waits until it is so. @throws when it does not come to that @param what the message's subject */
export async function eventually(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + 1000 * LIMIT_SECONDS;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`did not come in ${LIMIT_SECONDS} s: ${what}`);
    await sleep(PAUSE_MS);
  }
}
