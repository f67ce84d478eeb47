import { createHash } from 'node:crypto';

import type Database from 'better-sqlite3';

import { translated } from './schema.js';

/** What somebody has found: that a document is, or is not, what a query asks for. */
export interface Feedback {
  query: string;
  /** The document's id. */
  id: string;
  relevant: boolean;
}

/**
 * train: what training may see. dev: chooses the weights while it runs. test: judges what came of it, and
 * nothing else.
 */
export type Part = 'train' | 'dev' | 'test';

export interface FeedbackCounts {
  /** Of queries and documents, relevant or not. */
  total: number;
  relevant: number;
  /** Queries by part. */
  queries: Record<Part, number>;
}

/** Of a hundred queries: the first so many judge, the next so many choose. */
const TEST_SHARE = 20;
const DEV_SHARE = 10;

/**
 * Which part a query belongs to: by its words alone, so that the same question, asked again or by another
 * server, is never trained on in one place and judged by in another.
 */
export function partOf(query: string): Part {
  const digest = createHash('sha256').update(normalized(query)).digest();
  const place = digest.readUInt32LE() % 100;
  return place < TEST_SHARE ? 'test' : place < TEST_SHARE + DEV_SHARE ? 'dev' : 'train';
}

/** Queries that differ in nothing but case and white space are one. */
export function normalized(query: string): string {
  return query.toLowerCase().trim().replace(/\s+/g, ' ');
}

/** Feedback in SQLite. Synchronous, as the store that it is a part of. */
export class FeedbackTable {
  constructor(
    private readonly db: Database.Database,
    private readonly file: string,
  ) {}

  /** Durable on return. What was said of the same query and document before is replaced. */
  add(feedback: readonly Feedback[]): void {
    const insert = this.db.prepare(
      'INSERT OR REPLACE INTO feedback(query, document, relevant, part, created) VALUES (?, ?, ?, ?, ?)',
    );
    const now = new Date().toISOString();
    translated(this.file, () =>
      this.db
        .transaction(() => {
          for (const { query, id, relevant } of feedback)
            insert.run(query, id, Number(relevant), partOf(query), now);
        })
        .immediate(),
    );
  }

  /** What was found relevant and is still in the collection, by query. */
  relevant(part: Part): { query: string; id: string; text: string }[] {
    return this.db
      .prepare(
        `SELECT query, documents.id AS id, text FROM feedback JOIN documents ON documents.id = document
         WHERE relevant = 1 AND part = ? ORDER BY query, documents.id`,
      )
      .all(part) as { query: string; id: string; text: string }[];
  }

  counts(): FeedbackCounts {
    const rows = this.db
      .prepare(
        `SELECT part, count(*) AS total, sum(relevant) AS relevant, count(DISTINCT query) AS queries
         FROM feedback GROUP BY part`,
      )
      .all() as { part: Part; total: number; relevant: number; queries: number }[];
    const sum = (of: 'total' | 'relevant'): number => rows.reduce((all, row) => all + row[of], 0);
    const queries = { train: 0, dev: 0, test: 0 };
    for (const row of rows) queries[row.part] = row.queries;
    return { total: sum('total'), relevant: sum('relevant'), queries };
  }
}
