import { Agent, request } from 'node:http';

import { messageOf } from '../base/errors.js';
import type { SteadyAnswer, SteadyLoad } from './steady-load.js';

const REQUEST_SECONDS = 30;
const TELL_MS = 500;

const agent = new Agent({ keepAlive: true });
const answers: SteadyAnswer[] = [];
let stopped = false;

process.on('message', (message: SteadyLoad | 'stop') => {
  if (message === 'stop') stopped = true;
  else void run(message);
});

async function run({ url, queries, searchesPerSecond, writesPerSecond }: SteadyLoad): Promise<void> {
  const telling = setInterval(() => process.send!(answers.splice(0)), TELL_MS);
  await Promise.all([
    every(1000 / searchesPerSecond, (i, due) => search(url, queries[i % queries.length], due)),
    every(1000 / writesPerSecond, (i, due) => write(url, i, due)),
  ]);
  clearInterval(telling);
  await new Promise((resolve) => process.send!(answers, resolve));
  process.exit(0);
}

/** Sends at i x ms from now on, and waits for all answers in the end. */
async function every(ms: number, send: (i: number, due: number) => Promise<void>): Promise<void> {
  const begin = Date.now();
  const sent: Promise<void>[] = [];
  for (let i = 0; !stopped; i++) {
    const due = begin + i * ms;
    const wait = due - Date.now();
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
    sent.push(send(i, due));
  }
  await Promise.all(sent);
}

async function search(url: string, query: string, due: number): Promise<void> {
  const answer = await send(`${url}/search`, { query, k: 5 });
  const base = { kind: 'search', due, ...times(answer) } as const;
  if (answer.status !== 200) return void answers.push({ ...base, error: answer.body.slice(0, 300) });
  const { model, generation, hits } = JSON.parse(answer.body) as NonNullable<SteadyAnswer['search']>;
  const found = hits.map(({ text, score }) => ({ text, score }));
  answers.push({ ...base, search: { query, model, generation, hits: found } });
}

async function write(url: string, i: number, due: number): Promise<void> {
  const document = { id: `w${i}`, text: `A note of number ${i} that was written meanwhile` };
  const answer = await send(`${url}/documents`, { documents: [document] });
  const base = { kind: 'write', due, ...times(answer) } as const;
  if (answer.status !== 200) answers.push({ ...base, error: answer.body.slice(0, 300) });
  else answers.push({ ...base, written: document });
}

interface Answer {
  status: number;
  body: string;
  answered: number;
  generation?: number;
}

function times({ status, answered, generation }: Answer): Omit<Answer, 'body'> {
  return { status, answered, generation };
}

function send(url: string, body: object): Promise<Answer> {
  return new Promise((resolve) => {
    const text = JSON.stringify(body);
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) };
    const fail = (error: Error): void => resolve({ status: 0, body: messageOf(error), answered: Date.now() });
    const call = request(
      url,
      { agent, method: 'POST', headers, timeout: REQUEST_SECONDS * 1000 },
      (answer) => {
        const chunks: Buffer[] = [];
        answer.on('data', (chunk: Buffer) => chunks.push(chunk));
        answer.on('error', fail);
        answer.on('end', () => {
          const generation = answer.headers['x-generation'];
          resolve({
            status: answer.statusCode!,
            body: Buffer.concat(chunks).toString('utf8'),
            answered: Date.now(),
            ...(generation !== undefined && { generation: Number(generation) }),
          });
        });
      },
    );
    call.on('timeout', () => call.destroy(new Error(`no answer within ${REQUEST_SECONDS} s`)));
    call.on('error', fail);
    call.end(text);
  });
}
