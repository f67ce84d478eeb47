import type { Document } from './collection.js';

export const INGEST_STATES = ['queued', 'active', 'done', 'failed'] as const;
export type IngestState = (typeof INGEST_STATES)[number];

/** Documents that are stored and wait to be embedded. */
export interface Ingest {
  id: number;
  /** failed: a batch of it was given up; others may go on. */
  state: IngestState;
  /** ISO 8601. */
  created: string;
  started?: string;
  /** When the last of its documents was searchable. */
  ended?: string;
  /** Done are those that wait no more: embedded, replaced by a later version, or deleted meanwhile. */
  documents: { done: number; total: number };
  /** Why a batch was given up. */
  error?: string;
}

/** Batches that wait for a worker, that one has, and that were given up in the last day. */
export type IngestCounts = Record<'queued' | 'active' | 'failed', number>;

/** What embeds documents of the queue, until it is closed. */
export interface IngestWorker {
  /** Takes nothing new, and resolves when what it has is stored; after so many seconds it leaves that to others. */
  close(drainSeconds: number): Promise<void>;
}

/**
 * Documents that become searchable after the answer: any number of workers embed them in batches. The version of a document is
 * of the moment when it came: one that waited never replaces a later write, and none comes back that was deleted meanwhile.
 */
export interface Ingests {
  /**
   * All pieces or, when one is wrong or can't be read to its end, none. Durable when it resolves.
   *
   * @param pieces of documents, in each of which an id occurs once; what comes later replaces what came earlier
   * @throws UserError `invalid`, `empty` or `too-large`, naming the document
   */
  queue(pieces: AsyncIterable<readonly Document[]> | Iterable<readonly Document[]>): Promise<Ingest>;
  get(id: number): Promise<Ingest | undefined>;
  /** The latest first. */
  list(limit: number): Promise<Ingest[]>;
  counts(): Promise<IngestCounts>;
  /** Documents that this process has embedded and stored. */
  readonly ingested: number;
  /** Begins to embed what waits. */
  work(): Promise<IngestWorker>;
}
