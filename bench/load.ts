import { fork } from 'node:child_process';
import { once } from 'node:events';

import { UserError } from '../base/errors.js';

/** Requests that follow each other on `concurrency` connections, for some seconds. */
export interface Load {
  url: string;
  /** JSON, sent in this order, again from the start when all are sent. */
  bodies: string[];
  concurrency: number;
  seconds: number;
}

export interface LoadResult {
  /** Of each answered request, from its first byte out to its last byte in. */
  milliseconds: number[];
  /** From the first request to the last answer. */
  seconds: number;
  /** Requests that got another status than 200, or none. */
  errors: number;
  /** One of them. */
  firstError?: string;
}

/** Runs a load in a process of its own, so that this one's event loop is not in the figures. */
export async function runLoad(load: Load): Promise<LoadResult> {
  const child = fork(new URL('./load-worker.js', import.meta.url));
  const kill = (): void => void child.kill('SIGKILL');
  process.once('exit', kill);
  try {
    child.send(load);
    const [answer] = (await Promise.race([once(child, 'message'), once(child, 'exit').then(() => [])])) as [
      LoadResult?,
    ];
    if (!answer) throw new UserError('backend', 'the load generator ended without a result');
    return answer;
  } finally {
    process.off('exit', kill);
    kill();
  }
}
