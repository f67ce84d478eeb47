import { execFile } from 'node:child_process';

import { messageOf } from './errors.js';

const TIMEOUT_MS = 60_000;

/**
 * Tries what was compiled in a process of its own, which a wrong instruction may end.
 *
 * @param script a script that prints `works`, or the reason why not as the last line on stderr
 * @returns nothing when it works; else why it does not
 */
export function whyNotWorking(script: string, ...args: string[]): Promise<string | undefined> {
  return new Promise((resolve) => {
    execFile(process.execPath, [script, ...args], { timeout: TIMEOUT_MS }, (error, stdout, stderr) => {
      if (!error && stdout.includes('works')) resolve(undefined);
      else if (error?.killed) resolve(`no answer in ${TIMEOUT_MS / 1000} s`);
      else if (error?.signal) resolve(`it ended the process that loaded it (${error.signal})`);
      else resolve(stderr.trim().split('\n').at(-1) || (error ? messageOf(error) : 'it found nothing'));
    });
  });
}

/** What such a script does: says that the check passed, or why not. */
export async function tryModule(check: () => void | Promise<void>): Promise<void> {
  try {
    await check();
    console.log('works');
  } catch (error) {
    console.error(messageOf(error).replace(/\s+/g, ' '));
    process.exitCode = 1;
  }
}
