import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { startNginx, withoutNginx } from '../../bench/nginx.js';
import { BenchProcess, freePort } from '../../bench/processes.js';
import { call, post, type Answer } from '../server/http-support.js';
import { startPostgres, withoutPostgres, type PostgresServer } from '../server/postgres-server.js';
import { Server, type ServerOptions } from '../support/server.js';
import { makeTinyModel } from '../support/tiny-model.js';
import { readAll, search } from './client.js';

/** A vector's cosine with itself, in float32; with another model's vector it is far from that. */
const SAME = 0.9999;
const documents = Array.from({ length: 120 }, (_, i) => ({ id: `d${i}`, text: `window ${i} drive` }));
/** Embedded by workers, behind the answer. */
const queued = Array.from({ length: 3000 }, (_, i) => ({ id: `q${i}`, text: `queued ${i} for later` }));
const AWAY_MS = 20_000;
/** A request without an answer for so long hangs; nginx itself would wait an hour for a stream of documents. */
const HANGS_MS = 60_000;
const CLI = fileURLToPath(new URL('../../cli/main.js', import.meta.url));

/** Of Load's, by number: two that search and two that write. */
const searchers = [0, 1];
const writers = [2, 3];
const clients = [...searchers, ...writers];

/** Searches and writes without a pause, by clients of which each waits for its answer. */
class Load {
  /** What is wrong with an answer, or an answer that may not come. */
  readonly violations: string[] = [];
  readonly sent = new Set<string>();
  readonly acknowledged = new Set<string>();
  readonly models = new Set<string>();
  /** Of each client: answers, and 503 with when to come again instead of one. */
  readonly done = clients.map(() => 0);
  readonly away = clients.map(() => 0);
  /** Whether a search may be answered with 503. A write may always: a POST is not repeated when its server is gone. */
  mayBeAway = false;
  private isOver = false;
  private readonly running: Promise<void>[];

  constructor(private readonly url: string) {
    this.running = [
      ...searchers.map((client) => this.search(client)),
      ...writers.map((client) => this.write(client)),
    ];
  }

  get searches(): number {
    return this.done[0] + this.done[1];
  }

  async end(): Promise<void> {
    this.isOver = true;
    await Promise.all(this.running);
  }

  /** Waits for so many more answers of a kind. */
  async answered(count: () => number, more: number): Promise<void> {
    const wanted = count() + more;
    while (count() < wanted && this.violations.length === 0) await sleep(10);
    assert.deepEqual(this.violations, []);
  }

  /** Waits until each client has so many more of `counts`, so that none of them hangs. */
  async eachAnswered(counts: readonly number[], more: number): Promise<void> {
    await Promise.all(clients.map((client) => this.answered(() => counts[client], more)));
  }

  private async search(client: number): Promise<void> {
    for (let i = client; !this.isOver; i += 7) {
      const { text } = documents[i % documents.length];
      const query = encodeURIComponent(text);
      const answer = await (i % 2 === 0
        ? this.ask(`/search?q=${query}&k=3`)
        : this.ask('/search', JSON.stringify({ query: text, k: 3 })));
      if (this.mayBeAway && isAway(answer)) this.away[client]++;
      else if (typeof answer === 'string' || answer.status !== 200)
        this.violations.push(`search: ${JSON.stringify(answer)}`);
      else {
        this.done[client]++;
        this.models.add(answer.body.model as string);
        const [hit] = answer.body.hits as { text: string; score: number }[];
        if (hit.text !== text || hit.score < SAME)
          this.violations.push(`search: ${text} found ${JSON.stringify(hit)} by ${answer.body.model}`);
      }
    }
  }

  private async write(client: number): Promise<void> {
    for (let i = 0; !this.isOver; i++) {
      const id = `w${client}-${i}`;
      const body = JSON.stringify({ id, text: `written ${i} by ${client}` });
      this.sent.add(id);
      const answer = await (i % 2 === 0
        ? this.ask('/documents', `[${body}]`)
        : this.ask('/documents', `${body}\n`, 'application/x-ndjson'));
      if (isAway(answer)) this.away[client]++;
      else if (typeof answer === 'string' || answer.status !== 200)
        this.violations.push(`write: ${JSON.stringify(answer)}`);
      else {
        this.done[client]++;
        this.acknowledged.add(id);
      }
    }
  }

  /** @returns what went wrong, as text, when there is no answer */
  private ask(path: string, body?: string, type = 'application/json'): Promise<Answer | string> {
    const sends = body !== undefined && { method: 'POST', headers: { 'Content-Type': type }, body };
    return call(this.url + path, { ...sends, signal: AbortSignal.timeout(HANGS_MS) }).catch(String);
  }
}

function isAway(answer: Answer | string): boolean {
  return typeof answer !== 'string' && answer.status === 503 && Number(answer.headers.get('retry-after')) > 0;
}

describe('three servers behind nginx, under load', { skip: withoutNginx || withoutPostgres }, () => {
  let folder: string;
  let postgres: PostgresServer;
  let store: string;
  let ports: number[];
  let servers: Server[];
  let nginx: { url: string; process: BenchProcess };
  let workers: BenchProcess[] = [];
  let load: Load;
  const models: string[] = [];

  const start = (options: Partial<ServerOptions> = {}): Promise<Server> =>
    Server.start({ model: models[0], dataDir: folder, store, exactUpTo: 10_000, ...options });

  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'servers-'));
    for (const [seed, name] of [[1, 'first'] as const, [2, 'second'] as const]) {
      models.push(path.join(folder, name));
      await makeTinyModel(models.at(-1)!, { seed });
    }
    postgres = await startPostgres();
    store = await postgres.freshDatabase();
    ports = [await freePort(), await freePort(), await freePort()];
    servers = await Promise.all(ports.map((port) => start({ port })));
    nginx = await startNginx(folder, ports);
    assert.equal((await post(`${nginx.url}/documents`, documents)).status, 200);
    workers = [1, 2].map(
      (n) =>
        new BenchProcess('worker', process.execPath, [
          ...[CLI, 'worker', '--model', models[0], '--store', store],
          ...['--data-dir', path.join(folder, `worker-${n}`), '--threads', '1', '--log-level', 'error'],
        ]),
    );
    load = new Load(nginx.url);
  });
  after(async () => {
    await load?.end();
    await Promise.all(workers.map((worker) => worker.stop()));
    await nginx?.process.stop();
    await Promise.all((servers ?? []).map((server) => server.kill('SIGKILL')));
    await postgres?.close();
    await rm(folder, { recursive: true, force: true });
  });

  const searched = (): number => load.searches;

  it('answer every search while one of them is killed, and comes back', async () => {
    await load.answered(searched, 20);
    for (const i of [0, 1]) {
      await servers[i].kill('SIGKILL');
      await load.answered(searched, 50);
      servers[i] = await start({ port: ports[i] });
      await load.answered(searched, 20);
    }
  });

  it('say 503 and when to come again for 20 s without PostgreSQL, and go on, workers as well', async (test) => {
    if (!postgres.restart) return test.skip('the PostgreSQL that was given is not stopped');
    const lines = queued.map((document) => `${JSON.stringify(document)}\n`).join('');
    const answer = await post(`${nginx.url}/documents?async`, lines, {
      'Content-Type': 'application/x-ndjson',
    });
    assert.equal(answer.status, 202);
    load.mayBeAway = true;
    await postgres.restart.stop();
    const stopped = Date.now();
    while (Date.now() < stopped + AWAY_MS) {
      await load.eachAnswered(load.away, 2);
      for (const { url } of servers) assert.equal((await call(`${url}/health`)).status, 200);
    }
    await postgres.restart.start();
    await load.eachAnswered(load.done, 5);
    const refused = (): number => load.away[0] + load.away[1];
    for (let before = -1; before !== refused(); await load.answered(searched, 50)) before = refused();
    load.mayBeAway = false;
    const ask = async () => (await call(nginx.url + answer.headers.get('location'))).body;
    let ingest = await ask();
    for (; ingest.state !== 'done'; ingest = await ask()) {
      assert.notEqual(ingest.state, 'failed', ingest.error);
      await load.answered(searched, 5);
    }
    assert.deepEqual(ingest.documents, { done: queued.length, total: queued.length });
    assert.ok(Date.parse(ingest.ended) > stopped, 'the workers had done all before PostgreSQL stopped');
  });

  it('answer each search from one model while another one goes live, and one of them is killed', async () => {
    load.models.clear();
    const killed = (async () => {
      await load.answered(searched, 5);
      await servers[2].kill('SIGKILL');
    })();
    const next = await start({ model: models[1], reembed: true });
    await killed;
    servers[2] = await start({ port: ports[2], model: models[1] });
    servers.push(next);
    for (const { url } of servers)
      while ((await call(`${url}/info`)).body.model_id !== 'second') await sleep(10);
    await load.answered(searched, 50);
    assert.deepEqual([...load.models].sort(), ['first', 'second']);
  });

  it('have all that they acknowledged, and nothing that nobody sent', async () => {
    await load.end();
    assert.deepEqual(load.violations, []);
    const found = await readAll(nginx.url);
    assert.ok(load.acknowledged.size > 20);
    for (const id of load.acknowledged) assert.ok(found.has(id), id);
    assert.equal(documents.filter(({ id, text }) => found.get(id) === text).length, documents.length);
    for (const { id, text } of queued) assert.equal(found.get(id), text);
    for (const { id, text } of queued.filter((_, i) => i % 100 === 0)) {
      const hits = await search(nginx.url, text);
      assert.equal(hits[0].id, id);
      assert.equal(hits.filter((hit) => hit.id === id).length, 1, `${id} is found twice`);
    }
    for (const id of found.keys()) assert.ok(load.sent.has(id) || /^[dq]\d+$/.test(id), id);
  });
});
