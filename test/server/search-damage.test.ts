import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { appendFile, cp, mkdtemp, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

import type { Collection } from '../../server/search/collection.js';
import { inspect } from '../../server/search/inspect.js';
import { openCollection } from '../../server/search/open-collection.js';
import { SCHEMA_VERSION } from '../../server/search/schema.js';
import { Sqlite } from '../../base/sqlite.js';
import { databaseFile } from '../../server/search/store.js';
import { fakeInference } from './fake-inference.js';

const writer = fileURLToPath(new URL('./search-writer.js', import.meta.url));

describe('a damaged collection', () => {
  let folder: string;
  /** Closed in order: all of it is in the database. */
  let whole: string;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'sentence-jepa-damage-'));
    whole = path.join(folder, 'whole');
    const collection = await open(whole);
    await collection.upsert(
      Array.from({ length: 300 }, (_, i) => ({
        id: `d${i}`,
        text: `question number${i}`,
        metadata: { votes: i },
      })),
    );
    await collection.close();
  });
  after(() => rm(folder, { recursive: true, force: true }));

  const open = (dataDir: string, log?: (line: string) => void): Promise<Collection> =>
    openCollection({ dataDir, inference: fakeInference(), exactUpTo: 100, log });

  async function copy(name: string): Promise<string> {
    const dataDir = path.join(folder, name);
    await cp(whole, dataDir, { recursive: true });
    return dataDir;
  }

  /** Changes bytes of the file, of equal length, everywhere. */
  async function replaceBytes(file: string, from: string | Buffer, to: string | Buffer): Promise<void> {
    const bytes = await readFile(file);
    let found = 0;
    for (let at = bytes.indexOf(from); at >= 0; at = bytes.indexOf(from, at + 1), found++)
      Buffer.from(to).copy(bytes, at);
    assert.ok(found > 0, 'the bytes are there');
    await writeFile(file, bytes);
  }

  it('is refused for a text that changed, which SQLite itself does not notice', async () => {
    const dataDir = await copy('text');
    await replaceBytes(databaseFile(dataDir), 'question number42', 'question numbEr42');
    const db = new Sqlite(databaseFile(dataDir), { readonly: true });
    assert.equal(db.pragma('integrity_check', { simple: true }), 'ok');
    db.close();
    assert.deepEqual(inspect(databaseFile(dataDir)).problems, ['document "d42" is damaged']);
    await assert.rejects(open(dataDir), { kind: 'corrupt', message: /document "d42" is damaged.*backup/ });
  });

  it('is refused for a vector that changed', async () => {
    const dataDir = await copy('vector');
    const file = databaseFile(dataDir);
    const db = new Sqlite(file, { readonly: true });
    const vector = db.prepare('SELECT vector FROM vectors_1 WHERE key = 7').pluck().get() as Buffer;
    db.close();
    const changed = Buffer.from(vector);
    changed[5] ^= 4;
    await replaceBytes(file, vector, changed);
    assert.match(inspect(file).problems.join(), /^1 vectors are damaged/);
    await assert.rejects(open(dataDir), { kind: 'corrupt', message: /vector of key 7 is damaged.*backup/ });
  });

  it('gives no text that changed while it is open', async () => {
    const dataDir = await copy('open');
    const collection = await open(dataDir);
    try {
      const db = new Sqlite(databaseFile(dataDir));
      db.exec(`UPDATE documents SET text = 'question number0' WHERE id = 'd9'`);
      db.close();
      const damaged = { kind: 'corrupt', message: /document "d9" is damaged/ };
      await assert.rejects(collection.get('d9'), damaged);
      await assert.rejects(collection.list({ after: 'd89', limit: 5 }), damaged);
      const search = { query: 'question number9', k: 1, mode: 'dense' } as const;
      await assert.rejects(collection.search(search), damaged);
      assert.equal((await collection.get('d8'))?.text, 'question number8');
    } finally {
      await collection.close();
    }
  });

  it('gets its index of words again', async () => {
    const dataDir = await copy('lexicon');
    const db = new Sqlite(databaseFile(dataDir));
    db.exec(`INSERT INTO lexicon(lexicon) VALUES ('delete-all')`);
    db.close();
    const lines: string[] = [];
    const collection = await open(dataDir, (line) => lines.push(line));
    assert.match(lines.join(), /making the index of words again/);
    const [hit] = await collection.search({ query: 'number17', k: 1, mode: 'lexical' });
    assert.equal(hit.id, 'd17');
    await collection.close();
  });

  it('is refused when its write-ahead log is cut off, damaged or gone', async () => {
    const dataDir = path.join(folder, 'killed');
    // Some writes on, SQLite would have moved the log's into the database, and have begun it again.
    const { signal } = spawnSync(process.execPath, [writer, dataDir, '1', 'write', 'ack', '20']);
    assert.equal(signal, 'SIGKILL');
    const log = (dir: string): string => `${databaseFile(dir)}-wal`;
    const { size } = await stat(log(dataDir));
    const cases: [name: string, damage: (dir: string) => Promise<unknown>][] = [
      ['half', (dir) => truncate(log(dir), size / 2)],
      ['gone', (dir) => rm(log(dir))],
      [
        'flipped',
        async (dir) => {
          const bytes = await readFile(log(dir));
          bytes[Math.floor(size / 3)] ^= 1;
          await writeFile(log(dir), bytes);
        },
      ],
    ];
    for (const [name, damage] of cases) {
      const dir = path.join(folder, `log-${name}`);
      await cp(dataDir, dir, { recursive: true });
      await damage(dir);
      const refusal = { kind: 'corrupt', message: /last \d+ commits that were answered.*backup, or remove/ };
      await assert.rejects(open(dir), refusal, name);
      // With the record out of the way it goes on without them.
      await rm(path.join(dir, 'collection.commits'));
      await (await open(dir)).close();
    }
    // What follows the log's end is nothing that was answered.
    await appendFile(log(dataDir), Buffer.alloc(5000, 7));
    await (await open(dataDir)).close();
  });

  it('is refused, never half read, for a schema that changed', async () => {
    for (const sql of [
      'PRAGMA user_version = 0',
      'PRAGMA user_version = -1',
      'UPDATE generations SET dimensions = 17',
      'UPDATE generations SET id = 5',
      'DELETE FROM documents WHERE key = 3',
      'DROP TABLE commits',
    ]) {
      const dataDir = await copy(`schema ${sql.slice(0, 24)} ${sql.length}`);
      const db = new Sqlite(databaseFile(dataDir));
      db.exec(sql);
      db.close();
      await assert.rejects(open(dataDir), { kind: 'corrupt' }, sql);
    }
  });

  it('of an earlier version gets its checksums when it is opened', async () => {
    const dataDir = await copy('earlier');
    const file = databaseFile(dataDir);
    const db = new Sqlite(file);
    db.exec(
      `DROP TABLE commits; ALTER TABLE documents DROP COLUMN checksum; ALTER TABLE vectors_1 DROP COLUMN checksum;
       PRAGMA user_version = 2`,
    );
    db.close();
    await rm(path.join(dataDir, 'collection.commits'));
    assert.deepEqual(inspect(file).problems, []);
    const collection = await open(dataDir);
    const [hit] = await collection.search({ query: 'question number5', k: 1, mode: 'dense' });
    assert.deepEqual([hit.id, hit.metadata], ['d5', { votes: 5 }]);
    await collection.close();
    const { schema, problems, documents } = inspect(file);
    assert.deepEqual([schema, problems, documents], [SCHEMA_VERSION, [], 300]);
    await replaceBytes(file, 'question number42', 'question numbEr42');
    assert.deepEqual(inspect(file).problems, ['document "d42" is damaged']);
  });
});
