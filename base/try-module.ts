import { execFile } from 'node:child_process';

import { messageOf } from './errors.js';

/**
 * Tries what was compiled in a process of its own, which a wrong instruction may end.
 *
 * @param script that calls {@link tryModule}
 * @param argument its first one
 * @returns nothing when it works; else why it does not
 */
export function whyNotWorking(
  script: string,
  argument: string,
  { seconds = 60 }: { seconds?: number } = {},
): Promise<string | undefined> {
  return new Promise((resolve) => {
    const options = { timeout: 1000 * seconds };
    execFile(process.execPath, [script, argument], options, (error, stdout, stderr) => {
      if (!error && stdout.includes('works')) resolve(undefined);
      else if (error?.killed) resolve(`no answer in ${seconds} s`);
      else if (error?.signal) resolve(`it ended the process that loaded it (${error.signal})`);
      else resolve(stderr.trim().split('\n').at(-1) || (error ? messageOf(error) : 'it computed nothing'));
    });
  });
}

/** Says on stdout that the check passed (`works`), or on the last line of stderr why not. */
export async function tryModule(check: () => void | Promise<void>): Promise<void> {
  try {
    await check();
    console.log('works');
  } catch (error) {
    console.error(messageOf(error).replace(/\s+/g, ' '));
    process.exitCode = 1;
  }
}
