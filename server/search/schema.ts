import { existsSync } from 'node:fs';

import type Database from 'better-sqlite3';

import { messageOf, UserError } from '../../base/errors.js';
import { Sqlite } from '../../base/sqlite.js';
import { documentChecksum, vectorChecksum } from './checksums.js';

/**
 * One entry a schema version; `user_version` counts how many a file has had. Entries are never edited
 * once released: a change is another entry.
 *
 * A document's `key` names one version of it: replacing a document gives it another key, and keys are
 * never used twice (AUTOINCREMENT). So (generation, key) -> vector never changes, keys grow in the order
 * of the writes, and whatever is derived from the table catches up by comparing keys.
 */
const migrations: (string | ((db: Database.Database) => void))[] = [
  `CREATE TABLE documents (
     key INTEGER PRIMARY KEY AUTOINCREMENT,
     id TEXT NOT NULL UNIQUE,
     text TEXT NOT NULL,
     metadata TEXT
   ) STRICT;

   CREATE VIRTUAL TABLE lexicon USING fts5(
     text, content='documents', content_rowid='key', tokenize='unicode61'
   );
   CREATE TRIGGER documents_inserted AFTER INSERT ON documents BEGIN
     INSERT INTO lexicon(rowid, text) VALUES (new.key, new.text);
   END;
   CREATE TRIGGER documents_deleted AFTER DELETE ON documents BEGIN
     INSERT INTO lexicon(lexicon, rowid, text) VALUES ('delete', old.key, old.text);
   END;

   CREATE TABLE generations (
     id INTEGER PRIMARY KEY AUTOINCREMENT,
     model TEXT NOT NULL,
     fingerprint TEXT NOT NULL UNIQUE,
     dimensions INTEGER NOT NULL,
     state TEXT NOT NULL CHECK (state IN ('building', 'live', 'retired')),
     created TEXT NOT NULL
   ) STRICT;
   CREATE UNIQUE INDEX one_live_generation ON generations(state) WHERE state = 'live';`,

  // Where a generation's model is opened from: \`source\` as --model said it, or the training job that made it.
  `ALTER TABLE generations ADD COLUMN source TEXT;
   ALTER TABLE generations ADD COLUMN job INTEGER;

   CREATE TABLE jobs (
     id INTEGER PRIMARY KEY AUTOINCREMENT,
     request TEXT NOT NULL,
     changes INTEGER NOT NULL,
     state TEXT NOT NULL,
     created TEXT NOT NULL,
     started TEXT,
     ended TEXT,
     error TEXT,
     verdict TEXT
   ) STRICT;

   CREATE TABLE feedback (
     query TEXT NOT NULL,
     document TEXT NOT NULL,
     relevant INTEGER NOT NULL,
     part TEXT NOT NULL CHECK (part IN ('train', 'dev', 'test')),
     created TEXT NOT NULL,
     PRIMARY KEY (query, document)
   ) STRICT, WITHOUT ROWID;`,

  function addChecksums(db) {
    db.function('document_checksum', (id, text, metadata) =>
      documentChecksum({ id, text, metadata } as Parameters<typeof documentChecksum>[0]),
    );
    db.function('vector_checksum', (key, vector) => vectorChecksum(key as number, vector as Buffer));
    db.exec(
      `ALTER TABLE documents ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
       UPDATE documents SET checksum = document_checksum(id, text, metadata);
       CREATE TABLE commits (count INTEGER NOT NULL) STRICT;
       INSERT INTO commits VALUES (0);`,
    );
    for (const id of db.prepare('SELECT id FROM generations').pluck().all() as number[])
      db.exec(
        `ALTER TABLE vectors_${id} ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
         UPDATE vectors_${id} SET checksum = vector_checksum(key, vector);`,
      );
  },
];

/** The version that a file has when it was opened for writing. */
export const SCHEMA_VERSION = migrations.length;

/** The first version whose rows have checksums. */
export const CHECKSUMS_SINCE = 3;

/**
 * Opens the database for its one writer, made or migrated as needed.
 *
 * @throws UserError `invalid` for the schema of a later version, `corrupt` for a file that is no database
 */
export function openForWriting(file: string): Database.Database {
  return translated(file, () => {
    const isThere = existsSync(file);
    const db = new Sqlite(file);
    try {
      // Vectors are 1.5 KB and more: on 4 KB pages a quarter of the file would be gaps.
      if (!isThere) db.pragma('page_size = 16384');
      db.pragma('journal_mode = WAL');
      // An answered write survives a power cut, not only a crash of the process.
      db.pragma('synchronous = FULL');
      migrate(db, file);
      return db;
    } catch (error) {
      db.close();
      throw error;
    }
  });
}

function migrate(db: Database.Database, file: string): void {
  const version = checkSchemaVersion(db, file);
  db.transaction(() => {
    for (const migration of migrations.slice(version))
      if (typeof migration === 'string') db.exec(migration);
      else migration(db);
    db.pragma(`user_version = ${migrations.length}`);
  }).immediate();
}

/** @throws UserError `invalid` for a later version's */
export function checkSchemaVersion(db: Database.Database, file: string): number {
  const version = db.pragma('user_version', { simple: true }) as number;
  if (version < 0)
    throw new UserError('corrupt', `${file}: damaged: schema ${version}. Restore it from a backup`);
  if (version > migrations.length)
    throw new UserError(
      'invalid',
      `${file}: written by a later version of sentence-jepa (schema ${version}, this one knows up to ${migrations.length}). Update sentence-jepa, or name another --data-dir`,
    );
  return version;
}

/** Runs something on the database; SQLite's errors become ones that say what to do. */
export function translated<T>(file: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    // The statements are fixed: what they name is missing when the schema is damaged.
    if ((error as { code?: string }).code === 'SQLITE_ERROR') throw corrupt(file, error);
    throw sqliteError(file, error);
  }
}

/** No statement of ours breaks a constraint, unless an index or a table lacks what it held. */
const DAMAGES = ['SQLITE_NOTADB', 'SQLITE_CORRUPT', 'SQLITE_CONSTRAINT', 'SQLITE_IOERR_SHORT_READ'];

/** SQLite's error as one that says what to do; any other as it is. */
export function sqliteError(file: string, error: unknown): unknown {
  const code = (error as { code?: string }).code ?? '';
  if (code === 'SQLITE_FULL' || code === 'SQLITE_IOERR_WRITE' || code === 'SQLITE_IOERR_SHMSIZE')
    return new UserError(
      'unavailable',
      `${file}: the disk is full; nothing of this write was stored. Free some space and send it again`,
      { cause: error },
    );
  if (DAMAGES.some((damage) => code.startsWith(damage))) return corrupt(file, error);
  if (code === 'SQLITE_CANTOPEN' || code.startsWith('SQLITE_READONLY') || code === 'SQLITE_PERM')
    return new UserError('unavailable', `${file}: no permission to write it`, { cause: error });
  return error;
}

function corrupt(file: string, cause: unknown): UserError {
  return new UserError(
    'corrupt',
    `${file}: not a SQLite database, or damaged (${messageOf(cause)}). Restore it from a backup, or name another --data-dir`,
    { cause },
  );
}
