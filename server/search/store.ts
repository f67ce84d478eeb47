import { existsSync } from 'node:fs';
import path from 'node:path';

import type Database from 'better-sqlite3';

import { Sqlite } from '../../base/sqlite.js';
import {
  checkDocument,
  checkVector,
  documentChecksum,
  vectorChecksum,
  type CheckedDocument,
  type CheckedVector,
} from './checksums.js';
import type { Document, Metadata } from './collection.js';
import { checkCommits, CommitRecord, commitRecordFile, readCommitRecord } from './commit-record.js';
import { FeedbackTable } from './feedback-table.js';
import { JobTable } from './job-table.js';
import { mendLexicon } from './inspect.js';
import { ftsQuery } from './lexical.js';
import { openForWriting, translated } from './schema.js';
import type { KeyedVector, Scored } from './vectors.js';

export interface Generation {
  id: number;
  model: string;
  fingerprint: string;
  dimensions: number;
  state: 'building' | 'live' | 'retired';
  /** What --model said when it began; null when a training job made the model. */
  source: string | null;
  job: number | null;
  /** ISO 8601. */
  created: string;
}

/** A model as a generation knows it. */
export interface GenerationModel {
  name: string;
  fingerprint: string;
  dimensions: number;
  source?: string;
  job?: number;
}

/** A document and its vector (length 1). */
export interface EmbeddedDocument extends Document {
  vector: Float32Array;
}

export type Write = { put: readonly EmbeddedDocument[] } | { remove: string };

/** What a write did to the set of keys. */
export type Change =
  { added: number; document: EmbeddedDocument; replaced: number | undefined } | { removed: number };

export interface DocumentRow extends CheckedDocument {
  key: number;
}

/** Makes the table of a generation's vectors. */
export function vectorsTableSql(generation: number): string {
  return `CREATE TABLE vectors_${generation} (key INTEGER PRIMARY KEY, vector BLOB NOT NULL, checksum INTEGER NOT NULL) STRICT`;
}

export function databaseFile(folder: string): string {
  return path.join(folder, 'collection.sqlite');
}

/** Where the models are that training jobs have made. */
export function trainedModelsFolder(dataDir: string): string {
  return path.join(dataDir, 'models');
}

export function trainedModelFolder(dataDir: string, model: string): string {
  return path.join(trainedModelsFolder(dataDir), model);
}

/** @throws UserError `corrupt` */
export function toDocument(file: string, row: DocumentRow): Document {
  checkDocument(file, row);
  const { id, text, metadata } = row;
  return { id, text, ...(metadata !== null && { metadata: JSON.parse(metadata) as Metadata }) };
}

/** Documents and vectors in SQLite: the durable truth. Synchronous; the one writer of its file. */
export class Store {
  private readonly db: Database.Database;
  private readonly statements = new Map<string, Database.Statement>();
  readonly jobs: JobTable;
  readonly feedback: FeedbackTable;
  private readonly commits: CommitRecord;

  /**
   * @param log one line about what had to be made again
   * @throws UserError `corrupt` when it is no database, or lacks what was answered
   */
  constructor(
    private readonly file: string,
    log?: (message: string) => void,
  ) {
    const record = commitRecordFile(file);
    this.db = openForWriting(file);
    try {
      translated(file, () => {
        checkCommits(file, readCommitRecord(record), this.countCommits());
        mendLexicon(this.db, log);
      });
      this.commits = new CommitRecord(record);
    } catch (error) {
      this.db.close();
      throw error;
    }
    this.jobs = new JobTable(this.db, file);
    this.feedback = new FeedbackTable(this.db, file);
  }

  close(): void {
    this.statements.clear();
    this.commits.close();
    this.db.close();
  }

  // Generations

  generations(): Generation[] {
    return this.sql('SELECT * FROM generations ORDER BY id').all() as Generation[];
  }

  createGeneration({ name, fingerprint, dimensions, source, job }: GenerationModel): Generation {
    return this.transaction(() => {
      const state = this.generations().some((g) => g.state === 'live') ? 'building' : 'live';
      const { lastInsertRowid } = this.sql(
        `INSERT INTO generations(model, fingerprint, dimensions, state, source, job, created)
         VALUES (?, ?, ?, ?, ?, ?, ?)`,
      ).run(name, fingerprint, dimensions, state, source, job, new Date().toISOString());
      const id = Number(lastInsertRowid);
      this.db.exec(vectorsTableSql(id));
      return this.generations().find((generation) => generation.id === id)!;
    });
  }

  setSource(generation: number, source: string): void {
    this.sql('UPDATE generations SET source = ? WHERE id = ? AND job IS NULL').run(source, generation);
  }

  /**
   * Puts a generation live; the one that was is kept for a rollback, those retired earlier are dropped.
   * @returns the dropped ones
   */
  activate(generation: number): Generation[] {
    const dropped = this.transaction(() => {
      const others = this.generations().filter((g) => g.id !== generation);
      const old = others.filter((g) => g.state === 'retired');
      for (const { id } of old) this.drop(id);
      this.sql(`UPDATE generations SET state = 'retired' WHERE state = 'live' AND id != ?`).run(generation);
      this.sql(`UPDATE generations SET state = 'live' WHERE id = ?`).run(generation);
      return old;
    });
    this.statements.clear();
    return dropped;
  }

  /** Forgets a generation that is not live, and its vectors. */
  discard(generation: number): void {
    this.transaction(() => this.drop(generation));
    this.statements.clear();
  }

  private drop(generation: number): void {
    this.sql(`DELETE FROM generations WHERE id = ? AND state != 'live'`).run(generation);
    this.db.exec(`DROP TABLE vectors_${generation}`);
  }

  /** Documents that have no vector in a generation, in the order of their keys. */
  missing(generation: number, after: number, limit: number): { key: number; text: string }[] {
    return this.sql(
      `SELECT key, text FROM documents WHERE key > ?
       AND NOT EXISTS (SELECT 1 FROM vectors_${generation} v WHERE v.key = documents.key)
       ORDER BY key LIMIT ?`,
    ).all(after, limit) as { key: number; text: string }[];
  }

  countDocuments(): number {
    return this.sql('SELECT count(*) FROM documents').pluck().get() as number;
  }

  countVectors(generation: number): number {
    return this.sql(`SELECT count(*) FROM vectors_${generation}`).pluck().get() as number;
  }

  /**
   * Vectors that a generation lacks. A document may have gone meanwhile, and its vector goes nowhere then.
   * @returns the keys that have theirs now
   */
  addVectors(generation: number, vectors: readonly { key: number; vector: Float32Array }[]): number[] {
    return this.transaction(() =>
      vectors.flatMap(({ key, vector }) => (this.addVector(generation, key, vector) ? [key] : [])),
    );
  }

  /** @returns false where the document is gone, or has its vector */
  private addVector(generation: number, key: number, vector: Float32Array): boolean {
    const blob = toBlob(vector);
    const { changes } = this.sql(
      `INSERT OR IGNORE INTO vectors_${generation}(key, vector, checksum)
       SELECT key, ?, ? FROM documents WHERE key = ?`,
    ).run(blob, vectorChecksum(key, blob), key);
    return changes === 1;
  }

  /** Vectors of a generation whose keys come after `after`, in the order of the keys. @throws UserError `corrupt` */
  vectors({ id, dimensions }: Generation, after: number, limit: number): KeyedVector[] {
    const rows = this.sql(
      `SELECT key, vector, checksum FROM vectors_${id} WHERE key > ? ORDER BY key LIMIT ?`,
    ).all(after, limit) as (CheckedVector & { vector: Buffer })[];
    return rows.map((row) => {
      checkVector(this.file, row, dimensions);
      return { key: row.key, vector: fromBlob(row.vector) };
    });
  }

  // Documents

  /** All writes in one transaction, durable on return. */
  write(generation: number, writes: readonly Write[]): Change[][] {
    const changes = this.transaction(() => {
      const generations = this.generations();
      this.sql('UPDATE commits SET count = count + 1').run();
      return writes.map((write) =>
        'put' in write
          ? write.put.map((document) => this.put(generation, generations, document))
          : this.remove(generations, write.remove),
      );
    });
    this.commits.write(this.countCommits());
    return changes;
  }

  private countCommits(): number {
    return this.sql('SELECT count FROM commits').pluck().get() as number;
  }

  private put(generation: number, generations: readonly Generation[], document: EmbeddedDocument): Change {
    const { id, text, metadata, vector } = document;
    const [before] = this.remove(generations, id);
    const row = { id, text, metadata: metadata ? JSON.stringify(metadata) : null };
    const { lastInsertRowid } = this.sql(
      'INSERT INTO documents(id, text, metadata, checksum) VALUES (?, ?, ?, ?)',
    ).run(id, text, row.metadata, documentChecksum(row));
    const added = Number(lastInsertRowid);
    this.addVector(generation, added, vector);
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
    const row = this.sql('SELECT * FROM documents WHERE key = ?').get(key);
    return row === undefined ? undefined : toDocument(this.file, row as DocumentRow);
  }

  /** Those of the documents that are there, by key. One read for all: each alone would take SQLite's locks. */
  documents(keys: readonly number[]): Map<number, Document> {
    const rows = this.sql('SELECT * FROM documents WHERE key IN (SELECT value FROM json_each(?))').all(
      JSON.stringify(keys),
    ) as DocumentRow[];
    return new Map(rows.map((row) => [row.key, toDocument(this.file, row)]));
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

/**
 * The live model, when a training job made it: it is what a restarted server goes on with. Nothing when --model is
 * what counts, or when there is no database that could be read: opening the collection says what is wrong with it.
 */
export function activatedModel(
  dataDir: string,
): { model: string; fingerprint: string; job: number } | undefined {
  const file = databaseFile(dataDir);
  if (!existsSync(file)) return undefined;
  try {
    const db = new Sqlite(file, { readonly: true });
    try {
      return db
        .prepare(`SELECT model, fingerprint, job FROM generations WHERE state = 'live' AND job IS NOT NULL`)
        .get() as ReturnType<typeof activatedModel>;
    } finally {
      db.close();
    }
  } catch {
    return undefined;
  }
}

/** Reads documents on a connection of its own, beside the writer: for another thread. */
export class DocumentReader {
  private readonly db: Database.Database;
  private readonly byId: Database.Statement;
  private readonly page: Database.Statement;

  constructor(private readonly file: string) {
    this.db = new Sqlite(file, { readonly: true });
    this.byId = this.db.prepare('SELECT * FROM documents WHERE id = ?');
    this.page = this.db.prepare('SELECT * FROM documents WHERE id > ? ORDER BY id LIMIT ?');
  }

  get(id: string): Document | undefined {
    const row = translated(this.file, () => this.byId.get(id)) as DocumentRow | undefined;
    return row && toDocument(this.file, row);
  }

  list(after: string, limit: number): Document[] {
    const rows = translated(this.file, () => this.page.all(after, limit)) as DocumentRow[];
    return rows.map((row) => toDocument(this.file, row));
  }

  close(): void {
    this.db.close();
  }
}

/** Little-endian float32, as every platform that Node supports keeps it in memory. */
export function toBlob(vector: Float32Array): Buffer {
  return Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength);
}

/** The numbers of a blob, which may be a view of it. */
export function fromBlob(blob: Buffer): Float32Array {
  const { buffer, byteOffset, byteLength } = blob;
  if (byteOffset % 4 === 0) return new Float32Array(buffer, byteOffset, byteLength / 4);
  // A copy: a Float32Array must begin at a multiple of 4, a Buffer begins anywhere.
  return new Float32Array(buffer.slice(byteOffset, byteOffset + byteLength));
}
