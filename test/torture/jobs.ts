/**
 * Kills a server with kill -9 at random moments while it trains, embeds, judges, switches and goes back, and while it is
 * written to; after each start it must serve one model whole, and have every write that it had answered.
 *
 *   node dist/test/torture/jobs.js --kills 20 --seed 1
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

import { Random } from '../../base/random.js';
import { freePort, hasEnded } from '../../bench/processes.js';
import type { components } from '../../server/http/openapi.js';
import { inspect } from '../../server/search/inspect.js';
import { databaseFile } from '../../server/search/store.js';
import { removeFolder } from '../support/remove-folder.js';
import { makeTinyModel } from '../support/tiny-model.js';

type Job = components['schemas']['Job'];
type Models = components['schemas']['Models'];

const MAIN = fileURLToPath(new URL('../../cli/main.js', import.meta.url));
const DOCUMENTS = 400;
const WORDS = [
  'wifi',
  'slow',
  'ubuntu',
  'the',
  'is',
  'new',
  'disk',
  'usb',
  'sound',
  'boot',
  'grub',
  'kernel',
];
/** Every other kill comes at any time; the others soon after the beginning of one of these, which are short. */
const SHORT_MOMENTS = ['embedding', 'judging', 'activating', 'rolling back'];
/** Seconds from a start to the kill, at most, and from the beginning of a short moment. */
const LONGEST_LIFE = 10;
const LONGEST_MOMENT = 0.3;
const READY_SECONDS = 60;

export interface JobsTorture {
  kills: number;
  seed: number;
  say(line: string): void;
}

export interface JobsTortureResult {
  kills: number;
  /** What the job under way was doing, or the switch, at each kill. */
  moments: Record<string, number>;
  jobsDone: number;
  acknowledged: number;
  /** What should not have been seen. */
  violations: string[];
}

export async function tortureJobs({ kills, seed, say }: JobsTorture): Promise<JobsTortureResult> {
  const random = new Random(seed);
  const folder = await mkdtemp(path.join(tmpdir(), 'torture-jobs-'));
  const dataDir = path.join(folder, 'data');
  const model = path.join(folder, 'tiny');
  await makeTinyModel(model);
  const result: JobsTortureResult = { kills: 0, moments: {}, jobsDone: 0, acknowledged: 0, violations: [] };
  /** Text by id: what was acknowledged. */
  const stored = new Map<string, string>();
  const deleted = new Set<string>();
  let written = 0;
  let jobs = 0;
  let server = await Server.start(model, dataDir);
  try {
    await server.call('POST', '/documents', {
      documents: Array.from({ length: DOCUMENTS }, (_, i) => ({ id: `d${i}`, text: textOf(random, i) })),
    });
    for (let i = 0; i < DOCUMENTS; i += 2)
      await server.call('POST', '/feedback', { query: textOf(random, i), id: `d${i}`, relevant: true });
    while (result.kills < kills) {
      const state = { moment: 'idle' };
      const wanted = result.kills % 2 === 0 ? undefined : SHORT_MOMENTS[random.below(SHORT_MOMENTS.length)];
      const delay = random.float() * (wanted === undefined ? LONGEST_LIFE : LONGEST_MOMENT);
      const killed = (async () => {
        for (let i = 0; wanted !== undefined && state.moment !== wanted && i < 6000; i++) await sleep(10);
        await sleep(delay * 1000);
        result.moments[state.moment] = (result.moments[state.moment] ?? 0) + 1;
        await server.end('SIGKILL');
      })();
      await Promise.all([
        killed,
        untilGone(async () => {
          const id = `w${written++}`;
          const text = textOf(random, written);
          await server.call('PUT', `/documents/${id}`, { text });
          stored.set(id, text);
          if (written % 5 === 0) {
            const [old] = stored.keys();
            // Until it is answered, it may be there or not.
            stored.delete(old);
            await server.call('DELETE', `/documents/${old}`);
            deleted.add(old);
          }
          await sleep(15);
        }),
        untilGone(async () => {
          const { jobs: all } = (await server.call('GET', '/finetune')) as { jobs: Job[] };
          const last = all.at(-1);
          if (last?.state !== 'done') state.moment = last?.state ?? 'idle';
          if (!last || ['done', 'failed'].includes(last.state)) {
            if (last?.state === 'failed') result.violations.push(`job ${last.id} failed: ${last.error}`);
            const { models } = (await server.call('GET', '/models')) as Models;
            const waiting = models.find(
              ({ name, state: s }) => name === `finetuned-${last?.id}` && s !== 'live',
            );
            const isNew = last?.state === 'done' && last.id > result.jobsDone;
            if (isNew && waiting) {
              state.moment = 'activating';
              await server.call('POST', `/models/${waiting.name}/activate`);
            } else if (isNew) {
              state.moment = 'rolling back';
              if (await server.call('POST', '/models/rollback')) result.jobsDone = last.id;
            } else {
              jobs++;
              await server.call('POST', '/finetune', { settings: { maxSteps: 10, batch: 16, seed: jobs } });
            }
          }
          await sleep(20);
        }),
      ]);
      result.kills++;
      check(dataDir, result.violations);
      server = await Server.start(model, dataDir);
      await server.check(stored, deleted, result.violations);
      say(
        `kill ${result.kills}: ${state.moment}; ${stored.size} documents, ${result.violations.length} violations`,
      );
    }
    await server.checkEveryModel(stored, result.violations);
    result.acknowledged = stored.size;
    return result;
  } finally {
    // In order, so that its trainer has ended too.
    await server.end('SIGTERM');
    await removeFolder(folder);
  }
}

/** Does something again and again until the server is gone. */
async function untilGone(something: () => Promise<void>): Promise<void> {
  for (;;)
    try {
      await something();
    } catch (error) {
      if (error instanceof Gone) return;
      throw error;
    }
}

class Gone extends Error {}

/** Different for every number, of words that the tiny model knows. */
function textOf(random: Random, number: number): string {
  const words = Array.from({ length: 6 }, () => WORDS[random.below(WORDS.length)]);
  return `${words.join(' ')} ${number}`;
}

/** What lies there between a kill and the next start. */
function check(dataDir: string, violations: string[]): void {
  violations.push(...inspect(databaseFile(dataDir)).problems);
}

class Server {
  private constructor(
    private readonly url: string,
    private readonly child: ChildProcess,
  ) {}

  static async start(model: string, dataDir: string): Promise<Server> {
    const port = await freePort();
    const args = [...['serve', '--model', model, '--data-dir', dataDir], ...['--port', String(port)]];
    const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
    let stderr = '';
    child.stderr!.setEncoding('utf8').on('data', (text: string) => (stderr = (stderr + text).slice(-4000)));
    const server = new Server(`http://127.0.0.1:${port}`, child);
    const deadline = Date.now() + READY_SECONDS * 1000;
    for (;;) {
      const isReady = await fetch(`${server.url}/ready`).then(
        ({ ok }) => ok,
        () => false,
      );
      if (isReady) return server;
      if (hasEnded(child) || Date.now() > deadline)
        throw new Error(`the server does not start again: ${stderr}`);
      await sleep(50);
    }
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    if (hasEnded(this.child)) return;
    const gone = once(this.child, 'exit');
    this.child.kill(signal);
    await gone;
  }

  /** @throws Gone when there is no answer, Error for a status that should not be */
  async call(method: string, path: string, body?: object): Promise<unknown> {
    let answer: Response;
    let text: string;
    try {
      const headers = { 'content-type': 'application/json' };
      answer = await fetch(`${this.url}${path}`, {
        method,
        ...(body && { headers, body: JSON.stringify(body) }),
      });
      text = await answer.text();
    } catch (error) {
      throw new Gone('no answer', { cause: error });
    }
    // A switch to a model that is loaded after a start.
    if (answer.status === 503 && path.startsWith('/models/')) return undefined;
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text === '' ? undefined : JSON.parse(text);
  }

  /** That it serves one model whole, and all that was acknowledged. */
  async check(stored: Map<string, string>, deleted: Set<string>, violations: string[]): Promise<void> {
    const { documents } = (await this.call('GET', '/info')) as components['schemas']['Info'];
    const { models } = (await this.call('GET', '/models')) as Models;
    const live = models.filter(({ state }) => state === 'live');
    if (live.length !== 1 || live[0].vectors !== documents)
      violations.push(`${documents} documents, live: ${JSON.stringify(live)}`);
    const found = await this.list();
    for (const [id, text] of stored)
      if (found.get(id) !== text)
        violations.push(`${id} was acknowledged, and is ${found.get(id) ?? 'gone'}`);
    for (const id of deleted) if (found.has(id)) violations.push(`${id} was deleted, and is there`);
  }

  private async list(): Promise<Map<string, string>> {
    const found = new Map<string, string>();
    let after = '';
    for (;;) {
      const { documents } = (await this.call('GET', `/documents?limit=1000${after}`)) as {
        documents: { id: string; text: string }[];
      };
      for (const { id, text } of documents) found.set(id, text);
      if (documents.length < 1000) break;
      after = `&after=${documents.at(-1)!.id}`;
    }
    return found;
  }

  /** That each model finds each document by its own text. */
  async checkEveryModel(stored: Map<string, string>, violations: string[]): Promise<void> {
    const { models } = (await this.call('GET', '/models')) as Models;
    for (const { name } of models.filter(({ served }) => served)) {
      // What was written a moment ago is embedded a moment later.
      for (const [id, text] of stored) {
        let score = 0;
        for (let tries = 0; score < 0.9999 && tries < 300; tries++) {
          const { hits } = (await this.call('POST', '/search', { query: text, k: 1000, model: name })) as {
            hits: { id: string; score: number }[];
          };
          score = hits.find((hit) => hit.id === id)?.score ?? 0;
          if (score < 0.9999) await sleep(200);
        }
        if (score < 0.9999) violations.push(`${name} finds ${id} by its own text with ${score}`);
      }
    }
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { values } = parseArgs({ options: { kills: { type: 'string' }, seed: { type: 'string' } } });
  const { kills = '20', seed = '1' } = values;
  const result = await tortureJobs({
    kills: Number(kills),
    seed: Number(seed),
    say: (line) => console.error(line),
  });
  console.log(JSON.stringify(result, null, 2));
  process.exitCode = result.violations.length > 0 ? 1 : 0;
}
