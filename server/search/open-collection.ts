import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { messageOf, UserError } from '../../base/errors.js';
import { defaults } from '../config.js';
import type { Inference } from '../batching/inference.js';
import type { Observer } from '../observer.js';
import { Thread } from '../threads.js';
import type {
  CollectionInfo,
  Document,
  DuplicatePair,
  EmbedMissingOptions,
  Hit,
  SearchRequest,
  ServedGeneration,
  TrainableCollection,
} from './collection.js';
import { checkDocuments, checkK, checkText, checkThreshold, checkWeight } from './checks.js';
import type { Feedback, FeedbackCounts, Part } from './feedback-table.js';
import type { JobChange, JobKnown, JobRecord } from './job-table.js';
import type { EngineOptions } from './engine.js';
import { BULK_DOCUMENTS, FOLLOWING_DOCUMENTS, REEMBED_DOCUMENTS, Serving } from './serving.js';
import { databaseFile, DocumentReader, type GenerationModel } from './store.js';
import type { LogEvent, SearchHandlers, StatusEvent } from './worker.js';

export interface FolderOptions {
  /** Made when it is not there. One server at a time. */
  dataDir: string;
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

export interface ModelOptions {
  inference: Inference;
  /** What --model said. */
  source?: string;
  /** Embed the documents again when their vectors are another encoder's, instead of refusing. */
  reembed?: boolean;
  /** While documents are embedded at the start. */
  onProgress?: (done: number, total: number) => void;
}

export type CollectionOptions = FolderOptions & ModelOptions;

/** A data folder that is read while a model is loaded for it. */
export interface OpeningCollection {
  /** Resolves when all is read that needs no model, or can't be: `serve` says why. */
  readonly settled: Promise<void>;
  /**
   * Once. Closes it when it can't be served.
   *
   * @throws UserError `fingerprint-mismatch` when its vectors are another encoder's and not `reembed`;
   *   `unavailable` when another server has it open; `invalid` for a later version's; `corrupt`
   */
  serve(model: ModelOptions): Promise<TrainableCollection>;
  /** When there is no model to serve it with. */
  close(): Promise<void>;
}

/**
 * Begins to open the collection of a data folder, made when there is none. Database and index live in a thread of their own;
 * reading a document by its id is the only thing done here.
 */
export function beginCollection(options: FolderOptions): OpeningCollection {
  const { exactUpTo, recall, log, observer, lexicalWeight } = options;
  const dataDir = path.resolve(options.dataDir);
  const engine = { dataDir, exactUpTo, recall };
  const collection = new ThreadedCollection(engine, lexicalWeight, observer, log);
  const { thread } = collection;
  const reading = thread.call('open', engine);
  const close = async (): Promise<void> => {
    await reading.catch(() => undefined);
    await thread.call('close', undefined).catch(() => undefined);
    await thread.terminate();
  };
  return {
    settled: reading.catch(() => undefined),
    close,
    async serve({ inference, source, reembed = false, onProgress }) {
      const { name, fingerprint, dimensions } = inference;
      try {
        await reading;
        const model = { name, fingerprint, dimensions, source };
        const total = await thread.call('choose', { model, reembed });
        for (let done = 0, after = 0; done < total;) {
          const documents = await thread.call('missing', { after, limit: REEMBED_DOCUMENTS });
          const texts = documents.map(({ text }) => text);
          const vectors = await inference.encode(texts, { priority: 'bulk' });
          const keys = documents.map(({ key }) => key);
          await thread.call('addMissing', { keys, vectors });
          after = keys[keys.length - 1];
          done += documents.length;
          onProgress?.(done, total);
        }
        await thread.call('activate', undefined);
        collection.begin(inference, databaseFile(dataDir));
        return collection;
      } catch (error) {
        await close();
        throw error;
      }
    },
  };
}

/** Opens the collection of a data folder for a model that is there: see OpeningCollection.serve. */
export function openCollection(options: CollectionOptions): Promise<TrainableCollection> {
  return beginCollection(options).serve(options);
}

class ThreadedCollection extends Serving implements TrainableCollection {
  thread = this.startThread();
  private reader: DocumentReader | undefined;
  private status: StatusEvent['status'] | undefined;
  private readonly writes = new Set<Promise<unknown>>();
  /** While set, new writes wait for it. */
  private pause: Promise<void> | undefined;
  private replacing: Promise<void> | undefined;

  /** @param engine what a thread opens that replaces another one */
  constructor(
    private readonly engine: Omit<EngineOptions, 'onMeasured' | 'log'>,
    private readonly lexicalWeight: number = defaults.lexicalWeight,
    private readonly observer?: Pick<Observer, 'searched'>,
    log?: (message: string) => void,
  ) {
    super(log);
  }

  protected get known(): StatusEvent['status']['generations'] {
    return this.opened.generations;
  }

  private startThread(): Thread<SearchHandlers> {
    return new Thread(new URL('./worker.js', import.meta.url), 'search', {
      onEvent: (event) => {
        const { status, log: line } = event as Partial<StatusEvent & LogEvent>;
        if (status) this.status = status;
        if (line) this.log?.(line);
      },
    });
  }

  begin(inference: Inference, file: string): void {
    this.reader = new DocumentReader(file);
    this.live = { id: this.opened.generation.id, model: inference.name, inference };
    this.loaded.set(this.live.id, this.live);
    this.watch();
  }

  /** From `begin` on a thread that ends is replaced. */
  private watch(): void {
    const { thread } = this;
    void thread.ended.then((reason) => {
      if (!this.reader) return;
      this.log?.(`${reason.message}; it is started again`);
      // Where that fails, the next call says so, after trying once more.
      this.replace(thread).catch((error: unknown) => this.log?.(messageOf(error)));
    });
  }

  private async replace(thread: Thread<SearchHandlers>): Promise<void> {
    if (this.thread !== thread) return;
    this.replacing ??= this.startAnother().finally(() => (this.replacing = undefined));
    await this.replacing;
  }

  private async startAnother(): Promise<void> {
    const thread = this.startThread();
    const known = new Map(this.opened.generations.map((generation) => [generation.id, generation]));
    const modelOf = ({ id, model: name, inference }: ServedGeneration): GenerationModel => {
      const { fingerprint, dimensions } = inference;
      const { source, job } = known.get(id) ?? {};
      return { name, fingerprint, dimensions, source: source ?? undefined, job: job ?? undefined };
    };
    try {
      await thread.call('open', this.engine);
      this.live = await this.chooseLive(thread, modelOf);
      await thread.call('activate', undefined);
      for (const served of this.loaded.values())
        if (served !== this.live) await thread.call('prepare', modelOf(served));
    } catch (error) {
      await thread.terminate();
      throw error;
    }
    this.thread = thread;
    this.watch();
  }

  /** The model that is live in the database: the thread may have ended in the middle of a switch. */
  private async chooseLive(
    thread: Thread<SearchHandlers>,
    modelOf: (served: ServedGeneration) => GenerationModel,
  ): Promise<ServedGeneration> {
    const { live } = this;
    const others = [...this.loaded.values()].filter((served) => served !== live);
    for (const served of [live, ...others])
      try {
        await thread.call('choose', { model: modelOf(served), reembed: false });
        return served;
      } catch (error) {
        const isLast = served === (others.at(-1) ?? live);
        if (isLast || !(error instanceof UserError && error.kind === 'fingerprint-mismatch')) throw error;
      }
    return live;
  }

  /**
   * What a thread that ended did not answer, its successor is asked, once. A write that was durable by then is done
   * again: the collection is the same, though a deletion may find that there is no such document any more.
   */
  private async call<K extends keyof SearchHandlers>(
    name: K,
    input: Parameters<SearchHandlers[K]>[0],
    signal?: AbortSignal,
  ): Promise<Awaited<ReturnType<SearchHandlers[K]>>> {
    const { thread } = this;
    try {
      return await thread.call(name, input, { signal });
    } catch (error) {
      if (!thread.hasStopped || !this.reader) throw error;
      await thread.ended;
      await this.replace(thread);
      signal?.throwIfAborted();
      return await this.thread.call(name, input, { signal });
    }
  }

  async upsert(
    documents: readonly Document[],
    signal?: AbortSignal,
  ): Promise<{ inserted: number; replaced: number }> {
    checkDocuments(documents);
    if (documents.length === 0) return { inserted: 0, replaced: 0 };
    while (this.pause) await this.pause;
    const write = this.store(documents, signal);
    this.writes.add(write);
    try {
      return await write;
    } finally {
      this.writes.delete(write);
      this.follow();
    }
  }

  private async store(
    documents: readonly Document[],
    signal?: AbortSignal,
  ): Promise<{ inserted: number; replaced: number }> {
    for (;;) {
      const { id: generation, inference } = this.live;
      const vectors = await inference.encode(
        documents.map(({ text }) => text),
        { priority: documents.length > BULK_DOCUMENTS ? 'bulk' : 'interactive', signal },
      );
      const counts = await this.call('upsert', { documents, vectors, generation });
      // Nothing: another generation went live meanwhile, and these vectors are not its own.
      if (counts) return counts;
    }
  }

  async get(id: string): Promise<Document | undefined> {
    return this.open.get(id);
  }

  async existing(ids: readonly string[]): Promise<Set<string>> {
    return new Set(ids.filter((id) => this.open.get(id)));
  }

  delete(id: string): Promise<boolean> {
    return this.call('remove', id);
  }

  async list({ after = '', limit }: { after?: string; limit: number }): Promise<Document[]> {
    return this.open.list(after, checkK(limit, 'limit'));
  }

  async search(request: SearchRequest): Promise<Hit[]> {
    const { query, k, mode, lexicalWeight = this.lexicalWeight, filter, exclude, signal } = request;
    const { generation = this.live } = request;
    checkText(query, 'query');
    checkK(k, 'k');
    checkWeight(lexicalWeight);
    // With a vector it is not somebody's search but a comparison of models.
    if (!request.vector) this.remember(query);
    const vector =
      mode === 'lexical'
        ? undefined
        : (request.vector ?? (await generation.inference.encode([query], { signal })));
    const input = { query, vector, k, mode, lexicalWeight, filter, exclude, generation: generation.id };
    const start = performance.now();
    const hits = await this.call('search', input, signal);
    this.observer?.searched({ mode, start, end: performance.now() });
    if (!hits)
      throw new UserError(
        'unavailable',
        `the generation of ${generation.model} was dropped meanwhile; send the request again`,
      );
    return hits;
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
    return this.call('pairs', input, options.signal);
  }

  answers(signal: AbortSignal): Promise<void> {
    return this.call('answer', undefined, signal);
  }

  info(): CollectionInfo {
    const { documents, hnsw, building, recallAt10, generation } = this.opened;
    const { model, fingerprint, dimensions } = generation;
    return {
      documents,
      generation: { model, fingerprint, dimensions },
      index: { kind: hnsw ? 'hnsw' : 'exact', vectors: documents, building, recallAt10 },
    };
  }

  async prepare(model: { inference: Inference; job?: number; source?: string }): Promise<ServedGeneration> {
    const { inference, job, source } = model;
    const { name, fingerprint, dimensions } = inference;
    const { id } = await this.call('prepare', { name, fingerprint, dimensions, job, source });
    const served = { id, model: name, inference };
    this.loaded.set(id, served);
    this.building.add(id);
    return served;
  }

  async embedMissing(served: ServedGeneration, options: EmbedMissingOptions = {}): Promise<void> {
    const { share = 1, signal, onProgress } = options;
    const { id: generation, inference } = served;
    for (let done = 0; ;) {
      signal?.throwIfAborted();
      const begin = performance.now();
      const { documents, count } = await this.call('lacked', {
        generation,
        limit: FOLLOWING_DOCUMENTS,
      });
      if (documents.length === 0) break;
      const texts = documents.map(({ text }) => text);
      const vectors = await inference.encode(texts, { priority: 'bulk', signal });
      const keys = documents.map(({ key }) => key);
      await this.call('addMissing', { keys, vectors, generation });
      done += keys.length;
      onProgress?.(done, done + count - keys.length);
      if (share < 1) await sleep((performance.now() - begin) * (1 / share - 1), undefined, { signal });
    }
    this.building.delete(generation);
  }

  async activate(served: ServedGeneration, signal?: AbortSignal): Promise<void> {
    if (served.id === this.live.id) return;
    await this.embedMissing(served, { signal });
    await this.call('settled', undefined, signal);
    let resume = (): void => undefined;
    while (this.pause) await this.pause;
    this.pause = new Promise((resolve) => (resume = resolve));
    try {
      await Promise.allSettled(this.writes);
      await this.embedMissing(served, { signal });
      if (!(await this.call('flip', served.id)))
        throw new UserError(
          'backend',
          `the generation of ${served.model} has not all vectors, and stays as it is`,
        );
      this.live = served;
    } finally {
      this.pause = undefined;
      resume();
    }
    const kept = new Set(this.opened.generations.map(({ id }) => id));
    for (const each of this.loaded.values()) if (!kept.has(each.id)) this.release(each);
  }

  async discard(id: number): Promise<void> {
    await this.call('discard', id);
    const served = this.loaded.get(id);
    if (served && served !== this.live) this.release(served);
  }

  sample(served: ServedGeneration, n: number): Promise<Float32Array> {
    return this.call('sample', { generation: served.id, n });
  }

  addFeedback(feedback: readonly Feedback[]): Promise<void> {
    return this.call('addFeedback', feedback);
  }

  relevant(part: Part): Promise<{ query: string; id: string; text: string }[]> {
    return this.call('relevant', part);
  }

  feedbackCounts(): Promise<FeedbackCounts> {
    return this.call('feedbackCounts', undefined);
  }

  jobs(): Promise<JobRecord[]> {
    return this.call('jobs', undefined);
  }

  changesSinceLastJob(): Promise<number> {
    return this.call('changesSinceLastJob', undefined);
  }

  addJob(request: unknown): Promise<JobRecord> {
    // Not asked again of another thread: the job may be there already.
    return this.thread.call('addJob', request);
  }

  changeJob({ id, state, verdict }: JobKnown, change: JobChange): Promise<boolean> {
    return this.call('changeJob', { job: { id, state, verdict }, change });
  }

  async close(): Promise<void> {
    this.closing.abort();
    await this.following;
    this.reader?.close();
    this.reader = undefined;
    await this.replacing?.catch(() => undefined);
    if (!this.thread.hasStopped) await this.thread.call('close', undefined);
    await this.thread.terminate();
    await this.closeOthers();
  }

  private get opened(): StatusEvent['status'] {
    if (!this.status) throw new UserError('not-ready', 'the collection is not open');
    return this.status;
  }

  private get open(): DocumentReader {
    if (!this.reader) throw new UserError('not-ready', 'the collection is closed');
    return this.reader;
  }
}
