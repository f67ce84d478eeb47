import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it, mock } from 'node:test';

import type Database from 'better-sqlite3';

import { UserError } from '../../base/errors.js';
import type { Collection } from '../../server/search/collection.js';
import { SearchEngine } from '../../server/search/engine.js';
import { Sqlite } from '../../base/sqlite.js';
import { openCollection, type CollectionOptions } from '../../server/search/open-collection.js';
import { Store, type EmbeddedDocument } from '../../server/search/store.js';
import { VectorTable } from '../../server/search/vectors.js';
import { collectionSuite, isUserError } from './collection-suite.js';
import { fakeInference, wordVector } from './fake-inference.js';

let folder: string;
let count = 0;
const opened: Collection[] = [];
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'sentence-jepa-collection-'));
});
after(async () => {
  await Promise.all(opened.map((collection) => collection.close().catch(() => undefined)));
  await rm(folder, { recursive: true, force: true });
});

function freshFolder(): string {
  return path.join(folder, String(count++));
}

async function open(options: Partial<CollectionOptions> = {}): Promise<Collection> {
  const collection = await openCollection({
    dataDir: freshFolder(),
    inference: fakeInference(),
    ...options,
  });
  opened.push(collection);
  return collection;
}

collectionSuite({
  fresh: async () => freshFolder(),
  open: (dataDir, options) => openCollection({ dataDir, ...options }),
});

describe('the recall', () => {
  it('of the graph is measured on what is asked, and shown', async () => {
    const collection = await open({ exactUpTo: 50 });
    const documents = Array.from({ length: 200 }, (_, i) => ({
      id: `d${i}`,
      text: `topic${i % 40} part${i}`,
    }));
    await collection.upsert(documents);
    assert.equal(collection.info().index.recallAt10, undefined);
    for (let i = 0; collection.info().index.recallAt10 === undefined; i++)
      await collection.search({ query: `topic${i % 40} part${i % 7}`, k: 3, mode: 'dense' });
    const { kind, recallAt10 } = collection.info().index;
    assert.equal(kind, 'hnsw');
    assert.ok(recallAt10! >= 0.98 && recallAt10! <= 1);
  });

  it('of 1 is exact search', async () => {
    const collection = await open({ exactUpTo: 5, recall: 1 });
    await collection.upsert(Array.from({ length: 20 }, (_, i) => ({ id: `d${i}`, text: `part${i}` })));
    const { kind, building } = collection.info().index;
    assert.deepEqual([kind, building], ['exact', false]);
  });
});

describe('a full disk', () => {
  it('refuses the write as a whole, and goes on when there is room again', async () => {
    const store = new Store(path.join(folder, 'full.sqlite'));
    const generation = store.createGeneration({ name: 'm', fingerprint: 'f', dimensions: 64 });
    const document = (i: number): EmbeddedDocument => ({
      id: String(i),
      text: `text ${i}`,
      vector: new Float32Array(64),
    });
    store.write(generation.id, [{ put: [document(0)] }]);
    // A limit on the file's pages gives the error that a full disk gives.
    const { db } = store as unknown as { db: Database.Database };
    db.pragma(`max_page_count = ${(db.pragma('page_count', { simple: true }) as number) + 1}`);
    const many = Array.from({ length: 1000 }, (_, i) => document(i + 1));
    assert.throws(
      () => store.write(generation.id, [{ put: many }]),
      isUserError('unavailable', 'disk is full'),
    );
    assert.equal(store.keyOf('1'), undefined);
    db.pragma('max_page_count = 1000000');
    store.write(generation.id, [{ put: many }]);
    assert.notEqual(store.keyOf('1000'), undefined);
    store.close();
  });
});

describe('a full vector table', () => {
  const document = (id: string): EmbeddedDocument => ({ id, text: id, vector: wordVector(id, 16) });
  const model = (fingerprint: string) => ({ name: fingerprint, fingerprint, dimensions: 16 });
  let most = Infinity;
  let engine: SearchEngine;
  before(async () => {
    // In place of 4 GiB.
    mock.method(VectorTable.prototype, 'reserve', (rows: number) => {
      if (rows > most) throw new UserError('too-large', `expected at most ${most}`);
    });
    engine = await SearchEngine.open({ dataDir: freshFolder() });
    engine.choose(model('f'), false);
    await engine.activate();
  });
  after(async () => {
    await engine.close();
    mock.restoreAll();
  });

  it('refuses what is new before it is durable, and takes what replaces or follows a deletion', () => {
    most = 3;
    engine.write([{ put: ['a', 'b', 'c'].map(document) }]);
    assert.throws(() => engine.write([{ put: ['c', 'd'].map(document) }]), isUserError('too-large'));
    assert.equal(engine.store.keyOf('d'), undefined);
    assert.equal(engine.store.countDocuments(), 3);
    const search = {
      query: 'd',
      vector: document('d').vector,
      k: 9,
      mode: 'dense',
      lexicalWeight: 0,
    } as const;
    assert.equal(engine.search(search).length, 3);
    engine.write([{ put: [{ ...document('a'), text: 'another' }] }]);
    engine.write([{ remove: 'b' }, { put: [document('c')] }]);
    engine.write([{ put: [document('d')] }]);
    assert.equal(engine.search(search)[0].id, 'd');
  });

  it('refuses vectors beside the live ones before they are durable', async () => {
    const { id } = await engine.prepare(model('g'));
    const { documents } = engine.lacked(id, 10);
    const keys = documents.map(({ key }) => key);
    const vectors = Float32Array.from(documents.flatMap(({ text }) => [...wordVector(text, 16)]));
    most = 2;
    assert.throws(() => engine.addMissing(keys, vectors, id), isUserError('too-large'));
    assert.equal(engine.store.countVectors(id), 0);
    assert.equal(engine.flip(id), false);
    most = 3;
    engine.addMissing(keys, vectors, id);
    assert.equal(engine.flip(id), true);
  });

  it('is said before a model of too many dimensions embeds anything', async () => {
    await assert.rejects(
      engine.prepare({ ...model('h'), dimensions: 2 ** 29 }),
      isUserError('too-large', 'at most 0 documents'),
    );
    assert.equal(engine.store.generations().length, 2);
  });
});

describe('a write that is refused', () => {
  it('takes none of those along that were to be committed with it', async () => {
    const dataDir = freshFolder();
    const collection = await open({ dataDir });
    const db = new Sqlite(path.join(dataDir, 'collection.sqlite'));
    db.exec(`CREATE TRIGGER refused BEFORE INSERT ON documents WHEN NEW.id = 'd7'
             BEGIN SELECT RAISE(ABORT, 'refused'); END`);
    db.close();
    const results = await Promise.allSettled(
      Array.from({ length: 20 }, (_, i) => collection.upsert([{ id: `d${i}`, text: `text ${i}` }])),
    );
    const refused = results.flatMap(({ status }, i) => (status === 'rejected' ? [i] : []));
    assert.deepEqual(refused, [7]);
    assert.equal(collection.info().documents, 19);
  });
});

describe('opening a folder', () => {
  it('refuses a folder that another server has open', async () => {
    const dataDir = freshFolder();
    await open({ dataDir });
    await assert.rejects(open({ dataDir }), isUserError('unavailable', 'in use by another'));
  });

  it('refuses the schema of a later version and a file that is no database', async () => {
    const dataDir = freshFolder();
    await (await open({ dataDir })).close();
    const file = path.join(dataDir, 'collection.sqlite');
    const db = new Sqlite(file);
    db.pragma('user_version = 99');
    db.close();
    await assert.rejects(open({ dataDir }), isUserError('invalid', 'schema 99'));
    await writeFile(file, 'no database, but long enough to be looked at\n'.repeat(100));
    await assert.rejects(open({ dataDir }), isUserError('corrupt', 'collection.sqlite'));
  });

  it('says what is wrong with a folder that can not be one', async () => {
    const file = path.join(folder, 'a-file');
    await writeFile(file, '');
    await assert.rejects(open({ dataDir: file }), isUserError('invalid', 'a-file', 'found a file'));
    await assert.rejects(open({ dataDir: path.join(file, 'below') }), isUserError('invalid', 'a-file'));
  });
});
