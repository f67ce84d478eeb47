import type { Document } from '../search/collection.js';
import type { Feedback, Part } from '../search/feedback-table.js';
import type { JobRow } from '../search/job-table.js';
import type { Generation } from '../search/store.js';
import type { KeyedVector } from '../search/vectors.js';

export interface KeyedDocument extends Document {
  key: number;
}

export interface KeptFeedback extends Feedback {
  part: Part;
  /** ISO 8601. */
  created: string;
}

export interface KeptJob extends JobRow {
  /** How many there were when it was asked for. */
  changes: number;
}

/** What has keys: the documents, or the vectors of a generation. */
export type Keyed = 'documents' | { vectorsOf: number };

/** Both stores call them alike. A generation's id is a number from the database, never a user's word. */
export function tableOf(keyed: Keyed): string {
  return keyed === 'documents' ? keyed : `vectors_${Number(keyed.vectorsOf)}`;
}

/** The highest keys that were ever given, those of what is gone included: none is given twice. */
export interface LastKeys {
  documents: number;
  generations: number;
  jobs: number;
}

/**
 * A collection as a transfer reads it. Keys name versions of documents and are the same in every store, so that what belongs
 * to a key never changes: two stores with the same keys hold the same, and what one lacks is found without reading the rest.
 */
export interface StoreReader {
  generations(): Promise<Generation[]>;
  count(of: Keyed): Promise<number>;
  /** Those beyond `after`, in their order. */
  keys(of: Keyed, after: number, limit: number): Promise<number[]>;
  /** Which of these keys there are. */
  present(of: Keyed, keys: readonly number[]): Promise<number[]>;
  /** In the order of their keys. */
  documents(keys: readonly number[]): Promise<KeyedDocument[]>;
  /** In the order of their keys. */
  vectors(generation: Generation, keys: readonly number[]): Promise<KeyedVector[]>;
  /** In the order of query and id, those behind `after`. */
  feedback(after: Pick<Feedback, 'query' | 'id'>, limit: number): Promise<KeptFeedback[]>;
  jobs(): Promise<KeptJob[]>;
  lastKeys(): Promise<LastKeys>;
  /** Documents that have come and wait to be embedded: they are no part of the collection yet. */
  waiting(): Promise<number>;
}

export interface StoreWriter extends StoreReader {
  /** @throws UserError `too-large` when no server could open it with so many vectors of each */
  checkRoom(generations: readonly Generation[], vectors: number): void;
  /** Makes its generations these: new ones without vectors, those not among them dropped. */
  setGenerations(generations: readonly Generation[]): Promise<void>;
  addDocuments(documents: readonly KeyedDocument[]): Promise<void>;
  /** With their vectors. */
  removeDocuments(keys: readonly number[]): Promise<void>;
  /** Of documents that are there. */
  addVectors(generation: Generation, vectors: readonly KeyedVector[]): Promise<void>;
  /** In one transaction. */
  replaceFeedback(pages: AsyncIterable<readonly KeptFeedback[]>): Promise<void>;
  replaceJobs(jobs: readonly KeptJob[]): Promise<void>;
  setLastKeys(keys: LastKeys): Promise<void>;
}

export interface TransferSource {
  /** For people, and what an unfinished transfer is known by. */
  readonly name: string;
  /** Keeps servers off to the end of the transfer. @returns false when one has it open */
  hold(): Promise<boolean>;
  /** As it is at one moment, whatever is written meanwhile. */
  snapshot<T>(use: (reader: StoreReader) => Promise<T>): Promise<T>;
}

export interface TransferTarget {
  readonly name: string;
  /** No server takes what it writes for a collection until `finish`. */
  readonly store: StoreWriter;
  /** In one step, and durable. */
  finish(): Promise<void>;
}
