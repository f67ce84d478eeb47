import { mkdtemp, rm } from 'node:fs/promises';
import { Agent, request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { Random } from '../../base/random.js';
import { slope } from '../../bench/statistics.js';
import { call } from '../server/http-support.js';
import { Server, type Usage } from '../support/server.js';
import { makeTinyModel } from '../support/tiny-model.js';
import { readAll } from '../torture/client.js';
import { answerViolation, type FuzzAnswer } from './answers.js';
import { brokenHttp, mutate } from './mutate.js';
import { validRequests, type FuzzRequest } from './valid-requests.js';

export interface FuzzOptions {
  requests: number;
  seed: number;
  /** A PostgreSQL database to keep the collection in, emptied again and again; a folder without. */
  store?: string;
  say(line: string): void;
}

export interface FuzzResult {
  /** How often each status came; 0: the connection was closed without one. */
  statuses: Record<number, number>;
  violations: string[];
  /** After warming up, and then after every tenth of the requests; garbage collected, the collection emptied. */
  usages: (Usage & { requests: number })[];
  /** Of the resident memory, by least squares. */
  rssBytesPerThousand: number;
}

const CONCURRENCY = 16;
/** Longer than the server waits for a body, and lingers behind an error. */
const LIMIT_MS = 30_000;
const STAGES = 10;
/** Of the JavaScript heap and buffers, over all requests after warming up: what is live should not grow at all. */
const LIVE_GROWTH_BYTES = 16 << 20;

/** Sends mutated requests to a server, and checks that each is answered as openapi.yaml says and none leaves anything behind. */
export async function fuzz({ requests, seed, store, say }: FuzzOptions): Promise<FuzzResult> {
  const folder = await mkdtemp(path.join(tmpdir(), 'fuzz-'));
  let server: Server | undefined;
  try {
    const model = path.join(folder, 'model');
    await makeTinyModel(model);
    server = await Server.start({
      ...{ model, dataDir: path.join(folder, 'data'), store, exactUpTo: 100, cacheMib: 1, logLevel: 'warn' },
      limits: { bytes: 1 << 20, characters: 20_000, texts: 100, bodySeconds: 2 },
    });
    const { url } = server;
    const result: FuzzResult = { statuses: {}, violations: [], usages: [], rssBytesPerThousand: 0 };
    const random = new Random(seed);
    const agent = new Agent({ keepAlive: true, maxSockets: CONCURRENCY });
    let sent = 0;
    const lane = async (until: number): Promise<void> => {
      while (sent < until) {
        sent++;
        const answer = random.below(20) === 0 ? await raw(url, random) : await fuzzOne(url, agent, random);
        result.statuses[answer.status] = (result.statuses[answer.status] ?? 0) + 1;
        if (answer.violation) result.violations.push(answer.violation);
      }
    };
    for (let stage = 1; stage <= STAGES; stage++) {
      const until = Math.round((requests * stage) / STAGES);
      await Promise.all(Array.from({ length: CONCURRENCY }, () => lane(until)));
      for (const id of (await readAll(url)).keys())
        await call(`${url}/documents/${encodeURIComponent(id)}`, { method: 'DELETE' });
      const usage = await server.usage();
      result.usages.push({ ...usage, requests: sent });
      say(
        `${sent} requests, ${result.violations.length} violations, ${Math.round(usage.rss / 2 ** 20)} MiB resident, ${usage.handles} handles`,
      );
    }
    agent.destroy();
    judgeUsage(result);
    if ((await server.kill('SIGTERM')) !== 0) result.violations.push('the server did not stop in order');
    return result;
  } finally {
    await server?.kill('SIGKILL');
    await rm(folder, { recursive: true, force: true });
  }
}

interface Outcome {
  status: number;
  violation?: string;
}

async function fuzzOne(url: string, agent: Agent, random: Random): Promise<Outcome> {
  const request = mutate(validRequests[random.below(validRequests.length)], random);
  const answer = await send(url, agent, request);
  const what = `${request.method} ${request.path.slice(0, 200)} ${JSON.stringify(request.headers).slice(0, 200)} ${JSON.stringify(request.body?.toString('utf8', 0, 300))}`;
  if (answer === 'hangs') return { status: 0, violation: `no answer within ${LIMIT_MS} ms: ${what}` };
  if (answer === 'closed') return { status: 0 };
  const violation = answerViolation(request, answer);
  return { status: answer.status, violation: violation && `${violation} to ${what}` };
}

function send(url: string, agent: Agent, request: FuzzRequest): Promise<FuzzAnswer | 'closed' | 'hangs'> {
  return new Promise((resolve) => {
    const { method, path, headers, body } = request;
    const length = body ? { 'content-length': body.length } : {};
    const limit = setTimeout(() => {
      resolve('hangs');
      client.destroy();
    }, LIMIT_MS);
    const done = (answer: FuzzAnswer | 'closed'): void => {
      clearTimeout(limit);
      resolve(answer);
    };
    const client = httpRequest(
      url,
      { agent, method, path, headers: { ...headers, ...length } },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () =>
          done({ status: response.statusCode!, headers: response.headers, body: Buffer.concat(chunks) }),
        );
        response.on('error', () => done('closed'));
      },
    );
    client.on('error', () => done('closed'));
    client.end(body);
  });
}

/** The first status of the answers, 0 where the connection was closed without one. */
function raw(url: string, random: Random): Promise<Outcome> {
  const bytes = brokenHttp(random);
  const what = JSON.stringify(bytes.toString('latin1', 0, 200));
  return new Promise((resolve) => {
    let answer = '';
    const socket = connect(Number(new URL(url).port), '127.0.0.1', () => socket.write(bytes));
    const finish = (violation?: string): void => {
      clearTimeout(limit);
      socket.destroy();
      const status = Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1] ?? 0);
      const failed = status >= 500 && status !== 503 ? `${status} to ${what}` : undefined;
      resolve({ status, violation: violation ?? failed });
    };
    const limit = setTimeout(() => finish(`no answer within ${LIMIT_MS} ms: ${what}`), LIMIT_MS);
    socket.setEncoding('latin1').on('data', (text: string) => {
      answer += text;
      if (answer.includes('\r\n\r\n')) finish();
    });
    socket.on('close', () => finish()).on('error', () => finish());
    // A client that goes away in the middle.
    if (random.below(3) === 0) setTimeout(() => finish(), 5);
  });
}

function judgeUsage(result: FuzzResult): void {
  const { usages, violations } = result;
  const [warm, last] = [usages[0], usages[usages.length - 1]];
  result.rssBytesPerThousand = 1000 * slope(usages.map(({ requests, rss }) => [requests, rss]));
  const live = ({ heapUsed, external }: Usage): number => heapUsed + external;
  if (live(last) - live(warm) > LIVE_GROWTH_BYTES)
    violations.push(`leak: live memory grew from ${live(warm)} to ${live(last)} bytes`);
  // By half of the requests all is open that is opened when it is first needed, as connections to PostgreSQL.
  const opened = Math.max(...usages.slice(0, usages.length / 2).map(({ handles }) => handles));
  if (last.handles > opened + CONCURRENCY) violations.push(`leak: from ${opened} to ${last.handles} handles`);
}
