import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { Random } from '../../base/random.js';
import { call, post } from '../server/http-support.js';
import { Server, ServerRefused, type ServerOptions } from '../support/server.js';
import { makeTinyModel } from '../support/tiny-model.js';
import { check } from './check.js';
import { readAll } from './client.js';
import { Journal } from './journal.js';

let folder: string;
let model: string;
let running: Server[] = [];
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'faults-'));
  model = path.join(folder, 'tiny');
  await makeTinyModel(model);
});
afterEach(async () => {
  await Promise.all(running.map((server) => server.kill('SIGKILL')));
  running = [];
});
after(() => rm(folder, { recursive: true, force: true }));

async function start(dataDir: string, options: Partial<ServerOptions> = {}, shell?: string): Promise<Server> {
  const server = await Server.start({ model, dataDir, exactUpTo: 100, cacheMib: 0, ...options }, shell);
  running.push(server);
  return server;
}

const documentsOf = (from: number, n: number): { id: string; text: string }[] =>
  Array.from({ length: n }, (_, i) => ({ id: `d${from + i}`, text: `window ${from + i} drive` }));

/** Stores documents and notes them. */
async function store(
  url: string,
  documents: { id: string; text: string }[],
  journal: Journal,
): Promise<void> {
  const answer = await post(`${url}/documents`, documents);
  assert.equal(answer.status, 200, answer.text);
  for (const { id, text } of documents) {
    journal.sends([id], text);
    journal.acknowledges([id], text);
  }
}

describe('a thread that ends or hangs', () => {
  for (const [thread, fault] of [
    ['search', 'end'],
    ['batching', 'end'],
    ['batching', 'hang'],
  ] as const)
    it(`(${thread}, ${fault}) is replaced, and every request is answered`, async () => {
      const server = await start(path.join(folder, `${thread}-${fault}`), { batchSeconds: 2 });
      const { url } = server;
      const journal = new Journal();
      await store(url, documentsOf(0, 150), journal);
      const work = Array.from({ length: 40 }, async (_, i) => {
        if (i === 10) server.fail({ thread, fault });
        await sleep(10 * i);
        if (i % 2 === 0) return store(url, documentsOf(1000 + 10 * i, 10), journal);
        const { status, text, body } = await call(`${url}/search?q=window+${i}+drive&k=1`);
        assert.equal(status, 200, text);
        assert.equal(body.hits[0].id, `d${i}`);
      });
      await Promise.all(work);
      assert.deepEqual(await check(url, journal, new Random(1)), []);
      assert.match(
        server.log,
        thread === 'search' ? /search thread stopped/ : /inference thread is replaced/,
      );
      assert.equal((await call(`${url}/health`)).status, 200);
      assert.equal(await server.kill('SIGTERM'), 0);
    });
});

describe("the system's clock", () => {
  it('may jump by years, and nothing ends early, late or wrongly', async () => {
    const server = await start(path.join(folder, 'clock'), { healthSeconds: 3, batchSeconds: 5 });
    const { url } = server;
    const journal = new Journal();
    let from = 0;
    for (const days of [4000, -8000, 0.01, -0.01, 0]) {
      server.fail({ clock: days * 86_400_000 });
      await store(url, documentsOf(from, 60), journal);
      from += 60;
      assert.equal((await call(`${url}/health`)).status, 200);
      assert.equal((await call(`${url}/search?q=window&k=1`)).body.hits.length, 1);
      // A rate that is reckoned from a clock that went back would be negative or endless.
      const { text } = await call(`${url}/metrics`);
      const rate = Number(/^sentence_jepa_tokens_per_second ([\d.e+-]+)$/m.exec(text)?.[1]);
      assert.ok(rate > 0 && rate < 1e9, `${rate} tokens/s`);
      for (const [, name, sum] of text.matchAll(/^(\w+_duration(?:_seconds)?_sum)\S* (\S+)$/gm))
        assert.ok(Number(sum) >= 0 && Number(sum) < 3600, `${name} ${sum}`);
    }
    assert.deepEqual(await check(url, journal, new Random(1)), []);
    assert.ok(!server.log.includes('replaced'));
    assert.equal(await server.kill('SIGTERM'), 0);
  });
});

describe('a data folder', () => {
  it('is one server’s alone, until that is gone, by kill -9 too', async () => {
    const dataDir = path.join(folder, 'shared');
    const first = await start(dataDir);
    const journal = new Journal();
    await store(first.url, documentsOf(0, 20), journal);
    await assert.rejects(
      start(dataDir),
      (error: unknown) =>
        error instanceof ServerRefused &&
        error.code === 1 &&
        /shared: in use by another sentence-jepa server, or by a migration\. Stop that one, or name another --data-dir/.test(
          error.reason,
        ),
    );
    await store(first.url, documentsOf(20, 20), journal);
    await first.kill('SIGKILL');
    const second = await start(dataDir);
    assert.deepEqual(await check(second.url, journal, new Random(1)), []);
  });
});

describe('a full disk', () => {
  const mounted: string[] = [];
  after(() => mounted.forEach((dir) => spawnSync('umount', ['-l', dir])));

  /** A file system of its own, as small as that. @returns why there is none */
  async function mount(dir: string, size: string): Promise<string | undefined> {
    await mkdir(dir);
    const { status, stderr, error } = spawnSync(
      'mount',
      ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', dir],
      {
        encoding: 'utf8',
      },
    );
    if (status === 0) mounted.push(dir);
    return status === 0
      ? undefined
      : `no file system can be mounted here: ${error?.message ?? stderr.trim()}`;
  }

  it('refuses writes with 503, loses nothing that was answered, and goes on when there is room again', async (t) => {
    const disk = path.join(folder, 'disk');
    const reason = await mount(disk, '6m');
    if (reason) return t.skip(reason);
    const dataDir = path.join(disk, 'data');
    const ballast = path.join(disk, 'ballast');
    await mkdir(dataDir);
    await writeFile(ballast, Buffer.alloc(2 << 20));
    const server = await start(dataDir);
    const { url } = server;
    const journal = new Journal();
    let refused = 0;
    for (let i = 0; i < 400 && refused < 5; i++) {
      const documents = documentsOf(20 * i, 20).map(({ id, text }) => ({
        id,
        text: `${text} ${'x'.repeat(999)}`,
      }));
      const answer = await post(`${url}/documents`, documents);
      for (const { id, text } of documents) journal.sends([id], text);
      if (answer.status === 200) for (const { id, text } of documents) journal.acknowledges([id], text);
      else {
        assert.equal(answer.status, 503, answer.text);
        assert.equal(answer.body.error_type, 'unavailable');
        assert.match(answer.body.error, /the disk is full; nothing of this write was stored/);
        assert.equal(answer.headers.get('retry-after'), '30');
        journal.refuses(documents.map(({ id }) => id));
        refused++;
      }
    }
    assert.equal(refused, 5);
    assert.equal((await call(`${url}/health`)).status, 200);
    assert.deepEqual(await check(url, journal, new Random(1)), [], 'reading goes on');

    await rm(ballast);
    await store(url, documentsOf(100_000, 20), journal);
    assert.deepEqual(await check(url, journal, new Random(2)), []);
    assert.equal(await server.kill('SIGTERM'), 0);
    const again = await start(dataDir);
    assert.deepEqual(await check(again.url, journal, new Random(3)), []);
  });

  it('is no reason to stop when it is the index that has no room: it is written later', async (t) => {
    const disk = path.join(folder, 'index-disk');
    const reason = await mount(disk, '8m');
    if (reason) return t.skip(reason);
    const dataDir = path.join(disk, 'data');
    await mkdir(dataDir);
    // Searched exactly, it has no index to save; the graph is made at the next start.
    const before = await start(dataDir, { exactUpTo: 1e6 });
    const journal = new Journal();
    for (let i = 0; i < 10; i++) await store(before.url, documentsOf(100 * i, 100), journal);
    assert.equal(await before.kill('SIGTERM'), 0);
    const ballast = path.join(disk, 'ballast');
    const filled = spawnSync('dd', ['if=/dev/zero', `of=${ballast}`, 'bs=4k'], { encoding: 'utf8' });
    assert.match(filled.stderr, /No space left/);
    // The log's own files need a little.
    await rm(ballast);
    const { stdout } = spawnSync('df', ['--output=avail', '-k', disk], { encoding: 'utf8' });
    const free = Number(stdout.trim().split('\n').at(-1)) * 1024;
    await writeFile(ballast, Buffer.alloc(free - 160 * 1024));

    const server = await start(dataDir);
    for (let i = 0; i < 200 && !/index could not be written/.test(server.log); i++) await sleep(50);
    assert.ok(/the search index could not be written: .*the disk is full/.test(server.log));
    assert.deepEqual(await check(server.url, journal, new Random(1)), []);
    await rm(ballast);
    await store(server.url, documentsOf(10_000, 300), journal);
    assert.equal(await server.kill('SIGTERM'), 0);
    const again = await start(dataDir);
    assert.ok(!again.log.includes('building the search index'));
    assert.deepEqual(await check(again.url, journal, new Random(2)), []);
  });

  it('is told at start, where the database can not be opened without room', async () => {
    const dataDir = path.join(folder, 'no-room');
    // A limit on the size of files, in blocks of 512 bytes, is what can be had without mounting anything.
    await assert.rejects(
      start(dataDir, {}, 'ulimit -f 8; exec "$@"'),
      (error: unknown) => error instanceof ServerRefused && /the disk is full.*Free some/.test(error.reason),
    );
    assert.equal((await readAll((await start(dataDir)).url)).size, 0);
  });
});
