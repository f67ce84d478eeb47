import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { projectRoot } from '../../base/paths.js';
import { openPostgresCollection } from '../../server/postgres/open-collection.js';
import { withPostgresTarget } from '../../server/postgres/transfer.js';
import type { Document, TrainableCollection } from '../../server/search/collection.js';
import { withFolderTarget } from '../../server/search/folder-transfer.js';
import { inspect } from '../../server/search/inspect.js';
import { openCollection } from '../../server/search/open-collection.js';
import { Sqlite } from '../../base/sqlite.js';
import { databaseFile } from '../../server/search/store.js';
import type { TransferReport } from '../../server/transfer/transfer.js';
import { isUserError } from './collection-suite.js';
import { fakeInference } from './fake-inference.js';
import { onConnection, startPostgres, withoutPostgres, type PostgresServer } from './postgres-server.js';

const cli = fileURLToPath(new URL('../../cli/main.js', import.meta.url));
const writer = fileURLToPath(new URL('./search-writer.js', import.meta.url));
const killAtDocument = new URL('./kill-at-document.js', import.meta.url).href;

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

describe('sentence-jepa migrate', { skip: withoutPostgres }, () => {
  let postgres: PostgresServer;
  let folder: string;
  /** Real texts with metadata. */
  let documents: Document[];
  const running = new Set<ChildProcess>();
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'sentence-jepa-migrate-'));
    documents = [...(await readExample('askubuntu-style')), ...(await readExample('identifiers'))];
    postgres = await startPostgres();
  });
  after(async () => {
    for (const child of running) child.kill('SIGKILL');
    await postgres?.close();
    await rm(folder, { recursive: true, force: true });
  });

  async function migrate(from: string, to: string, killAt?: number): Promise<Ended> {
    const preload = killAt === undefined ? [] : ['--import', killAtDocument];
    const args = [...preload, cli, 'migrate', '--json', '--from', from, '--to', to];
    const child = spawn(process.execPath, args, {
      env: { ...process.env, KILL_AT_DOCUMENT: String(killAt) },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    running.add(child);
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (chunk) => (stdout += chunk));
    child.stderr.on('data', (chunk) => (stderr += chunk));
    const [code] = (await once(child, 'close')) as [number | null];
    running.delete(child);
    return { code, stdout, stderr };
  }

  /** @param at killed before it has stored so many documents more */
  async function killed(from: string, to: string, at: number): Promise<void> {
    const { code, stderr } = await migrate(from, to, at);
    assert.equal(code, null, `it was under way: ${stderr}`);
  }

  async function finished(from: string, to: string): Promise<TransferReport> {
    const { code, stdout, stderr } = await migrate(from, to);
    assert.equal(code, 0, stderr);
    const report = JSON.parse(stdout) as TransferReport;
    assert.deepEqual([report.isEqual, report.isFinished], [true, true]);
    assert.deepEqual(report.source, report.target);
    return report;
  }

  async function fails(from: string, to: string, message: RegExp, code = 1): Promise<void> {
    const ended = await migrate(from, to);
    assert.match(ended.stderr, message);
    assert.equal(ended.code, code);
    assert.doesNotMatch(ended.stderr, /\n {4}at |secret-of-the-test/);
  }

  const openFolder = (dataDir: string, seed = 'a'): Promise<TrainableCollection> =>
    openCollection({ dataDir, inference: fakeInference({ seed }) });
  const openPostgres = (url: string, seed = 'a'): Promise<TrainableCollection> =>
    openPostgresCollection({ url, inference: fakeInference({ seed }) });

  /** A data folder with so many documents. */
  async function folderOf(name: string, of: readonly Document[]): Promise<string> {
    const dataDir = path.join(folder, name);
    const collection = await openFolder(dataDir);
    await collection.upsert(of);
    await collection.close();
    return dataDir;
  }

  const many = (n: number): Document[] =>
    Array.from({ length: n }, (_, i) => ({ ...documents[i % documents.length], id: `d${i}` }));

  it('takes all of a collection to PostgreSQL, and back', async () => {
    const first = path.join(folder, 'first');
    const collection = await openFolder(first);
    await collection.upsert([...documents, { id: 'last', text: 'gone', metadata: { b: -0, a: ['ü', '𝒳'] } }]);
    await collection.upsert([{ ...documents[3], text: 'another version' }]);
    await collection.upsert([{ id: 'ligature', text: 'ﬁle name\u2028', metadata: { b: 1e21, a: null } }]);
    // What had the highest key is gone, and its key stays used.
    await collection.delete('last');
    await collection.addFeedback([
      { query: 'wifi', id: 'u001', relevant: true },
      { query: 'wifi', id: 'u002', relevant: false },
      { query: 'Wlan', id: 'nobody', relevant: true },
    ]);
    const done = await collection.addJob({ preset: 'context' });
    await collection.changeJob(done, { state: 'done', ended: '2026-01-01T00:00:00.000Z', verdict: {} });
    const candidate = fakeInference({ seed: 'b' });
    await collection.activate(await collection.prepare({ inference: candidate, job: done.id }));
    const underWay = await collection.addJob({ preset: 'pairs' });
    await collection.changeJob(underWay, { state: 'embedding' });
    await collection.prepare({ inference: fakeInference({ seed: 'c' }), job: underWay.id });
    const search = {
      query: 'package is not found',
      k: 20,
      mode: 'dense',
      filter: { answered: true },
    } as const;
    const hits = await collection.search(search);
    const counts = await collection.feedbackCounts();
    await collection.close();

    const url = await postgres.freshDatabase();
    const there = await finished(first, url);
    assert.deepEqual(
      there.source.map(({ part, count }) => [part, count]),
      [
        ['documents', documents.length + 1],
        ['vectors of fake-a (retired)', documents.length + 1],
        ['vectors of fake-b (live)', documents.length + 1],
        ['feedback', 3],
        ['jobs', 1],
      ],
    );
    assert.equal(there.jobsLeft, 1);
    const second = path.join(folder, 'second');
    const back = await finished(url, second);
    assert.deepEqual(back.target, there.source);
    assert.deepEqual((await readdir(second)).sort(), ['collection.sqlite', 'lock', 'migrated-from.json']);
    assert.deepEqual(inspect(databaseFile(second)).problems, []);

    for (const copy of [await openPostgres(url, 'b'), await openFolder(second, 'b')]) {
      const found = await copy.search(search);
      assert.deepEqual(
        found.map(({ id, metadata, text }) => ({ id, metadata, text })),
        hits.map(({ id, metadata, text }) => ({ id, metadata, text })),
      );
      assert.ok(found.every(({ score }, i) => Math.abs(score - hits[i].score) < 1e-6));
      assert.equal((await copy.search({ query: 'another version', k: 1, mode: 'lexical' }))[0].id, 'u004');
      assert.deepEqual(await copy.feedbackCounts(), counts);
      assert.deepEqual(await copy.jobs(), [
        { ...done, state: 'done', ended: '2026-01-01T00:00:00.000Z', verdict: {} },
      ]);
      assert.equal(await copy.changesSinceLastJob(), 0);
      const { id } = await copy.addJob({});
      assert.equal(id, 3, 'no number of a job is given twice');
      await copy.upsert([{ id: 'next', text: 'written behind it' }]);
      assert.equal(await copy.changesSinceLastJob(), 1);
      await copy.close();
    }
    const sql = `SELECT max(key) AS key FROM documents`;
    const { rows } = await onConnection(url, (client) => client.query<{ key: number }>(sql));
    assert.equal(rows[0].key, documents.length + 4, 'nor that of a document');
  });

  it('goes on where it was killed, into PostgreSQL', async () => {
    const dataDir = await folderOf('to-be-killed', many(8000));
    const url = await postgres.freshDatabase();
    const count = (): Promise<number> =>
      onConnection(url, async (client) => {
        const { rows } = await client.query<{ count: number }>('SELECT count(*) FROM documents');
        return rows[0].count;
      });
    for (const at of [300, 2500, 2800]) {
      const before = at === 300 ? 0 : await count();
      await killed(dataDir, url, at);
      const stored = (await count()) - before;
      assert.ok(stored > at - 300 && stored < at, `${stored} before document ${at}`);
    }
    assert.ok((await count()) > 5000, 'in the middle');
    await assert.rejects(openPostgres(url), isUserError('not-ready', `migration from ${dataDir} is not fin`));
    const writtenBy = async (): Promise<unknown> => {
      const sql = 'SELECT md5(string_agg(xmin::text, $1 ORDER BY key)) FROM documents WHERE key <= 5000';
      return onConnection(url, async (client) => (await client.query(sql, [','])).rows);
    };
    const before = await writtenBy();
    await finished(dataDir, url);
    assert.deepEqual(await writtenBy(), before, 'what was there was not written again');
  });

  it('goes on where it was killed, into a data folder', async () => {
    const dataDir = await folderOf('to-be-copied', many(6000));
    const url = await postgres.freshDatabase();
    const there = await finished(dataDir, url);
    const target = path.join(folder, 'from-killed');
    const unfinished = path.join(target, 'migrating.sqlite');
    const count = (): number => {
      if (!existsSync(unfinished)) return 0;
      const db = new Sqlite(unfinished, { readonly: true });
      try {
        return db.prepare('SELECT count(*) FROM documents').pluck().get() as number;
      } finally {
        db.close();
      }
    };
    for (const at of [300, 2000, 2000]) {
      const before = count();
      await killed(url, target, at);
      const stored = count() - before;
      assert.ok(stored > at - 300 && stored < at, `${stored} before document ${at}`);
    }
    await assert.rejects(openFolder(target), isUserError('not-ready', 'is not finished'));
    const { ino } = await stat(unfinished);
    const back = await finished(url, target);
    assert.equal((await stat(databaseFile(target))).ino, ino, 'what was there was used');
    assert.deepEqual(back.target, there.source);
  });

  it('copies a folder that is written to, then what was written, and finishes when nobody writes', async () => {
    const dataDir = path.join(folder, 'written');
    const child = spawn(process.execPath, [writer, dataDir, '1'], { stdio: ['ignore', 'pipe', 'inherit'] });
    running.add(child);
    const lines = createInterface({ input: child.stdout });
    for (let acknowledged = 0; acknowledged < 200;) {
      const [line] = (await once(lines, 'line')) as [string];
      if (line.startsWith('ack')) acknowledged++;
    }
    const url = await postgres.freshDatabase();
    for (let i = 0; i < 2; i++) {
      const { code, stdout, stderr } = await migrate(dataDir, url);
      assert.equal(code, 1);
      assert.match(stderr, /a server has it open and may write\. Stop that one and run this again/);
      const report = JSON.parse(stdout) as TransferReport;
      assert.deepEqual([report.isEqual, report.isFinished], [true, false]);
      await assert.rejects(openPostgres(url), isUserError('not-ready'));
    }
    child.kill('SIGKILL');
    await once(child, 'close');
    await finished(dataDir, url);
    const [there, here] = [await openPostgres(url), await openFolder(dataDir)];
    const all = await here.list({ limit: 1000 });
    assert.ok(all.length > 100);
    assert.deepEqual(await there.list({ limit: 1000 }), all);
    await Promise.all([there.close(), here.close()]);
  });

  it('follows a database that is served, through an activation, and finishes when no server has it', async () => {
    const url = await postgres.freshDatabase();
    const served = await openPostgres(url);
    await served.upsert(many(50));
    const target = path.join(folder, 'from-served');
    const unfinished = /^error: postgres:.* a server has it open/m;
    await fails(url, target, unfinished);
    for (const seed of ['b', 'c'])
      await served.activate(await served.prepare({ inference: fakeInference({ seed }) }));
    await served.upsert([{ id: 'd1', text: 'another' }, ...many(60).slice(50)]);
    await served.delete('d2');
    await fails(url, target, unfinished);
    await served.close();
    const { target: parts } = await finished(url, target);
    assert.deepEqual(
      parts.slice(0, 3).map(({ part, count }) => [part, count]),
      [
        ['documents', 59],
        ['vectors of fake-b (retired)', 59],
        ['vectors of fake-c (live)', 59],
      ],
    );
    assert.deepEqual(inspect(databaseFile(target)).problems, []);
  });

  it('does not finish while documents wait to be embedded', async () => {
    const url = await postgres.freshDatabase();
    const served = await openPostgres(url);
    await served.upsert(many(3));
    const target = path.join(folder, 'with-queue');
    const { id } = await served.ingests!.queue([many(5).slice(3)]);
    await served.close();
    await fails(
      url,
      target,
      /2 documents wait there to be embedded .*Let a worker embed them, or delete those that were given up, and run/,
    );
    const worker = await openPostgres(url);
    const work = await worker.ingests!.work();
    while ((await worker.ingests!.get(id))?.state !== 'done') await sleep(20);
    await work.close(30);
    await worker.close();
    assert.equal((await finished(url, target)).target[0].count, 5);
  });

  it('finds what is another text or vector on one side', async () => {
    const dataDir = await folderOf('to-be-compared', many(300));
    for (const change of [
      `UPDATE documents SET text = text || '.' WHERE key = 7`,
      `UPDATE vectors_1 SET vector = (SELECT vector FROM vectors_1 WHERE key = 8) WHERE key = 7`,
      `UPDATE documents SET metadata = '{"topic": "other"}' WHERE key = 7`,
    ]) {
      const url = await postgres.freshDatabase();
      const served = await openFolder(dataDir);
      await fails(dataDir, url, /a server has it open/);
      await served.close();
      await onConnection(url, (client) => client.query(change));
      const { code, stderr, stdout } = await migrate(dataDir, url);
      assert.match(stderr, /expected what .* holds, found something else/);
      assert.equal(code, 1);
      assert.equal((JSON.parse(stdout) as TransferReport).isFinished, false);
      await assert.rejects(openPostgres(url), isUserError('not-ready'));
    }
  });

  it('names a text that PostgreSQL can not hold, and goes on when it is gone', async () => {
    const dataDir = await folderOf('with-nul', [...many(3), { id: 'bad', text: 'a\u0000b' }]);
    const url = await postgres.freshDatabase();
    await fails(dataDir, url, /^error: document "bad": expected a text without the character U\+0000/m);
    const collection = await openFolder(dataDir);
    await collection.delete('bad');
    await collection.close();
    await finished(dataDir, url);
  });

  it('refuses a target that another migration or a server has open, and keeps servers off', async () => {
    const dataDir = await folderOf('wanted', many(3));
    const url = await postgres.freshDatabase();
    await withPostgresTarget(url, dataDir, async () => {
      await fails(dataDir, url, /another migration is at work on it, or servers have it open/);
      await assert.rejects(openPostgres(url), isUserError('not-ready'));
    });
    await finished(dataDir, url);
    const served = await openPostgres(url);
    await fails(dataDir, url, /servers have it open/);
    await served.close();

    const target = path.join(folder, 'wanted-too');
    await withFolderTarget(target, 'elsewhere', async () => {
      await fails(url, target, /in use by another sentence-jepa server, or by a migration/);
      await assert.rejects(openFolder(target), isUserError('unavailable', 'or by a migration'));
    });
  });

  it('refuses a target that holds something else', async () => {
    const dataDir = await folderOf('one', many(3));
    const other = await folderOf('two', many(4));
    const url = await postgres.freshDatabase();
    await finished(dataDir, url);
    const done = new RegExp(
      `holds a collection already, that of ${dataDir}: the migration from there is fin`,
    );
    await fails(dataDir, url, done);
    await fails(other, url, done);
    await fails(url, dataDir, /holds a collection already\. To migrate into it, name another folder/);
    const copy = path.join(folder, 'copy');
    await finished(url, copy);
    await fails(url, copy, /holds a collection already, that of postgres:.* is finished/);
    assert.equal(inspect(databaseFile(dataDir)).documents, 3);

    const empty = await postgres.freshDatabase();
    await (await openPostgres(empty)).close();
    await fails(dataDir, empty, /holds a collection already\. To migrate into it, name an empty database/);

    const begun = await postgres.freshDatabase();
    await withPostgresTarget(begun, dataDir, async () => undefined);
    await fails(
      other,
      begun,
      new RegExp(`holds an unfinished migration from ${dataDir}, and this one is from`),
    );
    const begunFolder = path.join(folder, 'begun');
    await withFolderTarget(begunFolder, dataDir, async () => undefined);
    await fails(url, begunFolder, /unfinished migration from .* or remove .*migrating\.sqlite\*/);
    await finished(dataDir, begunFolder);
  });

  it('says what is wrong with a command line or a source', async () => {
    const url = await postgres.freshDatabase();
    const dataDir = await folderOf('named', many(3));
    await fails(dataDir, dataDir, /--from and --to: expected two collections/, 2);
    await fails(dataDir, 'mysql://root:secret-of-the-test@localhost/x', /--to: expected postgres:\/\//, 2);
    await fails(path.join(folder, 'nowhere'), url, /expected a collection's database, found none/);
    await fails(url, path.join(folder, 'never'), /^error: postgres:.*expected a collection, found none/m);
    assert.ok(!existsSync(path.join(folder, 'never')));
    await fails(dataDir, `${url}-nowhere`, /no such database/);
    assert.deepEqual(
      await onConnection(url, async (client) => {
        const { rows } = await client.query(`SELECT tablename FROM pg_tables WHERE schemaname = 'public'`);
        return rows;
      }),
      [],
      'nothing was made in a source that is none',
    );
  });
});

async function readExample(name: string): Promise<Document[]> {
  const text = await readFile(path.join(projectRoot, 'examples', name, 'corpus.jsonl'), 'utf8');
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as { _id: string } & Document)
    .map(({ _id, text, metadata }) => ({ id: _id, text, metadata }));
}
