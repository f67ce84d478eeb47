import { existsSync } from 'node:fs';
import { mkdir, open, rename } from 'node:fs/promises';
import path from 'node:path';

import type Database from 'better-sqlite3';

import { UserError } from '../../base/errors.js';
import { fileError, fsyncFolder, readJson, writeFileAtomic } from '../../base/files.js';
import {
  tableOf,
  type Keyed,
  type KeptFeedback,
  type KeptJob,
  type KeyedDocument,
  type LastKeys,
  type StoreReader,
  type StoreWriter,
  type TransferSource,
  type TransferTarget,
} from '../transfer/stores.js';
import { checkTarget } from '../transfer/transfer.js';
import { removeDerived } from './backup.js';
import { checkVector, documentChecksum, vectorChecksum, type CheckedVector } from './checksums.js';
import { checkCommits, commitRecordFile, readCommitRecord } from './commit-record.js';
import type { Feedback } from './feedback-table.js';
import { openForReading } from './inspect.js';
import { lockFolder, tryLockFolder } from './lock.js';
import { checkSchemaVersion, openForWriting, SCHEMA_VERSION, translated } from './schema.js';
import {
  databaseFile,
  fromBlob,
  toBlob,
  toDocument,
  vectorsTableSql,
  type DocumentRow,
  type Generation,
} from './store.js';
import { unfinishedFile } from './unfinished.js';
import { checkFits, type KeyedVector } from './vectors.js';

/** Where the collection comes from: `{"source", "begun"}`. */
const RECORD = 'migrated-from.json';

/**
 * The collection of a data folder, for as long as `use` runs.
 *
 * @throws UserError `not-found`, `corrupt`, `invalid` for another version's; `unavailable` where it can't be locked
 */
export async function withFolderSource<T>(
  dataDir: string,
  use: (source: TransferSource) => Promise<T>,
): Promise<T> {
  const file = databaseFile(dataDir);
  let unlock: (() => void) | undefined;
  openForReading(file).close();
  try {
    return await use({
      name: path.resolve(dataDir),
      async hold() {
        unlock ??= tryLockFolder(dataDir);
        return unlock !== undefined;
      },
      async snapshot(look) {
        const recorded = readCommitRecord(commitRecordFile(file));
        const db = openForReading(file);
        try {
          if (checkSchemaVersion(db, file) < SCHEMA_VERSION)
            throw new UserError(
              'invalid',
              `${file}: written by an earlier version of sentence-jepa. Start this version's server on it once, which brings it up to date`,
            );
          // A transaction that is open for the whole time holds the moment; it begins with what it reads first.
          translated(file, () => {
            db.exec('BEGIN');
            checkCommits(file, recorded, db.prepare('SELECT count FROM commits').pluck().get() as number);
          });
          return await look(new FolderReader(db, file));
        } finally {
          db.close();
        }
      },
    });
  } finally {
    unlock?.();
  }
}

/**
 * A data folder that becomes the collection of `source`, locked for as long as `use` runs. What is written lies in a database of
 * another name until it is whole.
 *
 * @throws UserError `exists` when it holds a collection, or an unfinished one from elsewhere; `unavailable` when a server or
 *   another migration has it
 */
export async function withFolderTarget<T>(
  dataDir: string,
  source: string,
  use: (target: TransferTarget) => Promise<T>,
): Promise<T> {
  const file = databaseFile(dataDir);
  const unfinished = unfinishedFile(dataDir);
  const record = path.join(dataDir, RECORD);
  await mkdir(dataDir, { recursive: true }).catch((error: unknown) => {
    throw fileError(error, dataDir, 'write');
  });
  const unlock = lockFolder(dataDir);
  try {
    const holdsCollection = existsSync(file);
    const isBegun = existsSync(unfinished);
    checkTarget(path.resolve(dataDir), source, {
      holdsCollection,
      ...(existsSync(record) &&
        (isBegun || holdsCollection) && {
          record: {
            source: (await readJson<{ source: string }>(record)).source,
            isFinished: holdsCollection,
          },
        }),
      wayOut: isBegun ? `remove ${unfinished}*` : 'name another folder',
    });
    if (!isBegun)
      await writeFileAtomic(record, JSON.stringify({ source, begun: new Date().toISOString() }) + '\n');
    const db = openForWriting(unfinished);
    try {
      return await use({
        name: path.resolve(dataDir),
        store: new FolderWriter(db, unfinished),
        async finish() {
          // One file, which is renamed as one. A server makes it WAL again.
          translated(unfinished, () => db.pragma('journal_mode = DELETE'));
          db.close();
          const handle = await open(unfinished, 'r');
          await handle.sync().finally(() => handle.close());
          await removeDerived(dataDir);
          await rename(unfinished, file);
          await fsyncFolder(dataDir);
        },
      });
    } finally {
      db.close();
    }
  } finally {
    unlock();
  }
}

class FolderReader implements StoreReader {
  constructor(
    protected readonly db: Database.Database,
    protected readonly file: string,
  ) {}

  async generations(): Promise<Generation[]> {
    return this.all<Generation>('SELECT * FROM generations ORDER BY id');
  }

  async count(of: Keyed): Promise<number> {
    const [{ count }] = this.all<{ count: number }>(`SELECT count(*) AS count FROM ${tableOf(of)}`);
    return count;
  }

  async keys(of: Keyed, after: number, limit: number): Promise<number[]> {
    const sql = `SELECT key FROM ${tableOf(of)} WHERE key > ? ORDER BY key LIMIT ?`;
    return this.all<{ key: number }>(sql, after, limit).map(({ key }) => key);
  }

  async present(of: Keyed, keys: readonly number[]): Promise<number[]> {
    return this.ofKeys<{ key: number }>(`SELECT key FROM ${tableOf(of)}`, keys).map(({ key }) => key);
  }

  async documents(keys: readonly number[]): Promise<KeyedDocument[]> {
    return this.ofKeys<DocumentRow>('SELECT * FROM documents', keys).map((row) => ({
      key: row.key,
      ...toDocument(this.file, row),
    }));
  }

  async vectors({ id, dimensions }: Generation, keys: readonly number[]): Promise<KeyedVector[]> {
    const sql = `SELECT * FROM ${tableOf({ vectorsOf: id })}`;
    return this.ofKeys<CheckedVector & { vector: Buffer }>(sql, keys).map((row) => {
      checkVector(this.file, row, dimensions);
      return { key: row.key, vector: fromBlob(row.vector) };
    });
  }

  async feedback(after: Pick<Feedback, 'query' | 'id'>, limit: number): Promise<KeptFeedback[]> {
    const rows = this.all<Omit<KeptFeedback, 'relevant'> & { relevant: number }>(
      `SELECT query, document AS id, relevant, part, created FROM feedback
       WHERE (query, document) > (?, ?) ORDER BY query, document LIMIT ?`,
      ...[after.query, after.id, limit],
    );
    return rows.map((row) => ({ ...row, relevant: row.relevant === 1 }));
  }

  async jobs(): Promise<KeptJob[]> {
    return this.all<KeptJob>('SELECT * FROM jobs ORDER BY id');
  }

  async lastKeys(): Promise<LastKeys> {
    const rows = this.all<{ name: keyof LastKeys; seq: number }>('SELECT name, seq FROM sqlite_sequence');
    const last = new Map(rows.map(({ name, seq }) => [name, seq]));
    const of = (name: keyof LastKeys): number => last.get(name) ?? 0;
    return { documents: of('documents'), generations: of('generations'), jobs: of('jobs') };
  }

  /** None: a folder's server answers when they are embedded. */
  async waiting(): Promise<number> {
    return 0;
  }

  protected all<T>(sql: string, ...values: readonly unknown[]): T[] {
    return translated(this.file, () => this.db.prepare(sql).all(...values) as T[]);
  }

  private ofKeys<T>(select: string, keys: readonly number[]): T[] {
    const sql = `${select} WHERE key IN (SELECT value FROM json_each(?)) ORDER BY key`;
    return this.all<T>(sql, JSON.stringify(keys));
  }
}

class FolderWriter extends FolderReader implements StoreWriter {
  checkRoom(generations: readonly Generation[], vectors: number): void {
    for (const { dimensions } of generations) checkFits(vectors, dimensions);
  }

  async setGenerations(generations: readonly Generation[]): Promise<void> {
    const there = new Set((await this.generations()).map(({ id }) => id));
    const wanted = new Set(generations.map(({ id }) => id));
    this.transaction(() => {
      for (const id of there)
        if (!wanted.has(id)) {
          this.run('DELETE FROM generations WHERE id = ?', id);
          this.db.exec(`DROP TABLE ${tableOf({ vectorsOf: id })}`);
        }
      // There is never more than one live.
      this.run(`UPDATE generations SET state = 'retired'`);
      for (const { id, model, fingerprint, dimensions, state, source, job, created } of generations) {
        if (!there.has(id)) this.db.exec(vectorsTableSql(id));
        this.run(
          `INSERT OR REPLACE INTO generations(id, model, fingerprint, dimensions, state, source, job, created)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
          ...[id, model, fingerprint, dimensions, state, source, job, created],
        );
      }
    });
  }

  async addDocuments(documents: readonly KeyedDocument[]): Promise<void> {
    this.transaction(() => {
      for (const { key, id, text, metadata } of documents) {
        const row = { id, text, metadata: metadata ? JSON.stringify(metadata) : null };
        this.run(
          'INSERT INTO documents(key, id, text, metadata, checksum) VALUES (?, ?, ?, ?, ?)',
          ...[key, id, text, row.metadata, documentChecksum(row)],
        );
      }
    });
  }

  async removeDocuments(keys: readonly number[]): Promise<void> {
    const generations = await this.generations();
    this.transaction(() => {
      for (const of of ['documents', ...generations.map(({ id }) => ({ vectorsOf: id }))] as Keyed[])
        for (const key of keys) this.run(`DELETE FROM ${tableOf(of)} WHERE key = ?`, key);
    });
  }

  async addVectors({ id }: Generation, vectors: readonly KeyedVector[]): Promise<void> {
    const sql = `INSERT INTO ${tableOf({ vectorsOf: id })}(key, vector, checksum) VALUES (?, ?, ?)`;
    this.transaction(() => {
      for (const { key, vector } of vectors) {
        const blob = toBlob(vector);
        this.run(sql, key, blob, vectorChecksum(key, blob));
      }
    });
  }

  async replaceFeedback(pages: AsyncIterable<readonly KeptFeedback[]>): Promise<void> {
    this.run('BEGIN IMMEDIATE');
    this.run('DELETE FROM feedback');
    for await (const page of pages)
      for (const { query, id, relevant, part, created } of page)
        this.run(
          'INSERT INTO feedback(query, document, relevant, part, created) VALUES (?, ?, ?, ?, ?)',
          ...[query, id, Number(relevant), part, created],
        );
    this.run('COMMIT');
  }

  async replaceJobs(jobs: readonly KeptJob[]): Promise<void> {
    this.transaction(() => {
      this.run('DELETE FROM jobs');
      for (const { id, request, changes, state, created, started, ended, error, verdict } of jobs)
        this.run(
          `INSERT INTO jobs(id, request, changes, state, created, started, ended, error, verdict)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
          ...[id, request, changes, state, created, started, ended, error, verdict],
        );
    });
  }

  async setLastKeys(keys: LastKeys): Promise<void> {
    this.transaction(() => {
      for (const [name, seq] of Object.entries(keys)) {
        this.run('DELETE FROM sqlite_sequence WHERE name = ?', name);
        this.run('INSERT INTO sqlite_sequence(name, seq) VALUES (?, ?)', name, seq);
      }
    });
  }

  private transaction(work: () => void): void {
    translated(this.file, () => this.db.transaction(work).immediate());
  }

  private run(sql: string, ...values: readonly unknown[]): void {
    translated(this.file, () => this.prepared(sql).run(...values));
  }

  private readonly statements = new Map<string, Database.Statement>();

  private prepared(sql: string): Database.Statement {
    const statement = this.statements.get(sql) ?? this.db.prepare(sql);
    this.statements.set(sql, statement);
    return statement;
  }
}
