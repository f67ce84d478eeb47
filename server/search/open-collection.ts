import path from 'node:path';

import { UserError } from '../../base/errors.js';
import { defaults } from '../config.js';
import type { Inference } from '../batching/inference.js';
import type { Observer } from '../observer.js';
import { Thread } from '../threads.js';
import type {
  Collection,
  CollectionInfo,
  Document,
  DuplicatePair,
  Filter,
  Hit,
  SearchRequest,
} from './collection.js';
import { checkDocuments, checkK, checkText, checkThreshold, checkWeight } from './checks.js';
import { databaseFile, DocumentReader } from './store.js';
import type { LogEvent, SearchHandlers, StatusEvent } from './worker.js';

export interface CollectionOptions {
  /** Made when it is not there. One server at a time. */
  dataDir: string;
  inference: Inference;
  /** Embed the documents again when their vectors are another encoder's, instead of refusing. */
  reembed?: boolean;
  /** While documents are embedded at the start. */
  onProgress?: (done: number, total: number) => void;
  /** One line about something worth knowing: an index that has to be built. */
  log?: (message: string) => void;
  /** Is told of every search. */
  observer?: Pick<Observer, 'searched'>;
  /** Up to this many vectors are searched exactly. */
  exactUpTo?: number;
  /** recall@10 that search through the graph holds; 1: search exactly. */
  recall?: number;
  /** Of hybrid searches that don't say. */
  lexicalWeight?: number;
}

/** An upsert of more documents than this does not hurry. */
const BULK_DOCUMENTS = 16;
/** Documents embedded and stored at a time at the start: what a killed process does again. */
const REEMBED_DOCUMENTS = 256;

/**
 * Opens the collection of a data folder, made when there is none. Database and index live in a thread
 * of their own; reading a document by its id is the only thing done here.
 *
 * @throws UserError `fingerprint-mismatch` when its vectors are another encoder's and not `reembed`;
 *   `unavailable` when another server has it open; `invalid` for a later version's; `corrupt`
 */
export async function openCollection(options: CollectionOptions): Promise<Collection> {
  const { inference, reembed = false, exactUpTo, recall, log, observer } = options;
  const dataDir = path.resolve(options.dataDir);
  const collection = new ThreadedCollection(inference, options.lexicalWeight, observer, log);
  const thread = collection.thread;
  try {
    const { name, fingerprint, dimensions } = inference;
    const total = await thread.call('open', {
      dataDir,
      model: { name, fingerprint, dimensions },
      reembed,
      exactUpTo,
      recall,
    });
    for (let done = 0, after = 0; done < total;) {
      const documents = await thread.call('missing', { after, limit: REEMBED_DOCUMENTS });
      const texts = documents.map(({ text }) => text);
      const vectors = await inference.encode(texts, { priority: 'bulk' });
      const keys = documents.map(({ key }) => key);
      await thread.call('addMissing', { keys, vectors });
      after = keys[keys.length - 1];
      done += documents.length;
      options.onProgress?.(done, total);
    }
    await thread.call('activate', undefined);
    collection.openReader(databaseFile(dataDir));
    return collection;
  } catch (error) {
    await thread.call('close', undefined).catch(() => undefined);
    await thread.terminate();
    throw error;
  }
}

class ThreadedCollection implements Collection {
  readonly thread: Thread<SearchHandlers>;
  private reader: DocumentReader | undefined;
  private status: StatusEvent['status'] | undefined;

  constructor(
    private readonly inference: Inference,
    private readonly lexicalWeight: number = defaults.lexicalWeight,
    private readonly observer?: Pick<Observer, 'searched'>,
    log?: (message: string) => void,
  ) {
    this.thread = new Thread(new URL('./worker.js', import.meta.url), 'search', {
      onEvent: (event) => {
        const { status, log: line } = event as Partial<StatusEvent & LogEvent>;
        if (status) this.status = status;
        if (line) log?.(line);
      },
    });
  }

  openReader(file: string): void {
    this.reader = new DocumentReader(file);
  }

  async upsert(
    documents: readonly Document[],
    signal?: AbortSignal,
  ): Promise<{ inserted: number; replaced: number }> {
    checkDocuments(documents);
    if (documents.length === 0) return { inserted: 0, replaced: 0 };
    const vectors = await this.inference.encode(
      documents.map(({ text }) => text),
      { priority: documents.length > BULK_DOCUMENTS ? 'bulk' : 'interactive', signal },
    );
    return this.thread.call('upsert', { documents, vectors }, { transfer: [vectors.buffer as ArrayBuffer] });
  }

  get(id: string): Document | undefined {
    return this.open.get(id);
  }

  delete(id: string): Promise<boolean> {
    return this.thread.call('remove', id);
  }

  list({ after = '', limit }: { after?: string; limit: number }): Document[] {
    return this.open.list(after, checkK(limit, 'limit'));
  }

  async search({
    query,
    k,
    mode,
    lexicalWeight = this.lexicalWeight,
    filter,
    exclude,
    signal,
  }: SearchRequest): Promise<Hit[]> {
    checkText(query, 'query');
    checkK(k, 'k');
    checkWeight(lexicalWeight);
    const vector = mode === 'lexical' ? undefined : await this.inference.encode([query], { signal });
    const start = performance.now();
    const hits = await this.thread.call(
      'search',
      { query, vector, k, mode, lexicalWeight, filter, exclude },
      { signal },
    );
    this.observer?.searched({ mode, start, end: performance.now() });
    return hits;
  }

  async duplicatesOf(
    text: string,
    options: { threshold: number; k: number; filter?: Filter; signal?: AbortSignal },
  ): Promise<Hit[]> {
    const threshold = checkThreshold(options.threshold);
    const { k, filter, signal } = options;
    const hits = await this.search({ query: text, k, mode: 'dense', filter, signal });
    return hits.filter(({ score }) => score >= threshold);
  }

  duplicatePairs(options: {
    threshold: number;
    limit: number;
    signal?: AbortSignal;
  }): Promise<DuplicatePair[]> {
    const input = {
      threshold: checkThreshold(options.threshold),
      limit: checkK(options.limit, 'limit'),
    };
    return this.thread.call('pairs', input, { signal: options.signal });
  }

  info(): CollectionInfo {
    if (!this.status) throw new UserError('not-ready', 'the collection is not open');
    const { documents, hnsw, building, recallAt10, generation } = this.status;
    const { model, fingerprint, dimensions } = generation;
    return {
      documents,
      generation: { model, fingerprint, dimensions },
      index: { kind: hnsw ? 'hnsw' : 'exact', vectors: documents, building, recallAt10 },
    };
  }

  async close(): Promise<void> {
    this.reader?.close();
    this.reader = undefined;
    await this.thread.call('close', undefined);
    await this.thread.terminate();
  }

  private get open(): DocumentReader {
    if (!this.reader) throw new UserError('not-ready', 'the collection is closed');
    return this.reader;
  }
}
