import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { chmod, cp, mkdir, mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import http from 'node:http';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { cacheFolder, projectRoot } from '../../base/paths.js';
import { freePort } from '../../bench/processes.js';
import { openEncoder } from '../../encoder/open-encoder.js';
import { openEvaluation } from '../../evaluation/open-evaluation.js';
import { call, post, send } from '../server/http-support.js';
import {
  onConnection,
  startPostgres,
  withoutPostgres,
  type PostgresServer,
} from '../server/postgres-server.js';
import { eventually } from '../support/eventually.js';
import { removeFolder } from '../support/remove-folder.js';
import { makeTinyModel } from '../support/tiny-model.js';

const main = fileURLToPath(new URL('../../cli/main.js', import.meta.url));

let folder: string;
let model: string;
let other: string;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'serve-'));
  model = path.join(folder, 'tiny');
  await makeTinyModel(model);
  other = path.join(folder, 'other');
  await makeTinyModel(other, { seed: 2 });
});
const started = new Set<ChildProcess>();
after(async () => {
  // What a test that failed left running.
  for (const child of started) child.kill('SIGKILL');
  await removeFolder(folder);
});

interface Running {
  url: string;
  process: ChildProcess;
  stderr: () => string;
  stop(signal?: NodeJS.Signals): Promise<number | null>;
}

function command(args: string[], env: Record<string, string> = {}): ChildProcess {
  const cache = path.join(folder, 'cache');
  const child = spawn(process.execPath, [main, ...args], {
    env: { ...process.env, SENTENCE_JEPA_CACHE: cache, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  started.add(child);
  child.once('exit', () => started.delete(child));
  return child;
}

/** Runs a command to its end. */
async function run(
  args: string[],
  env?: Record<string, string>,
): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = command(args, env);
  let stdout = '';
  let stderr = '';
  child.stdout!.on('data', (chunk) => (stdout += chunk));
  child.stderr!.on('data', (chunk) => (stderr += chunk));
  const [code] = (await once(child, 'close')) as [number];
  return { code, stdout, stderr };
}

/** Starts a server on a free port and waits until it says where it listens. */
async function start(dataDir: string, ...more: string[]): Promise<Running> {
  const args = ['serve', '--model', model, '--data-dir', dataDir, '--port', '0', '--threads', '1', ...more];
  const child = command(args);
  let stderr = '';
  const url = await new Promise<string>((resolve, reject) => {
    child.stderr!.on('data', (chunk) => {
      stderr += chunk;
      const found = /listening on (http:\S+)/.exec(stderr);
      if (found) resolve(found[1]);
    });
    child.once('close', (code) => reject(new Error(`serve ended with ${code}: ${stderr}`)));
  });
  const closed = once(child, 'close');
  return {
    url,
    process: child,
    stderr: () => stderr,
    async stop(signal = 'SIGTERM') {
      child.kill(signal);
      return ((await closed) as [number | null])[0];
    },
  };
}

describe('sentence-jepa serve', () => {
  it('goes on in the precision of its collection with --precision auto, whatever is faster now', async () => {
    for (const precision of ['fp32', 'int8']) {
      const dataDir = path.join(folder, `auto-${precision}`);
      const first = await start(dataDir, '--precision', precision);
      await post(`${first.url}/documents`, [{ id: 'wifi', text: 'wifi is slow' }]);
      assert.equal(await first.stop(), 0);
      const second = await start(dataDir, '--precision', 'auto');
      const info = async (): Promise<Record<string, unknown>> => (await call(`${second.url}/info`)).body;
      const { model_dtype: dtype, documents } = await info();
      assert.deepEqual([dtype, documents], [precision, 1]);
      while (precision === 'int8' && (await info()).cosine_to_fp32 === undefined) await sleep(50);
      assert.equal((await info()).cosine_to_fp32 === undefined, precision === 'fp32');
      assert.equal(await second.stop(), 0);
    }
  });

  it('serves a model folder, keeps documents over a restart and finds them', async () => {
    const dataDir = path.join(folder, 'kept');
    const first = await start(dataDir);
    const info = (await call(`${first.url}/info`)).body;
    assert.equal(info.model_id, 'tiny');
    const stored = await post(`${first.url}/documents`, [
      { id: 'usb', text: 'usb stick is not recognised', metadata: { answered: true } },
      { id: 'wifi', text: 'wifi is slow' },
    ]);
    assert.deepEqual(stored.body, { stored: 2, inserted: 2, replaced: 0 });
    const found = (await post(`${first.url}/search`, { query: 'wifi is slow' })).body;
    assert.equal(found.hits[0].id, 'wifi');
    assert.ok(found.hits[0].score > 0.9999);
    const vectors = (await post(`${first.url}/embed`, { inputs: ['wifi is slow', 'usb'] })).body;
    assert.equal(await first.stop(), 0);

    const second = await start(dataDir);
    assert.deepEqual((await post(`${second.url}/search`, { query: 'wifi is slow' })).body, found);
    assert.deepEqual((await post(`${second.url}/embed`, { inputs: ['wifi is slow', 'usb'] })).body, vectors);
    const filtered = await post(`${second.url}/search`, { query: 'wifi', filter: { answered: true } });
    assert.deepEqual(
      filtered.body.hits.map(({ id }: { id: string }) => id),
      ['usb'],
    );
    assert.equal(
      (await post(`${second.url}/search`, { query: 'slow', mode: 'lexical' })).body.hits[0].id,
      'wifi',
    );
    assert.equal((await call(`${second.url}/documents/usb`, { method: 'DELETE' })).status, 204);
    assert.equal((await send('PUT', `${second.url}/documents/wifi`, { text: 'wifi is fast' })).status, 200);
    assert.equal(await second.stop('SIGINT'), 0);

    const third = await start(dataDir);
    assert.deepEqual((await call(`${third.url}/documents`)).body, {
      documents: [{ id: 'wifi', text: 'wifi is fast' }],
      next: null,
    });
    await third.stop();
  });

  it('finds what evaluate says that the encoder finds, after a restart too', async () => {
    const beir = path.join(projectRoot, 'examples/askubuntu-style');
    const linesOf = async (file: string): Promise<string[]> =>
      (await readFile(path.join(beir, file), 'utf8')).trim().split('\n');
    const relevant = new Map<string, string[]>();
    for (const line of (await linesOf('qrels/test.tsv')).slice(1)) {
      const [query, document] = line.split('\t');
      if (query !== document) relevant.set(query, [...(relevant.get(query) ?? []), document]);
    }
    const queries = (await linesOf('queries.jsonl')).map(
      (line) => JSON.parse(line) as Record<string, string>,
    );
    const encoder = await openEncoder(model, { threads: 1 });
    const { metrics } = await (await openEvaluation(`beir:${beir}`)).run(encoder);
    await encoder.close();

    const dataDir = path.join(folder, 'recall');
    for (const isFirst of [true, false]) {
      const server = await start(dataDir);
      if (isFirst)
        await post(`${server.url}/documents`, await readFile(path.join(beir, 'corpus.jsonl')), {
          'Content-Type': 'application/x-ndjson',
        });
      const recalls = await Promise.all(
        queries.map(async ({ _id, text }) => {
          const { hits } = (await post(`${server.url}/search`, { query: text, k: 11 })).body;
          const ids = hits.map(({ id }: { id: string }) => id).filter((id: string) => id !== _id);
          const wanted = relevant.get(_id)!;
          return wanted.filter((id) => ids.slice(0, 10).includes(id)).length / wanted.length;
        }),
      );
      const recall = recalls.reduce((sum, x) => sum + x, 0) / queries.length;
      assert.ok(recall > 0.01);
      assert.ok(Math.abs(recall - metrics['recall@10']) < 0.002, `${recall}, not ${metrics['recall@10']}`);
      await server.stop();
    }
  });

  it('has every acknowledged document after kill -9 in the middle of a stream', async () => {
    const dataDir = path.join(folder, 'killed');
    const server = await start(dataDir);
    const request = http.request(`${server.url}/documents`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/x-ndjson', Accept: 'application/x-ndjson' },
    });
    request.on('error', () => undefined);
    let acknowledged = 0;
    const enough = new Promise<void>((resolve) => {
      request.once('response', (response) => {
        let text = '';
        response.setEncoding('utf8').on('error', () => undefined);
        response.on('data', (chunk: string) => {
          text += chunk;
          const whole = text.split('\n').slice(0, -1);
          acknowledged = JSON.parse(whole.at(-1)!).stored;
          if (acknowledged >= 1024) resolve();
        });
      });
    });
    function* lines(): Generator<string> {
      for (let i = 0; ; i++) yield JSON.stringify({ id: `d${i}`, text: `question number ${i}` }) + '\n';
    }
    const cut = pipeline(Readable.from(lines()), request).catch(() => undefined);
    await enough;
    await server.stop('SIGKILL');
    await cut;

    const again = await start(dataDir);
    const found = new Set<string>();
    for (let next: string | null = ''; next !== null;) {
      const after: string = next === '' ? '' : `&after=${next}`;
      const page = (await call(`${again.url}/documents?limit=1000${after}`)).body;
      for (const { id } of page.documents) found.add(id);
      next = page.next;
    }
    assert.ok(acknowledged >= 1024);
    for (let i = 0; i < acknowledged; i++) assert.ok(found.has(`d${i}`), `d${i} of ${acknowledged}`);
    const hit = (await post(`${again.url}/search`, { query: 'question number 3', k: 1 })).body.hits[0];
    assert.ok(hit.score > 0.9999);
    await again.stop();
  });

  it('finishes a request in flight when it is told to stop, and exits with 0', async () => {
    const server = await start(path.join(folder, 'stopped'));
    const many = post(`${server.url}/embed`, {
      inputs: Array.from({ length: 1000 }, (_, i) => `question ${i} `.repeat(8)),
    });
    const { socket } = await new Promise<http.IncomingMessage>((resolve) =>
      http.get(`${server.url}/health`, { agent: false }, resolve),
    );
    socket.destroy();
    const code = server.stop();
    const answer = await many;
    assert.equal(answer.status, 200);
    assert.equal(answer.body.length, 1000);
    assert.equal(await code, 0);
  });

  it('loads the example questions into an empty collection, and offers them where there are none', async () => {
    const dataDir = path.join(folder, 'example');
    const empty = await start(dataDir);
    assert.match(empty.stderr(), /the collection is empty; start with --example/);
    await empty.stop();
    const loaded = await start(dataDir, '--example');
    const { documents } = (await call(`${loaded.url}/info`)).body;
    assert.ok(documents >= 200);
    await loaded.stop();
    const again = await start(dataDir, '--example');
    assert.match(again.stderr(), /--example: left out/);
    assert.equal((await call(`${again.url}/info`)).body.documents, documents);

    const found = await run(['search', 'usb stick', '--url', again.url, '-k', '3']);
    assert.equal(found.code, 0, found.stderr);
    assert.equal(found.stdout.trim().split('\n').length, 3);
    const json = await run(['search', 'usb stick', '--url', again.url, '-k', '2', '--json']);
    assert.equal(JSON.parse(json.stdout).hits.length, 2);
    const refused = await run(['search', ' ', '--url', again.url]);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /answers 400: query: expected a text that is not blank/);
    await again.stop();
  });

  it('has the example questions from the moment it is ready', async () => {
    const port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    const serving = start(path.join(folder, 'example-at-once'), '--example', '--port', String(port));
    let failure: unknown;
    serving.catch((error: unknown) => (failure = error));
    await eventually(async () => {
      if (failure) throw failure;
      // Before it listens nobody answers.
      return (await call(`${url}/ready`).catch(() => undefined))?.status === 200;
    }, `${url}/ready`);
    assert.equal((await call(`${url}/search?q=usb+stick`)).body.hits.length, 10);
    await (await serving).stop();
  });

  it('asks for a key when it has one', async () => {
    const file = path.join(folder, 'keys');
    await writeFile(file, 'key-of-file\n\n');
    const server = await start(path.join(folder, 'keyed'), '--api-key', 'a', '--api-key-file', file);
    assert.equal((await call(`${server.url}/info`)).status, 401);
    for (const key of ['a', 'key-of-file'])
      assert.equal(
        (await call(`${server.url}/info`, { headers: { Authorization: `Bearer ${key}` } })).status,
        200,
      );
    const found = await run(['search', 'x', '--url', server.url], { SENTENCE_JEPA_API_KEY: 'a' });
    assert.equal(found.code, 0, found.stderr);
    await server.stop();
    assert.doesNotMatch(server.stderr(), /key-of-file/);
  });
});

describe('sentence-jepa serve --store', { skip: withoutPostgres }, () => {
  let postgres: PostgresServer;
  before(async () => {
    postgres = await startPostgres();
  });
  after(() => postgres?.close());

  it('shares a collection between servers, which follow each other to another model', async () => {
    const store = await postgres.freshDatabase();
    const serve = (name: string, ...more: string[]): Promise<Running> =>
      start(path.join(folder, name), '--store', store, ...more);
    const first = await serve('shared-1', '--example');
    const second = await serve('shared-2');
    assert.doesNotMatch(first.stderr() + second.stderr(), /secret-of-the-test/);
    await post(`${second.url}/documents`, [{ id: 'mine', text: 'a b c', metadata: { n: 1 } }]);
    const found = (await post(`${first.url}/search`, { query: 'a b c', k: 1 })).body;
    assert.equal(found.hits[0].id, 'mine');
    // What is done in a folder of one machine's.
    for (const [answer, reason] of [
      [await post(`${first.url}/finetune`, {}), /--store/],
      [await post(`${first.url}/map`, {}), /no maps .*--store/],
      [await call(`${first.url}/map`), /no maps .*--store/],
    ] as const) {
      assert.equal(answer.status, 400);
      assert.match(answer.body.error, reason);
    }
    await assert.rejects(serve('shared-3', '--model', other), /fingerprint|--reembed/);
    const third = await serve('shared-3', '--model', other, '--reembed');
    while ((await call(`${first.url}/info`)).body.model_id !== 'other') await sleep(50);
    const answers = await Promise.all(
      [first, third].map(async ({ url }) => (await post(`${url}/search`, { query: 'a b', k: 5 })).body.hits),
    );
    assert.deepEqual(answers[0], answers[1]);
    // The third has never loaded the model before this one.
    const back = await call(`${third.url}/models/rollback`, { method: 'POST' });
    assert.deepEqual([back.status, back.body.model], [200, 'tiny'], back.text);
    for (const { url } of [first, second, third])
      while ((await call(`${url}/info`)).body.model_id !== 'tiny') await sleep(50);
    assert.deepEqual((await post(`${second.url}/search`, { query: 'a b c', k: 1 })).body, found);
    const forth = await call(`${first.url}/models/other/activate`, { method: 'POST' });
    assert.deepEqual([forth.status, forth.body.model], [200, 'other'], forth.text);
    for (const each of [first, second, third]) assert.equal(await each.stop(), 0);
  });

  it('gets models that it does not have from the model store', async () => {
    const store = await postgres.freshDatabase();
    const models = await mkdtemp(path.join(folder, 'models-'));
    const serve = (name: string, ...more: string[]): Promise<Running> =>
      start(path.join(folder, name), '--store', store, '--model-store', models, ...more);
    const elsewhere = path.join(folder, 'elsewhere', 'another');
    await cp(other, elsewhere, { recursive: true });
    const published = await run(['model', 'publish', elsewhere, '--model-store', models]);
    assert.equal(published.code, 0, published.stderr);
    const first = await serve('of-store-1');
    await post(`${first.url}/documents`, [{ id: 'a', text: 'black screen' }]);
    // It does not look before the folder is gone.
    first.process.kill('SIGSTOP');
    const second = await serve('of-store-2', '--model', elsewhere, '--reembed');
    await rename(elsewhere, path.join(folder, 'elsewhere', 'gone'));
    first.process.kill('SIGCONT');
    while ((await call(`${first.url}/info`)).body.model_id !== 'another') await sleep(50);
    assert.match(first.stderr(), /the model of \w{12}, from .*models-/);
    const ask = async ({ url }: Running) => (await post(`${url}/search`, { query: 'black', k: 1 })).body.hits;
    assert.deepEqual(await ask(first), await ask(second));
    assert.deepEqual([await first.stop(), await second.stop()], [0, 0]);

    // One that a training job has made, elsewhere.
    await onConnection(store, (client) =>
      client.query(`UPDATE generations SET job = 1 WHERE state = 'live'`),
    );
    const third = await serve('of-store-3');
    assert.equal((await call(`${third.url}/info`)).body.model_id, 'another');
    assert.equal(await third.stop(), 0);
    await rm(path.join(models, 'models'), { recursive: true });
    await rm(path.join(folder, 'cache', 'models', 'obtained'), { recursive: true });
    await assert.rejects(serve('of-store-4'), /has no model of fingerprint \w{12}; put it there/);
  });

  it('answers 503 and when to come again while PostgreSQL is away, and then goes on', async (test) => {
    if (!postgres.restart) return test.skip('the PostgreSQL that was given is not stopped');
    const server = await start(path.join(folder, 'away'), '--store', await postgres.freshDatabase());
    await send('PUT', `${server.url}/documents/a`, { text: 'a b c' });
    await postgres.restart.stop();
    for (const answer of [
      await send('PUT', `${server.url}/documents/b`, { text: 'b' }),
      await call(`${server.url}/documents/a`),
      await post(`${server.url}/search`, { query: 'a' }),
    ]) {
      assert.equal(answer.status, 503, answer.text);
      assert.equal(answer.headers.get('retry-after'), '5');
      assert.match(answer.body.error, /^postgres:\/\/127.*does not answer/);
      assert.doesNotMatch(answer.text, /secret/);
    }
    const metrics = await call(`${server.url}/metrics`);
    assert.equal(metrics.status, 200);
    assert.match(metrics.text, /^sentence_jepa_ready 1$/m);
    assert.doesNotMatch(metrics.text, /^sentence_jepa_ingest_jobs\{/m);
    await postgres.restart.start();
    assert.equal((await call(`${server.url}/documents/a`)).body.text, 'a b c');
    assert.equal((await send('PUT', `${server.url}/documents/b`, { text: 'b' })).status, 201);
    assert.equal(await server.stop(), 0);
  });
});

describe('sentence-jepa serve, told what it can not do', () => {
  const dataDir = (): string => path.join(folder, 'unused');

  it('says which option is wrong, with exit code 2', async () => {
    const keyFile = path.join(folder, 'keys');
    await writeFile(keyFile, 'read:fine\n\nschlüssel\n');
    const cases: [args: string[], env: Record<string, string>, message: RegExp][] = [
      [['--port', '70000'], {}, /--port <n>.*70000.*whole number from 0 to 65535/],
      [['--port', 'http'], {}, /--port <n>.*http/],
      [[], { SENTENCE_JEPA_PORT: '-1' }, /SENTENCE_JEPA_PORT.*whole number/],
      [['--precision', 'fp8'], {}, /--precision.*fp32, int8, auto, quantized/],
      [['--otlp-url', 'localhost:4318'], {}, /--otlp-url.*Expected an address such as http:/],
      [['--rate-limit', '0/s'], {}, /--rate-limit.*'0\/s'.*such as 10\/s or 600\/m/],
      [['--rate-limit', '10/h'], {}, /--rate-limit.*such as 10\/s or 600\/m/],
      [
        ['--cors-origin', 'https://a.example/path'],
        {},
        /--cors-origin.*such as https:.*came "https:\/\/a\.example\/path"/,
      ],
      [[], { SENTENCE_JEPA_CORS_ORIGIN: '*,null' }, /SENTENCE_JEPA_CORS_ORIGIN.*came "null"/],
      [['--allow-host', 'a.example,b.example:80'], {}, /--allow-host.*without ports.*came "b\.example:80"/],
      [
        ['--refit-request', '{"preset": "contxt"}'],
        {},
        /--refit-request: expected what POST \/finetune takes: preset: expected .*context.*, found "contxt"/,
      ],
      [
        ['--refit-request', '{"settings": {"lambda": "many"}}'],
        {},
        /--refit-request: .*settings\.lambda: expected a number from 0 up, found "many"/,
      ],
      [
        ['--api-key', 'fine,not fine'],
        {},
        /: --api-key or SENTENCE_JEPA_API_KEYS: expected an API key of ASCII letters/,
      ],
      [[], { SENTENCE_JEPA_API_KEYS: 'write:nicht schön' }, /SENTENCE_JEPA_API_KEYS: expected an API key/],
      [['--api-key', 'read:'], {}, /SENTENCE_JEPA_API_KEYS: expected a key behind read:, came none/],
      [['--api-key-file', keyFile], {}, /keys, line 3: expected an API key/],
      [['--no-such-option'], {}, /unknown option '--no-such-option'/],
      [['--host', '0.0.0.0'], {}, /reachable from other machines: expected an API key.*--insecure/],
    ];
    for (const [args, env, message] of cases) {
      const { code, stderr } = await run(['serve', '--model', model, '--data-dir', dataDir(), ...args], env);
      assert.equal(code, 2, stderr);
      assert.match(stderr, message);
      assert.doesNotMatch(stderr, /\n {4}at |not fine|nicht|schlüssel/);
    }
  });

  it('says when the port is in use, the model or the folder is not there, or a file has no key', async () => {
    const taken = net.createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const port = String((taken.address() as net.AddressInfo).port);
    const file = path.join(folder, 'a-file');
    await writeFile(file, '');
    const locked = path.join(folder, 'locked');
    await mkdir(locked);
    await chmod(locked, 0o500);
    const cases: [args: string[], message: RegExp][] = [
      [['--port', port], /port \d+: the port is in use; .*--port/],
      [['--port', '0', '--model', path.join(folder, 'no-model')], /no-model/],
      [['--port', '0', '--data-dir', path.join(file, 'below')], /a-file/],
      [['--port', '0', '--api-key-file', file], /a-file: expected an API key on each line, found none/],
      [['--port', '0', '--api-key-file', path.join(folder, 'none')], /none: no such file/],
      // The superuser may write everywhere.
      ...(process.getuid?.() === 0
        ? []
        : [[['--port', '0', '--data-dir', path.join(locked, 'd')], /locked/] as [string[], RegExp]]),
    ];
    for (const [args, message] of cases) {
      const { code, stderr } = await run(['serve', '--model', model, '--data-dir', dataDir(), ...args]);
      assert.equal(code, 1, stderr);
      assert.match(stderr, message);
      assert.doesNotMatch(stderr, /\n {4}at /);
    }
    taken.close();
  });

  it('names the server that search did not find', async () => {
    const { code, stderr } = await run(['search', 'x', '--url', 'http://127.0.0.1:9']);
    assert.equal(code, 1);
    assert.match(stderr, /no server answers at http:\/\/127\.0\.0\.1:9 .*--url/);
    assert.doesNotMatch(stderr, /\n {4}at /);
  });

  it('ends quietly when nobody reads on', async () => {
    const child = command(['serve', '--help']);
    child.stdout!.destroy();
    let stderr = '';
    child.stderr!.on('data', (chunk) => (stderr += chunk));
    const [code] = (await once(child, 'exit')) as [number];
    assert.deepEqual([code, stderr], [0, '']);
  });

  it('shows examples with --help', async () => {
    const { code, stdout } = await run(['serve', '--help']);
    assert.equal(code, 0);
    assert.match(stdout, /Examples:\n {2}sentence-jepa serve --example/);
    assert.match(stdout, /env:\s+SENTENCE_JEPA_PORT/);
  });
});

describe('sentence-jepa worker', { skip: withoutPostgres }, () => {
  let postgres: PostgresServer;
  before(async () => {
    postgres = await startPostgres();
  });
  after(() => postgres?.close());

  const worker = (...more: string[]): string[] => ['worker', '--model', model, '--threads', '1', ...more];

  it('embeds what a server has queued, answers probes, and finishes what it has when it is told to stop', async () => {
    const store = await postgres.freshDatabase();
    const server = await start(path.join(folder, 'queued'), '--store', store);
    const texts = Array.from({ length: 300 }, (_, i) => ({ id: `d${i}`, text: `question number ${i}` }));
    const queued = await post(`${server.url}/documents?async`, texts);
    assert.equal(queued.status, 202);
    const ingest = server.url + queued.headers.get('location');
    assert.equal((await call(ingest)).body.state, 'queued');

    const child = command(worker('--data-dir', path.join(folder, 'worker'), '--port', '0'), {
      SENTENCE_JEPA_STORE: store,
    });
    let stderr = '';
    child.stderr!.on('data', (chunk) => (stderr += chunk));
    while ((await call(ingest)).body.state !== 'done') await sleep(20);
    const found = await post(`${server.url}/search`, { query: 'question number 7' });
    assert.equal(found.body.hits[0].id, 'd7');
    const line = /doing what is queued in postgres:.* by tiny.* at (http:[^"]+)/.exec(stderr);
    assert.ok(line, stderr);
    for (const route of ['/health', '/ready']) assert.equal((await call(line[1] + route)).status, 200);
    assert.match((await call(`${line[1]}/metrics`)).text, /^sentence_jepa_ingested_documents_total 300$/m);
    assert.equal((await call(`${line[1]}/documents`)).status, 404);
    for (const each of stderr.trim().split('\n')) JSON.parse(each);
    assert.doesNotMatch(stderr, /secret-of-the-test/);

    const ended = once(child, 'close');
    child.kill('SIGTERM');
    assert.deepEqual(await ended, [0, null]);
    assert.equal(await server.stop(), 0);
  });

  it('trains what a server was asked for, goes on for one that was killed, and gives the model to every server', async () => {
    const texts = Array.from({ length: 200 }, (_, i) => ({ id: `d${i}`, text: `question ${i} about wifi` }));
    const modelStore = path.join(folder, 'model-store');
    await mkdir(modelStore);
    // All of the cache is a test's own but for TensorFlow.
    await mkdir(path.join(folder, 'cache'), { recursive: true });
    await symlink(cacheFolder('tensorflow'), path.join(folder, 'cache', 'tensorflow'));
    const shared = ['--store', await postgres.freshDatabase(), '--model-store', modelStore];
    const asked = await start(path.join(folder, 'asked'), ...shared);
    await post(`${asked.url}/documents`, texts);
    const folders = [1, 2].map((n) => path.join(folder, `trains-${n}`));
    const workers = folders.map((dataDir) => {
      const child = command(worker('--data-dir', dataDir, '--jobs', 'training', ...shared));
      return { dataDir, child, ended: once(child, 'close') };
    });
    const job = await post(`${asked.url}/finetune`, { settings: { maxSteps: 150, batch: 16 } });
    assert.equal(job.status, 202);
    const at = async (): Promise<{ state: string; error?: string; training?: { step: number } }> =>
      (await call(`${asked.url}/finetune/1`)).body;
    while (((await at()).training?.step ?? 0) < 3) await sleep(20);
    // Not in the data folder itself, where another collection's jobs may have the same numbers.
    const modelsOf = (dataDir: string): string =>
      path.join(dataDir, 'stores', readdirSync(path.join(dataDir, 'stores'))[0], 'models');
    const trains = workers.find(({ dataDir }) => existsSync(path.join(dataDir, 'stores')))!;
    trains.child.kill('SIGKILL');
    for (let now = await at(); now.state !== 'done'; now = await at()) {
      assert.notEqual(now.state, 'failed', now.error);
      await sleep(50);
    }
    const [other] = workers.filter((each) => each !== trains);
    assert.ok(existsSync(path.join(modelsOf(other.dataDir), 'finetuned-1')));
    const report = await fetch(`${asked.url}/finetune/1/report`, { headers: { accept: 'text/html' } });
    assert.match(await report.text(), /<html/);

    assert.equal((await post(`${asked.url}/models/finetuned-1/activate`, {})).status, 200);
    assert.equal((await call(`${asked.url}/info`)).body.model_id, 'finetuned-1');
    other.child.kill('SIGTERM');
    assert.deepEqual(await other.ended, [0, null]);
    assert.equal(await asked.stop(), 0);
    const late = await start(path.join(folder, 'late'), ...shared);
    assert.match(late.stderr(), /finetuned-1 was activated here/);
    const found = await post(`${late.url}/search`, { query: 'question 7 about wifi' });
    assert.deepEqual([found.body.model, found.body.hits[0].id], ['finetuned-1', 'd7']);
    assert.equal(await late.stop(), 0);
  });

  it('says what it lacks', async () => {
    const noStore = await run(worker('--store', 'postgres://127.0.0.1:9/x', '--jobs', 'training'));
    assert.equal(noStore.code, 2);
    assert.match(noStore.stderr, /^error: --jobs training: expected --model-store/);
    const noJob = await run(worker('--jobs', 'ingest,cleaning'));
    assert.match(noJob.stderr, /^error: --jobs: expected ingest or training, came "cleaning"/m);
    const without = await run(worker());
    assert.equal(without.code, 2);
    assert.match(without.stderr, /^error: --store: expected the PostgreSQL that the servers share/);
    const store = await postgres.freshDatabase();
    const first = await start(path.join(folder, 'another'), '--store', store);
    const refused = await post(`${first.url}/finetune`, {});
    assert.equal(refused.status, 400);
    assert.match(refused.body.error, /workers train .* --model-store: expected a folder that all share/);
    assert.equal(await first.stop(), 0);
    const another = await run(['worker', '--model', other, '--store', store]);
    assert.equal(another.code, 1);
    assert.match(another.stderr, /^error: the collection's vectors were made by tiny/m);
  });
});
