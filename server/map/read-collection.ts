import type Database from 'better-sqlite3';

import { checkDocument, checkVector, type CheckedDocument, type CheckedVector } from '../search/checksums.js';
import { Sqlite } from '../../base/sqlite.js';
import { databaseFile, fromBlob } from '../search/store.js';

export interface CollectionState {
  documents: number;
  /** The greatest key; keys only grow, and a document that is replaced gets another one. */
  lastKey: number;
}

/** Reads a collection beside the server's own threads, each time as it is at that moment. */
export class CollectionReader {
  private readonly file: string;
  private readonly db: Database.Database;

  constructor(dataDir: string) {
    this.file = databaseFile(dataDir);
    this.db = new Sqlite(this.file, { readonly: true });
  }

  state(): CollectionState {
    return this.db
      .prepare('SELECT count(*) AS documents, coalesce(max(key), 0) AS lastKey FROM documents')
      .get() as CollectionState;
  }

  /** How many documents came, or were replaced, after a key. */
  countAfter(key: number): number {
    return this.db.prepare('SELECT count(*) FROM documents WHERE key > ?').pluck().get(key) as number;
  }

  *documents(): Generator<CheckedDocument & { key: number }> {
    const rows = this.db.prepare('SELECT * FROM documents ORDER BY key').iterate();
    for (const row of rows as Iterable<CheckedDocument & { key: number }>) {
      checkDocument(this.file, row);
      yield row;
    }
  }

  /**
   * Vectors of a generation with their texts, evenly spread when there are more than `most`.
   *
   * @returns vectors n x d, row-major; keys rising
   * @throws UserError `corrupt`
   */
  points(
    { id, dimensions }: { id: number; dimensions: number },
    most: number,
  ): { keys: number[]; texts: string[]; vectors: Float32Array } {
    const all = this.db
      .prepare(`SELECT key FROM vectors_${id} JOIN documents USING (key) ORDER BY key`)
      .pluck()
      .all() as number[];
    const n = Math.min(most, all.length);
    const wanted = Array.from({ length: n }, (_, i) => all[Math.floor((i * all.length) / n)]);
    const vectors = new Float32Array(n * dimensions);
    const ofVector = this.db.prepare(`SELECT key, vector, checksum FROM vectors_${id} WHERE key = ?`);
    const ofDocument = this.db.prepare('SELECT * FROM documents WHERE key = ?');
    const keys: number[] = [];
    const texts: string[] = [];
    for (const key of wanted) {
      const row = ofVector.get(key) as (CheckedVector & { vector: Buffer }) | undefined;
      const document = ofDocument.get(key) as CheckedDocument | undefined;
      // Deleted meanwhile.
      if (!row || !document) continue;
      checkVector(this.file, row, dimensions);
      checkDocument(this.file, document);
      vectors.set(fromBlob(row.vector), keys.length * dimensions);
      keys.push(key);
      texts.push(document.text);
    }
    return { keys, texts, vectors: vectors.subarray(0, keys.length * dimensions) };
  }

  close(): void {
    this.db.close();
  }
}
