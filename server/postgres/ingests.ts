import { checkDocuments } from '../search/checks.js';
import type { Document } from '../search/collection.js';
import type { Ingest, IngestCounts, Ingests, IngestWorker } from '../search/ingests.js';
import type { Generation } from '../search/store.js';
import { checkCharacters } from './characters.js';
import type { Database, Queries } from './database.js';
import {
  addBatch,
  addIngest,
  completeIngest,
  completeIngests,
  moveDocuments,
  removeIngest,
  type QueuedDocument,
} from './ingest-documents.js';
import { INGEST_TIMES, IngestJobs, type IngestTimes } from './ingest-jobs.js';
import { BatchWorker } from './ingest-worker.js';

/** Documents that a worker embeds and stores together. */
const BATCH_DOCUMENTS = 256;

export interface PostgresIngestsOptions {
  database: Database;
  times?: Partial<IngestTimes>;
  /** As an upsert does: `put` is in a transaction in which the generation of the vectors is the live one. */
  embedAndStore<T>(
    texts: readonly string[],
    signal: AbortSignal,
    put: (queries: Queries, generations: Generation[], live: number, rows: Float32Array[]) => Promise<T>,
  ): Promise<T>;
  /** Whether the live model is loaded here: without it, batches are for other workers. */
  canStore(): boolean;
  /** So many documents more are in the collection. */
  onStored(inserted: number): void;
  log(message: string): void;
}

/** Documents wait in a table of their own, whose rows go with the transaction that stores them; pg-boss has whose turn it is. */
export class PostgresIngests implements Ingests {
  ingested = 0;
  private readonly times: IngestTimes;
  private readonly jobs: IngestJobs;

  constructor(private readonly options: PostgresIngestsOptions) {
    this.times = { ...INGEST_TIMES, ...options.times };
    this.jobs = this.newJobs(false);
  }

  async queue(pieces: AsyncIterable<readonly Document[]> | Iterable<readonly Document[]>): Promise<Ingest> {
    const { database } = this.options;
    await this.jobs.start();
    const id = await addIngest(database);
    const batches: string[] = [];
    try {
      for await (const piece of pieces) {
        checkDocuments(piece);
        piece.forEach(checkCharacters);
        for (let i = 0; i < piece.length; i += BATCH_DOCUMENTS)
          batches.push(await addBatch(database, id, piece.slice(i, i + BATCH_DOCUMENTS)));
      }
      await database.transaction(async (queries) => {
        await this.jobs.send(queries, id, batches);
        await completeIngest(queries, id);
      });
    } catch (error) {
      await removeIngest(database, id).catch(() => undefined);
      throw error;
    }
    return (await this.get(id))!;
  }

  async get(id: number): Promise<Ingest | undefined> {
    return (await completeIngests(this.options.database, { id }))[0];
  }

  list(limit: number): Promise<Ingest[]> {
    return completeIngests(this.options.database, { limit });
  }

  counts(): Promise<IngestCounts> {
    return this.jobs.counts();
  }

  async work(): Promise<IngestWorker> {
    const { database, canStore, log } = this.options;
    const jobs = this.newJobs(true);
    await jobs.start();
    return new BatchWorker({
      database,
      jobs,
      times: this.times,
      canStore,
      store: (ingest, documents, signal) => this.store(ingest, documents, signal),
      log,
    });
  }

  private newJobs(supervises: boolean): IngestJobs {
    const { database, log } = this.options;
    return new IngestJobs(database, { times: this.times, supervises, log });
  }

  private async store(
    ingest: number,
    documents: readonly QueuedDocument[],
    signal: AbortSignal,
  ): Promise<void> {
    const texts = documents.map(({ text }) => text);
    const { stored, replaced } = await this.options.embedAndStore(
      texts,
      signal,
      (queries, generations, live, rows) =>
        moveDocuments(queries, generations, live, ingest, documents, rows),
    );
    this.ingested += stored;
    this.options.onStored(stored - replaced);
  }
}
