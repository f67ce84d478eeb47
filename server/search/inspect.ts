import { existsSync } from 'node:fs';

import type Database from 'better-sqlite3';

import { UserError } from '../../base/errors.js';
import { checkSchemaVersion, translated } from './schema.js';
import { Sqlite } from './sqlite.js';
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
 * Reads all of a database, as it is at one moment: SQLite's own check, and that documents and vectors belong together.
 *
 * @throws UserError as openForReading does
 */
export function inspect(file: string): Inspection {
  const db = openForReading(file);
  try {
    return translated(file, () => db.transaction(() => inspectNow(db))());
  } finally {
    db.close();
  }
}

function inspectNow(db: Database.Database): Inspection {
  const count = (sql: string): number => db.prepare(sql).pluck().get() as number;
  const problems = (db.prepare('PRAGMA integrity_check').pluck().all() as string[]).filter(
    (line) => line !== 'ok',
  );
  const generations = (db.prepare('SELECT * FROM generations ORDER BY id').all() as Generation[]).map(
    (generation) => {
      const { id, model, dimensions, state } = generation;
      const check = (found: number, what: string): void => {
        if (found > 0) problems.push(`${found} ${what} (${model}, generation ${id})`);
      };
      const vectors = `vectors_${id}`;
      check(
        count(`SELECT count(*) FROM ${vectors} WHERE key NOT IN (SELECT key FROM documents)`),
        'vectors belong to no document',
      );
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
    },
  );
  return {
    schema: db.pragma('user_version', { simple: true }) as number,
    documents: count('SELECT count(*) FROM documents'),
    generations,
    problems,
  };
}
