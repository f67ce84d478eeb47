import { Pool, type Dispatcher } from 'undici';

import type { Load, LoadResult } from './load.js';

const REQUEST_MS = 30_000;

process.once('message', (load: Load) => {
  void run(load).then((result) => process.send!(result));
});

async function run({ url, bodies, concurrency, seconds }: Load): Promise<LoadResult> {
  const { origin, pathname: path } = new URL(url);
  // Half the processor time of node:http, which the server on the same cores would miss.
  const pool = new Pool(origin, {
    connections: concurrency,
    headersTimeout: REQUEST_MS,
    bodyTimeout: REQUEST_MS,
  });
  const result: LoadResult = { milliseconds: [], seconds: 0, errors: 0 };
  const begin = performance.now();
  let next = 0;
  const connection = async (): Promise<void> => {
    while (performance.now() - begin < seconds * 1000) {
      const sent = performance.now();
      const error = await post(pool, path, bodies[next++ % bodies.length]);
      if (error === undefined) result.milliseconds.push(performance.now() - sent);
      else {
        result.errors++;
        result.firstError ??= error;
      }
    }
  };
  await Promise.all(Array.from({ length: concurrency }, connection));
  result.seconds = (performance.now() - begin) / 1000;
  await pool.destroy();
  return result;
}

const HEADERS = { 'content-type': 'application/json' };

/** @returns what went wrong, nothing when the answer was 200 */
function post(pool: Dispatcher, path: string, body: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    let status = 0;
    let start = '';
    pool.dispatch(
      { path, method: 'POST', headers: HEADERS, body },
      {
        onConnect: () => {},
        onHeaders: (statusCode) => {
          status = statusCode;
          return true;
        },
        onData: (chunk) => {
          if (status !== 200 && start.length < 300) start += chunk.toString('utf8');
          return true;
        },
        onComplete: () => resolve(status === 200 ? undefined : `${status}: ${start}`),
        onError: (error) => resolve(error.message),
      },
    );
  });
}
