import path from 'node:path';

import type Database from 'better-sqlite3';

import type { Document, Metadata } from './collection.js';
import { ftsQuery } from './lexical.js';
import { openForWriting, translated } from './schema.js';
import { Sqlite } from './sqlite.js';
import type { Scored } from './vectors.js';

export interface Generation {
  id: number;
  model: string;
  fingerprint: string;
  dimensions: number;
  state: 'building' | 'live' | 'retired';
}

/** A document and its vector (length 1). */
export interface EmbeddedDocument extends Document {
  vector: Float32Array;
}

export type Write = { put: readonly EmbeddedDocument[] } | { remove: string };

/** What a write did to the set of keys. */
export type Change =
  { added: number; document: EmbeddedDocument; replaced: number | undefined } | { removed: number };

interface DocumentRow {
  key: number;
  id: string;
  text: string;
  metadata: string | null;
}

export function databaseFile(folder: string): string {
  return path.join(folder, 'collection.sqlite');
}

function toDocument({ id, text, metadata }: DocumentRow): Document {
  return { id, text, ...(metadata !== null && { metadata: JSON.parse(metadata) as Metadata }) };
}

/** Documents and vectors in SQLite: the durable truth. Synchronous; the one writer of its file. */
export class Store {
  private readonly db: Database.Database;
  private readonly statements = new Map<string, Database.Statement>();

  constructor(private readonly file: string) {
    this.db = openForWriting(file);
  }

  close(): void {
    this.statements.clear();
    this.db.close();
  }

  // Generations

  generations(): Generation[] {
    return this.sql('SELECT id, model, fingerprint, dimensions, state FROM generations ORDER BY id').all() as
      Generation[] | [];
  }

  createGeneration(model: { name: string; fingerprint: string; dimensions: number }): Generation {
    return this.transaction(() => {
      const state = this.generations().some((g) => g.state === 'live') ? 'building' : 'live';
      const { lastInsertRowid } = this.sql(
        'INSERT INTO generations(model, fingerprint, dimensions, state, created) VALUES (?, ?, ?, ?, ?)',
      ).run(model.name, model.fingerprint, model.dimensions, state, new Date().toISOString());
      const id = Number(lastInsertRowid);
      this.db.exec(`CREATE TABLE vectors_${id} (key INTEGER PRIMARY KEY, vector BLOB NOT NULL) STRICT`);
      return { id, model: model.name, fingerprint: model.fingerprint, dimensions: model.dimensions, state };
    });
  }

  /** Puts a generation live; the one that was is kept for a rollback, earlier ones are dropped. */
  activate(generation: number): void {
    this.transaction(() => {
      const others = this.generations().filter((g) => g.id !== generation);
      for (const { id } of others.filter((g) => g.state !== 'live')) {
        this.sql('DELETE FROM generations WHERE id = ?').run(id);
        this.db.exec(`DROP TABLE vectors_${id}`);
      }
      this.sql(`UPDATE generations SET state = 'retired' WHERE state = 'live' AND id != ?`).run(generation);
      this.sql(`UPDATE generations SET state = 'live' WHERE id = ?`).run(generation);
    });
    this.statements.clear();
  }

  /** Documents that have no vector in a generation, in the order of their keys. */
  missing(generation: number, after: number, limit: number): { key: number; text: string }[] {
    return this.sql(
      `SELECT key, text FROM documents WHERE key > ?
       AND NOT EXISTS (SELECT 1 FROM vectors_${generation} v WHERE v.key = documents.key)
       ORDER BY key LIMIT ?`,
    ).all(after, limit) as { key: number; text: string }[];
  }

  countMissing(generation: number): number {
    return this.sql(
      `SELECT count(*) FROM documents
       WHERE NOT EXISTS (SELECT 1 FROM vectors_${generation} v WHERE v.key = documents.key)`,
    )
      .pluck()
      .get() as number;
  }

  addVectors(generation: number, vectors: readonly { key: number; vector: Float32Array }[]): void {
    this.transaction(() => {
      const insert = this.sql(`INSERT INTO vectors_${generation}(key, vector) VALUES (?, ?)`);
      for (const { key, vector } of vectors) insert.run(key, toBlob(vector));
    });
  }

  /** Every vector of a generation, in the order of the keys. */
  *vectors(generation: number): Generator<{ key: number; vector: Float32Array }> {
    const rows = this.sql(`SELECT key, vector FROM vectors_${generation} ORDER BY key`)
      .raw()
      .iterate() as Iterable<[key: number, vector: Buffer]>;
    for (const [key, vector] of rows) yield { key, vector: fromBlob(vector) };
  }

  // Documents

  /** All writes in one transaction, durable on return. */
  write(generation: number, writes: readonly Write[]): Change[][] {
    return this.transaction(() => {
      const generations = this.generations();
      return writes.map((write) =>
        'put' in write
          ? write.put.map((document) => this.put(generation, generations, document))
          : this.remove(generations, write.remove),
      );
    });
  }

  private put(generation: number, generations: readonly Generation[], document: EmbeddedDocument): Change {
    const { id, text, metadata, vector } = document;
    const [before] = this.remove(generations, id);
    const { lastInsertRowid } = this.sql('INSERT INTO documents(id, text, metadata) VALUES (?, ?, ?)').run(
      id,
      text,
      metadata ? JSON.stringify(metadata) : null,
    );
    const added = Number(lastInsertRowid);
    this.sql(`INSERT INTO vectors_${generation}(key, vector) VALUES (?, ?)`).run(added, toBlob(vector));
    return { added, document, replaced: before?.removed };
  }

  private remove(generations: readonly Generation[], id: string): { removed: number }[] {
    const key = this.keyOf(id);
    if (key === undefined) return [];
    this.sql('DELETE FROM documents WHERE key = ?').run(key);
    for (const generation of generations)
      this.sql(`DELETE FROM vectors_${generation.id} WHERE key = ?`).run(key);
    return [{ removed: key }];
  }

  keyOf(id: string): number | undefined {
    return this.sql('SELECT key FROM documents WHERE id = ?').pluck().get(id) as number | undefined;
  }

  document(key: number): Document | undefined {
    const row = this.sql('SELECT key, id, text, metadata FROM documents WHERE key = ?').get(key);
    return row === undefined ? undefined : toDocument(row as DocumentRow);
  }

  *metadata(): Generator<{ key: number; metadata: Metadata }> {
    const rows = this.sql(
      'SELECT key, metadata FROM documents WHERE metadata IS NOT NULL',
    ).iterate() as Iterable<{ key: number; metadata: string }>;
    for (const { key, metadata } of rows) yield { key, metadata: JSON.parse(metadata) as Metadata };
  }

  /**
   * The k best by BM25 (FTS5's, k1 = 1.2, b = 0.75), best first, equal scores by key.
   *
   * @param accept leaves out what it returns false for
   */
  lexical(text: string, k: number, accept?: (key: number) => boolean): Scored[] {
    const query = ftsQuery(text);
    if (!query) return [];
    const hits: Scored[] = [];
    // With a LIMIT SQLite keeps a heap of k instead of sorting every match; a filter needs them all.
    const rows = this.sql(
      'SELECT rowid AS key, -bm25(lexicon) AS score FROM lexicon WHERE lexicon MATCH ? ORDER BY score DESC, rowid LIMIT ?',
    ).iterate(query, accept ? -1 : k) as Iterable<Scored>;
    for (const hit of rows) {
      if (accept && !accept(hit.key)) continue;
      hits.push(hit);
      if (hits.length === k) break;
    }
    return hits;
  }

  private transaction<T>(work: () => T): T {
    return translated(this.file, () => this.db.transaction(work).immediate());
  }

  private sql(source: string): Database.Statement {
    let statement = this.statements.get(source);
    if (!statement) {
      statement = this.db.prepare(source);
      this.statements.set(source, statement);
    }
    return statement;
  }
}

/** Reads documents on a connection of its own, beside the writer: for another thread. */
export class DocumentReader {
  private readonly db: Database.Database;
  private readonly byId: Database.Statement;
  private readonly page: Database.Statement;

  constructor(file: string) {
    this.db = new Sqlite(file, { readonly: true });
    this.byId = this.db.prepare('SELECT key, id, text, metadata FROM documents WHERE id = ?');
    this.page = this.db.prepare(
      'SELECT key, id, text, metadata FROM documents WHERE id > ? ORDER BY id LIMIT ?',
    );
  }

  get(id: string): Document | undefined {
    const row = this.byId.get(id) as DocumentRow | undefined;
    return row && toDocument(row);
  }

  list(after: string, limit: number): Document[] {
    return (this.page.all(after, limit) as DocumentRow[]).map(toDocument);
  }

  close(): void {
    this.db.close();
  }
}

/** Little-endian float32, as every platform that Node supports keeps it in memory. */
function toBlob(vector: Float32Array): Buffer {
  return Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength);
}

function fromBlob(blob: Buffer): Float32Array {
  const { buffer, byteOffset, byteLength } = blob;
  if (byteOffset % 4 === 0) return new Float32Array(buffer, byteOffset, byteLength / 4);
  // A copy: a Float32Array must begin at a multiple of 4, a Buffer begins anywhere.
  return new Float32Array(buffer.slice(byteOffset, byteOffset + byteLength));
}
