import { Agent, request } from 'node:http';

import type { OverloadAnswers, Overload } from './overload.js';

const REQUEST_SECONDS = 120;
const TICK_MS = 10;

process.once('message', (load: Overload) => {
  void run(load).then((answers) => process.send!(answers));
});

/** Sends at a rate, whether earlier requests are answered or not; ends when all are. */
async function run({ url, bodies, requestsPerSecond, seconds }: Overload): Promise<OverloadAnswers> {
  const agent = new Agent({ keepAlive: true });
  const answers: OverloadAnswers = { accepted: [], refused: 0, errors: 0 };
  const open = new Set<Promise<void>>();
  const begin = performance.now();
  let sent = 0;
  await new Promise<void>((resolve) => {
    const timer = setInterval(() => {
      const elapsed = (performance.now() - begin) / 1000;
      const due = Math.min(elapsed, seconds) * requestsPerSecond;
      for (; sent < due; sent++) {
        const answered = post(url, agent, bodies[sent % bodies.length], answers).finally(() =>
          open.delete(answered),
        );
        open.add(answered);
      }
      if (elapsed < seconds) return;
      clearInterval(timer);
      resolve();
    }, TICK_MS);
  });
  process.send!({ sent });
  await Promise.all(open);
  agent.destroy();
  return answers;
}

function post(url: string, agent: Agent, body: string, answers: OverloadAnswers): Promise<void> {
  const sent = performance.now();
  return new Promise((resolve) => {
    const failed = (error: Error): void => {
      answers.errors++;
      answers.firstError ??= error.message;
      resolve();
    };
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    const timeout = REQUEST_SECONDS * 1000;
    const call = request(url, { agent, method: 'POST', headers, timeout }, (answer) => {
      answer.resume().on('error', failed);
      answer.on('end', () => {
        if (answer.statusCode === 200) answers.accepted.push(performance.now() - sent);
        else if (answer.statusCode === 429) answers.refused++;
        else return failed(new Error(`status ${answer.statusCode}`));
        resolve();
      });
    });
    call.on('timeout', () => call.destroy(new Error(`no answer within ${REQUEST_SECONDS} s`)));
    call.on('error', failed);
    call.end(body);
  });
}
