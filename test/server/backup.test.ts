import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, open, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

import { backUp, restore } from '../../server/search/backup.js';
import { inspect } from '../../server/search/inspect.js';
import { openCollection } from '../../server/search/open-collection.js';
import { Sqlite } from '../../base/sqlite.js';
import { databaseFile } from '../../server/search/store.js';
import { fakeInference } from './fake-inference.js';

const writer = fileURLToPath(new URL('./backup-writer.js', import.meta.url));
const cli = fileURLToPath(new URL('../../cli/main.js', import.meta.url));
const FIRST = 3000;

let folder: string;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'sentence-jepa-backup-'));
});
after(() => rm(folder, { recursive: true, force: true }));

/** A process that has the collection open and writes to it. */
async function startWriter(dataDir: string) {
  const child: ChildProcess = spawn(process.execPath, [writer, dataDir, String(FIRST)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const state = { acknowledged: 0 };
  const lines = createInterface({ input: child.stdout! });
  lines.on('line', (line) => (state.acknowledged = Number(line)));
  // Asked for at once: a process that has ended says so only once.
  const closed = once(child, 'close');
  const ended = closed.then(() => {
    throw new Error('the writer ended');
  });
  ended.catch(() => undefined);
  const more = async (n: number): Promise<void> => {
    const wanted = state.acknowledged + n;
    while (state.acknowledged < wanted) await Promise.race([once(lines, 'line'), ended]);
  };
  await more(FIRST);
  return {
    state,
    more,
    async stop() {
      child.kill('SIGKILL');
      await closed;
    },
  };
}

async function run(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [cli, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk) => (stdout += chunk));
  child.stderr.on('data', (chunk) => (stderr += chunk));
  const [code] = (await once(child, 'close')) as [number];
  return { code, stdout, stderr };
}

describe('backup and restore', () => {
  /** Of a collection that was written to meanwhile. */
  let backup: string;
  let documents: number;
  let dataDir: string;

  it('copies what was acknowledged, whole, while another process writes', async () => {
    dataDir = path.join(folder, 'served');
    backup = path.join(folder, 'backup');
    const writing = await startWriter(dataDir);
    try {
      await writing.more(30);
      const atLeast = writing.state.acknowledged;
      const steps: number[] = [];
      const manifest = await backUp(dataDir, backup, (done) => steps.push(done));
      assert.ok(steps.length > 2, 'it was copied in steps');
      const onwards = [...steps].sort((a, b) => a - b);
      assert.deepEqual(steps, onwards, 'no write made it begin again');
      await writing.more(30);
      documents = manifest.documents;
      assert.ok(documents >= atLeast, `${documents} of ${atLeast}`);
      // A write is three documents.
      assert.equal(documents % 3, FIRST % 3);
      assert.deepEqual((await readdir(backup)).sort(), ['backup.json', 'collection.sqlite']);
      await assert.rejects(restore(backup, dataDir, { force: true }), {
        kind: 'unavailable',
        message: /in use by another sentence-jepa server/,
      });
    } finally {
      await writing.stop();
    }

    const restored = path.join(folder, 'restored');
    await restore(backup, restored);
    const { problems, generations } = inspect(databaseFile(restored));
    assert.deepEqual(problems, []);
    assert.deepEqual(
      generations.map(({ vectors, state }) => [vectors, state]),
      [[documents, 'live']],
    );
    const collection = await openCollection({ dataDir: restored, inference: fakeInference() });
    assert.equal(collection.info().documents, documents);
    for (let i = 0; i < documents; i++) assert.ok(await collection.get(`d${i}`), `d${i} of ${documents}`);
    const [hit] = await collection.search({ query: `question ${FIRST + 1}`, k: 1, mode: 'lexical' });
    assert.equal(hit.id, `d${FIRST + 1}`);
    await collection.close();
  });

  it('refuses a folder that holds a collection, unless told to replace it, index and all', async () => {
    const target = path.join(folder, 'other');
    const other = await openCollection({ dataDir: target, inference: fakeInference(), exactUpTo: 1 });
    await other.upsert([
      { id: 'x', text: 'one' },
      { id: 'y', text: 'two' },
    ]);
    await other.close();
    assert.ok((await readdir(target, { recursive: true })).includes('generations/1/index.json'));
    await assert.rejects(restore(backup, target), { kind: 'exists', message: /--force/ });
    assert.equal(inspect(databaseFile(target)).documents, 2);
    await restore(backup, target, { force: true });
    assert.deepEqual((await readdir(target)).sort(), ['collection.sqlite', 'lock']);
    assert.equal(inspect(databaseFile(target)).documents, documents);
  });

  it('has the models that jobs have made and generations are of, and no other', async () => {
    const source = path.join(folder, 'trained');
    const model = (id: number): string =>
      path.join(source, 'models', `finetuned-${id}`, 'onnx', 'model.onnx');
    for (const id of [1, 2]) {
      await mkdir(path.dirname(model(id)), { recursive: true });
      await writeFile(model(id), `weights ${id}`);
    }
    const collection = await openCollection({ dataDir: source, inference: fakeInference() });
    await collection.upsert([{ id: 'a', text: 'one' }]);
    const inference = { ...fakeInference({ seed: 'trained' }), name: 'finetuned-2', fingerprint: 'f2' };
    await collection.activate(await collection.prepare({ inference, job: 2 }));
    const out = path.join(folder, 'of-trained');
    const { models } = await backUp(source, out);
    await collection.close();
    assert.deepEqual(
      models?.map((file) => file.path),
      ['models/finetuned-2/onnx/model.onnx'],
    );

    // What a server kept of other jobs goes; what is restored is what the database speaks of.
    const target = path.join(folder, 'of-trained-restored');
    await mkdir(path.join(target, 'models', 'finetuned-9'), { recursive: true });
    await mkdir(path.join(target, 'jobs', '9'), { recursive: true });
    await restore(out, target);
    assert.deepEqual((await readdir(target)).sort(), ['collection.sqlite', 'lock', 'models']);
    assert.deepEqual(await readdir(path.join(target, 'models')), ['finetuned-2']);
    const restored = path.join(target, 'models/finetuned-2/onnx/model.onnx');
    assert.equal(await readFile(restored, 'utf8'), 'weights 2');

    await writeFile(path.join(out, 'models/finetuned-2/onnx/model.onnx'), 'weights 3');
    await assert.rejects(restore(out, path.join(folder, 'nowhere')), {
      kind: 'corrupt',
      message: /onnx\/model\.onnx: expected SHA-256/,
    });
    await rm(path.dirname(path.dirname(model(2))), { recursive: true });
    await assert.rejects(backUp(source, path.join(folder, 'too-late')), {
      kind: 'unavailable',
      message: /another one was activated meanwhile/,
    });
  });

  it('is refused when a byte was changed, the end is cut off, or a part is missing', async () => {
    const target = path.join(folder, 'unused');
    const damages: [name: string, damage: (dir: string) => Promise<void>, kind: string, words: RegExp][] = [
      [
        'flipped',
        async (dir) => {
          const file = await open(databaseFile(dir), 'r+');
          const { buffer } = await file.read({ position: 100_000, length: 1, buffer: Buffer.alloc(1) });
          buffer[0] ^= 1;
          await file.write(buffer, 0, 1, 100_000);
          await file.close();
        },
        'corrupt',
        /expected SHA-256 .*changed or cut off/,
      ],
      ['cut', (dir) => truncate(databaseFile(dir), 200_000), 'corrupt', /expected \d+ bytes, found 200000/],
      ['without', (dir) => rm(databaseFile(dir)), 'not-found', /collection\.sqlite: no such file/],
      ['unnamed', (dir) => rm(path.join(dir, 'backup.json')), 'not-found', /expected a backup/],
      [
        'later',
        async (dir) => {
          const file = path.join(dir, 'backup.json');
          await writeFile(file, (await readFile(file, 'utf8')).replace(/"schema": \d+/, '"schema": 99'));
        },
        'invalid',
        /later version of sentence-jepa .*schema 99/,
      ],
    ];
    for (const [name, damage, kind, message] of damages) {
      const dir = path.join(folder, name);
      await cp(backup, dir, { recursive: true });
      await damage(dir);
      await assert.rejects(restore(dir, target), { kind, message }, name);
    }
    await mkdir(target);
    assert.deepEqual(await readdir(target), []);
  });

  it('are commands, as is verify', async () => {
    const out = path.join(folder, 'by-command');
    const target = path.join(folder, 'restored-by-command');
    const made = await run('backup', '--data-dir', dataDir, '--out', out);
    assert.equal(made.code, 0, made.stderr);
    assert.match(made.stdout, /^\d+ documents \([\d.]+ MiB\) are in /);
    assert.equal((await run('restore', '--from', out, '--data-dir', target)).code, 0);
    for (const dir of [out, target, dataDir]) {
      const { code, stdout, stderr } = await run('verify', '--data-dir', dir);
      assert.equal(code, 0, stderr);
      assert.match(stdout, /is whole: (\d+) documents, \1 vectors of fake-a \(live\)/);
    }
    for (const [args, message] of [
      [['backup', '--data-dir', dataDir, '--out', out], /already there; name another folder/],
      [['backup', '--data-dir', folder, '--out', `${out}2`], /expected a collection's database, found none/],
      [['restore', '--from', out, '--data-dir', target], /--force/],
    ] as const) {
      const { code, stderr } = await run(...args);
      assert.equal(code, 1);
      assert.match(stderr, message);
      assert.doesNotMatch(stderr, /\n {4}at /);
    }
    assert.deepEqual(
      (await readdir(folder)).filter((name) => name.endsWith('.partial')),
      [],
    );
  });

  it('verify finds what does not belong together', async () => {
    const broken = path.join(folder, 'broken');
    await restore(backup, broken);
    const db = new Sqlite(databaseFile(broken));
    const { id } = db.prepare('SELECT id FROM generations').get() as { id: number };
    db.exec(`UPDATE documents SET text = text || '!' WHERE key = 3`);
    db.exec(`DELETE FROM vectors_${id} WHERE key = 1; UPDATE vectors_${id} SET vector = x'00' WHERE key = 2`);
    db.exec(`INSERT INTO vectors_${id}(key, vector, checksum) VALUES (999999, x'00', 0)`);
    db.close();
    const { code, stderr } = await run('verify', '--data-dir', broken);
    assert.equal(code, 1);
    assert.match(
      stderr,
      /document "[^"]+" is damaged; 2 vectors are damaged .*1 vectors belong to no document .*2 vectors have not 16 dim.*1 documents have no vec/,
    );
    await assert.rejects(backUp(broken, path.join(folder, 'of-broken')), { kind: 'corrupt' });
  });
});
