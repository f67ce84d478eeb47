import { Agent, request } from 'node:http';

import type { Load, LoadResult } from './load.js';

const REQUEST_SECONDS = 30;

process.once('message', (load: Load) => {
  void run(load).then((result) => process.send!(result));
});

async function run({ url, bodies, concurrency, seconds }: Load): Promise<LoadResult> {
  const agent = new Agent({ keepAlive: true, maxSockets: concurrency });
  const result: LoadResult = { milliseconds: [], seconds: 0, errors: 0 };
  const begin = performance.now();
  let next = 0;
  const connection = async (): Promise<void> => {
    while (performance.now() - begin < seconds * 1000) {
      const sent = performance.now();
      const error = await post(url, agent, bodies[next++ % bodies.length]);
      if (error === undefined) result.milliseconds.push(performance.now() - sent);
      else {
        result.errors++;
        result.firstError ??= error;
      }
    }
  };
  await Promise.all(Array.from({ length: concurrency }, connection));
  result.seconds = (performance.now() - begin) / 1000;
  agent.destroy();
  return result;
}

/** @returns what went wrong, nothing when the answer was 200 */
function post(url: string, agent: Agent, body: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    const call = request(
      url,
      { agent, method: 'POST', headers, timeout: REQUEST_SECONDS * 1000 },
      (answer) => {
        const isOk = answer.statusCode === 200;
        let start = '';
        answer.on('data', (chunk: Buffer) => {
          if (!isOk && start.length < 300) start += chunk.toString('utf8');
        });
        answer.on('end', () => resolve(isOk ? undefined : `${answer.statusCode}: ${start}`));
        answer.on('error', (error) => resolve(error.message));
      },
    );
    call.on('timeout', () => call.destroy(new Error(`no answer within ${REQUEST_SECONDS} s`)));
    call.on('error', (error) => resolve(error.message));
    call.end(body);
  });
}
