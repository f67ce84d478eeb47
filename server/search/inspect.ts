import { existsSync } from 'node:fs';

import type Database from 'better-sqlite3';

import { messageOf, UserError } from '../../base/errors.js';
import { Sqlite } from '../../base/sqlite.js';
import { isWholeDocument, isWholeVector, type CheckedDocument, type CheckedVector } from './checksums.js';
import { checkCommits, commitRecordFile, readCommitRecord } from './commit-record.js';
import { CHECKSUMS_SINCE, checkSchemaVersion, translated } from './schema.js';
import type { Generation } from './store.js';

/** What a database holds, and what is wrong with it. */
export interface Inspection {
  schema: number;
  documents: number;
  generations: (Generation & { vectors: number })[];
  /** Empty when it is whole. */
  problems: string[];
}

/**
 * Opens a collection's database beside whoever writes it.
 *
 * @throws UserError `not-found`, `corrupt`, `invalid` for a later version's
 */
export function openForReading(file: string): Database.Database {
  if (!existsSync(file))
    throw new UserError('not-found', `${file}: expected a collection's database, found none`);
  return translated(file, () => {
    const db = new Sqlite(file, { readonly: true });
    try {
      checkSchemaVersion(db, file);
      return db;
    } catch (error) {
      db.close();
      throw error;
    }
  });
}

/**
 * Reads all of a database, as it is at one moment: SQLite's own check, the rows' checksums, and that documents and
 * vectors belong together.
 *
 * @throws UserError as openForReading does; `corrupt` when answered commits are missing
 */
export function inspect(file: string): Inspection {
  const recorded = readCommitRecord(commitRecordFile(file));
  const db = openForReading(file);
  try {
    return translated(file, () => db.transaction(() => inspectNow(db, file, recorded))());
  } finally {
    db.close();
  }
}

function inspectNow(db: Database.Database, file: string, recorded: number): Inspection {
  const count = (sql: string): number => db.prepare(sql).pluck().get() as number;
  const schema = checkSchemaVersion(db, file);
  const hasChecksums = schema >= CHECKSUMS_SINCE;
  const problems = integrityProblems(db);
  if (hasChecksums) {
    checkCommits(file, recorded, count('SELECT count FROM commits'));
    problems.push(...damagedDocuments(db));
  }
  const all = db.prepare('SELECT * FROM generations ORDER BY id').all() as Generation[];
  const generations = all.map((generation) => {
    const { id, model, dimensions, state } = generation;
    const check = (found: number, what: string): void => {
      if (found > 0) problems.push(`${found} ${what} (${model}, generation ${id})`);
    };
    const vectors = `vectors_${id}`;
    if (hasChecksums) check(countDamagedVectors(db, generation), 'vectors are damaged');
    check(countOrphans(db, id), 'vectors belong to no document');
    check(
      count(`SELECT count(*) FROM ${vectors} WHERE length(vector) != ${4 * dimensions}`),
      `vectors have not ${dimensions} dimensions`,
    );
    if (state === 'live')
      check(
        count(`SELECT count(*) FROM documents WHERE key NOT IN (SELECT key FROM ${vectors})`),
        'documents have no vector',
      );
    return { ...generation, vectors: count(`SELECT count(*) FROM ${vectors}`) };
  });
  return {
    schema,
    documents: count('SELECT count(*) FROM documents'),
    generations,
    problems,
  };
}

/** Makes the index of words, which is derived, again where it does not match the texts. */
export function mendLexicon(db: Database.Database, log: (message: string) => void = () => undefined): void {
  try {
    db.exec(`INSERT INTO lexicon(lexicon, rank) VALUES ('integrity-check', 1)`);
  } catch (error) {
    log(`making the index of words again: ${messageOf(error)}`);
    db.exec(`INSERT INTO lexicon(lexicon) VALUES ('rebuild')`);
  }
}

/**
 * What a server checks before it serves a database whose index of words is mended: all of it but the vectors, which are
 * checked as they are loaded. It takes about as long as loading them.
 *
 * @throws UserError as openForReading does, `corrupt`
 */
export function checkAtStart(file: string): void {
  const db = openForReading(file);
  try {
    translated(file, () => {
      const problems = [...damagedDocuments(db), ...integrityProblems(db)];
      for (const id of db.prepare('SELECT id FROM generations').pluck().all() as number[]) {
        const orphans = countOrphans(db, id);
        if (orphans > 0) problems.push(`${orphans} vectors belong to no document`);
      }
      refuseProblems(file, problems);
    });
  } finally {
    db.close();
  }
}

/** @throws UserError `corrupt` where there are problems */
export function refuseProblems(file: string, problems: readonly string[]): void {
  if (problems.length > 0)
    throw new UserError(
      'corrupt',
      `${file}: damaged: ${problems.slice(0, 5).join('; ')}. Restore it from a backup`,
    );
}

function integrityProblems(db: Database.Database): string[] {
  return (db.prepare('PRAGMA integrity_check').pluck().all() as string[]).filter((line) => line !== 'ok');
}

function damagedDocuments(db: Database.Database): string[] {
  const problems: string[] = [];
  const rows = db.prepare('SELECT id, text, metadata, checksum FROM documents').iterate();
  for (const row of rows as Iterable<CheckedDocument>)
    if (!isWholeDocument(row)) problems.push(`document ${JSON.stringify(row.id)} is damaged`);
  return problems;
}

function countOrphans(db: Database.Database, generation: number): number {
  return db
    .prepare(`SELECT count(*) FROM vectors_${generation} WHERE key NOT IN (SELECT key FROM documents)`)
    .pluck()
    .get() as number;
}

function countDamagedVectors(db: Database.Database, { id, dimensions }: Generation): number {
  let damaged = 0;
  const rows = db.prepare(`SELECT key, vector, checksum FROM vectors_${id}`).iterate();
  for (const row of rows as Iterable<CheckedVector>) if (!isWholeVector(row, dimensions)) damaged++;
  return damaged;
}
