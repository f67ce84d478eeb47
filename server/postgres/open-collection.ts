import { setTimeout as sleep } from 'node:timers/promises';

import { messageOf, UserError } from '../../base/errors.js';
import type { Inference, InferenceOptions } from '../batching/inference.js';
import { defaults } from '../config.js';
import type { JobBoard } from '../jobs/board.js';
import type { JobFolders } from '../jobs/folders.js';
import type { Observer } from '../observer.js';
import { checkDocuments, checkK, checkText, checkThreshold, checkWeight } from '../search/checks.js';
import type {
  CollectionInfo,
  Document,
  DuplicatePair,
  EmbedMissingOptions,
  Hit,
  SearchRequest,
  ServedGeneration,
  TrainableCollection,
} from '../search/collection.js';
import { unitRows } from '../search/engine.js';
import { BULK_DOCUMENTS, FOLLOWING_DOCUMENTS, REEMBED_DOCUMENTS, Serving } from '../search/serving.js';
import type { Feedback, FeedbackCounts, Part } from '../search/feedback-table.js';
import type { JobChange, JobKnown, JobRecord } from '../search/job-table.js';
import type { Generation } from '../search/store.js';
import { EXACT_UP_TO } from '../search/vector-index.js';
import { Backoff } from './backoff.js';
import { checkCharacters, NUL } from './characters.js';
import { Database, type Queries } from './database.js';
import { putDocuments, removeDocument, toDocument, type DocumentRow } from './documents.js';
import { addFeedback, feedbackCounts, relevant } from './feedback.js';
import {
  addVectors,
  allGenerations,
  chooseGeneration,
  countMissing,
  createGeneration,
  dropGeneration,
  holdGenerations,
  missing,
  parseVector,
  putLive,
  hasGenerations,
  sharedGenerations,
  vectorsTable,
} from './generations.js';
import { unqueue } from './ingest-documents.js';
import type { IngestTimes } from './ingest-jobs.js';
import { PostgresIngests } from './ingests.js';
import { PostgresBoard } from './job-board.js';
import { addJob, allJobs, changeJob, changesSinceLastJob } from './jobs.js';
import { Latest } from './latest.js';
import { CHANNEL, Listener } from './listener.js';
import { refuseUnfinished } from './open-lock.js';
import { migrate } from './schema.js';
import { denseWanted, pairs, search } from './search.js';
import { VectorIndexes } from './vector-indexes.js';

export interface PostgresOptions {
  /** postgres://user:password@host:port/database */
  url: string;
  inference: Inference;
  /** What --model said. */
  source?: string;
  /** Embed the documents again when their vectors are another encoder's, instead of refusing. */
  reembed?: boolean;
  /** Loads the model of a generation that another server has put live. */
  openModel?: (generation: {
    model: string;
    fingerprint: string;
    job?: number;
    source?: string;
  }) => Promise<Inference>;
  /** While documents are embedded at the start. */
  onProgress?: (done: number, total: number) => void;
  log?: (message: string) => void;
  observer?: Pick<Observer, 'searched'>;
  /** Of hybrid searches that don't say. */
  lexicalWeight?: number;
  /** recall@10 to hold; 1 searches exactly, whatever the size. */
  recall?: number;
  /** Up to this many vectors search is exact. */
  exactUpTo?: number;
  /** How workers take batches of what is to be embedded later. */
  ingest?: Partial<IngestTimes>;
  /** How often the generations are looked at, where no notification came: half of the second that is promised. */
  pollMs?: number;
}

const POLL_MS = 500;
/** The advisory lock of the server that switches. */
const SWITCH_LOCK = 760_401_175;
/** How many looks at the generations there are to each count of documents and vectors, which reads whole tables. */
const COUNT_EVERY = 60;
/** Between two tries to load the live model, at most. */
const LOAD_AGAIN_MS = 60_000;

/**
 * Opens the collection in a PostgreSQL database, whose tables are made or brought up to date. Any number of servers may
 * have it open.
 *
 * @throws UserError `fingerprint-mismatch` when its vectors are another encoder's and not `reembed`; `invalid` without
 *   pgvector, or for a later version's schema; `unavailable` when PostgreSQL does not answer, or a migration is at work;
 *   `not-ready` where one is not finished; `usage` for what is no URL
 */
export async function openPostgresCollection(options: PostgresOptions): Promise<TrainableCollection> {
  const { inference, source, reembed = false } = options;
  const database = new Database(options.url);
  const listener = new Listener(database, options.pollMs ?? POLL_MS);
  try {
    await migrate(database);
    await refuseUnfinished(database);
    await listener.open();
    const { name, fingerprint, dimensions } = inference;
    const { id, state } = await database.transaction(async (queries) => {
      await holdGenerations(queries);
      return chooseGeneration(queries, { name, fingerprint, dimensions, source }, reembed);
    });
    const total = await countMissing(database, id);
    let done = 0;
    await embedAll(database, id, inference, {
      limit: REEMBED_DOCUMENTS,
      onEmbedded(count) {
        done += count;
        options.onProgress?.(done, Math.max(done, total));
      },
    });
    if (state !== 'live')
      await database.transaction(async (queries) => {
        await holdGenerations(queries);
        await embedAll(queries, id, inference, { limit: REEMBED_DOCUMENTS });
        await putLive(queries, id);
        await queries.query(`NOTIFY ${CHANNEL}`);
      });
    const collection = new PostgresCollection(database, listener, { id, model: name, inference }, options);
    await collection.begin();
    return collection;
  } catch (error) {
    await listener.close();
    await database.close();
    throw error;
  }
}

/** The live model, when a training job made it; nothing on a database that has no collection yet. */
export async function activatedOn(
  url: string,
): Promise<{ model: string; fingerprint: string; job: number } | undefined> {
  const database = new Database(url);
  try {
    if (!(await hasGenerations(database))) return undefined;
    const [live] = await database.query<{ model: string; fingerprint: string; job: number }>(
      `SELECT model, fingerprint, job FROM generations WHERE state = 'live' AND job IS NOT NULL`,
    );
    return live;
  } finally {
    await database.close();
  }
}

/**
 * Gives a generation the vectors that it lacks, in the order of the keys. A transaction that began earlier may add lower keys
 * later; so it looks from the beginning again until nothing is left.
 */
async function embedAll(
  queries: Queries,
  generation: number,
  inference: Inference,
  options: { limit: number; signal?: AbortSignal; onEmbedded?: (count: number) => void | Promise<void> },
): Promise<void> {
  const { limit, signal, onEmbedded } = options;
  for (let after = 0; ;) {
    signal?.throwIfAborted();
    const documents = await missing(queries, generation, after, limit);
    if (documents.length === 0) {
      if (after === 0) return;
      after = 0;
      continue;
    }
    const texts = documents.map(({ text }) => text);
    const vectors = await inference.encode(texts, { priority: 'bulk', signal });
    const keys = documents.map(({ key }) => key);
    await addVectors(queries, generation, keys, unitRows(vectors, keys.length, inference.dimensions));
    after = keys[keys.length - 1];
    await onEmbedded?.(keys.length);
  }
}

interface Counts {
  /** Documents beyond those that this server has made them grow by. */
  others: number;
  /** Of each generation, by its id. */
  vectors: ReadonlyMap<number, number>;
}

class PostgresCollection extends Serving implements TrainableCollection {
  private readonly rows = new Latest<readonly Generation[]>([]);
  private readonly counts = new Latest<Counts>({ others: 0, vectors: new Map() });
  /** Documents that were stored here, less those that were deleted. */
  private grown = 0;
  readonly ingests: PostgresIngests;
  private readonly indexes: VectorIndexes;
  /** Of the generation that is live and not loaded here. */
  private loading: { id: number; backoff: Backoff } | undefined;
  /** Another generation is live, and not loaded here. */
  private isBehind = false;
  private refreshing: Promise<void> | undefined;
  private looks = 0;
  private complaint: string | undefined;

  constructor(
    private readonly database: Database,
    private readonly listener: Listener,
    live: ServedGeneration,
    private readonly options: PostgresOptions,
  ) {
    super(options.log);
    this.live = live;
    this.loaded.set(live.id, live);
    const { recall = defaults.recall, exactUpTo = EXACT_UP_TO, log } = options;
    this.indexes = new VectorIndexes(database, { recall, exactUpTo, log });
    this.ingests = new PostgresIngests({
      database,
      times: options.ingest,
      embedAndStore: (texts, signal, put) => this.embedAndStore(texts, { priority: 'bulk', signal }, put),
      canStore: () => !this.isBehind,
      onStored: (inserted) => this.grow(inserted),
      log: (message) => this.log?.(message),
    });
  }

  async begin(): Promise<void> {
    await this.count();
    await this.refresh();
    this.listener.follow(() => this.watch());
  }

  /** Says once why a look fails: nobody asked for it who could be told. */
  private async watch(): Promise<void> {
    try {
      await this.refresh();
      this.complaint = undefined;
    } catch (error) {
      if (messageOf(error) !== this.complaint) this.log?.(messageOf(error));
      this.complaint = messageOf(error);
    }
  }

  /** Looks at the generations again, and answers from the live one where another server has put one live. */
  private refresh(): Promise<void> {
    this.refreshing ??= this.look().finally(() => (this.refreshing = undefined));
    return this.refreshing;
  }

  /** As it is from here on: a look that began before may come back with what was live then. */
  private async lookAgain(): Promise<void> {
    await this.refreshing?.catch(() => undefined);
    await this.refresh();
  }

  private async look(): Promise<void> {
    if (++this.looks % COUNT_EVERY === 0) await this.count();
    // What is prepared while this is on its way is not among them yet.
    const loaded = [...this.loaded.values()];
    const generations = await this.readGenerations();
    const whole = loaded.filter(({ id }) => id !== this.live.id && !this.building.has(id));
    await this.indexes.follow([this.live.id, ...whole.map(({ id }) => id)], this.documents);
    // They may have been read again since.
    const live = this.rows.value.find(({ state }) => state === 'live');
    this.isBehind = live !== undefined && live.id !== this.live.id;
    if (live && this.isBehind) this.live = this.loaded.get(live.id) ?? (await this.loadLive(live));
    this.isBehind = false;
    for (const each of loaded) if (!generations.some(({ id }) => id === each.id)) this.release(each);
  }

  private loadLive(generation: Generation): Promise<ServedGeneration> {
    const { id } = generation;
    if (this.loading?.id !== id) this.loading = { id, backoff: new Backoff(LOAD_AGAIN_MS) };
    return this.loading.backoff.run(() => this.load(generation));
  }

  private async load(generation: Generation): Promise<ServedGeneration> {
    const { id, model, job, source, fingerprint } = generation;
    const { openModel } = this.options;
    if (!openModel) throw new UserError('not-ready', `${model} was put live, and can't be loaded here`);
    const inference = await openModel({
      ...{ model, fingerprint },
      job: job ?? undefined,
      source: source ?? undefined,
    });
    if (inference.fingerprint !== fingerprint) {
      await inference.close();
      throw new UserError(
        'fingerprint-mismatch',
        `${model} is live with ${fingerprint.slice(0, 12)}, and what this server finds under that name is ${inference.fingerprint.slice(0, 12)}`,
      );
    }
    const served = { id, model, inference };
    this.loaded.set(id, served);
    return served;
  }

  protected get known(): (Generation & { vectors: number })[] {
    const { vectors } = this.counts.value;
    return this.rows.value.map((generation) => ({ ...generation, vectors: vectors.get(generation.id) ?? 0 }));
  }

  private get documents(): number {
    return this.counts.value.others + this.grown;
  }

  private readGenerations(): Promise<readonly Generation[]> {
    return this.rows.ask(() => allGenerations(this.database));
  }

  private async count(): Promise<void> {
    await this.counts.ask(async () => {
      // What is stored while it counts need not be among them.
      const { grown } = this;
      const [{ count }] = await this.database.query<{ count: number }>('SELECT count(*) FROM documents');
      const generations = await this.readGenerations();
      const vectors = await Promise.all(
        generations.map(async ({ id }) => [id, count - (await this.countMissing(id, count))] as const),
      );
      return { others: count - grown, vectors: new Map(vectors) };
    });
  }

  /** Behind what was done already, and stays done when this fails: it is counted again soon. */
  private async recount(): Promise<void> {
    await this.count().catch((error: unknown) => this.log?.(messageOf(error)));
  }

  /** All of them for a generation that was dropped meanwhile. */
  private async countMissing(generation: number, documents: number): Promise<number> {
    try {
      return await countMissing(this.database, generation);
    } catch (error) {
      if (isDropped(error)) return documents;
      throw error;
    }
  }

  async upsert(
    documents: readonly Document[],
    signal?: AbortSignal,
  ): Promise<{ inserted: number; replaced: number }> {
    checkDocuments(documents);
    documents.forEach(checkCharacters);
    if (documents.length === 0) return { inserted: 0, replaced: 0 };
    const texts = documents.map(({ text }) => text);
    const priority = documents.length > BULK_DOCUMENTS ? 'bulk' : 'interactive';
    const replaced = await this.embedAndStore(
      texts,
      { priority, signal },
      (queries, generations, live, rows) => putDocuments(queries, generations, live, documents, rows),
    );
    this.grow(documents.length - replaced);
    return { inserted: documents.length - replaced, replaced };
  }

  /** Stores with vectors of the generation that is live in the same transaction. */
  private async embedAndStore<T>(
    texts: readonly string[],
    options: InferenceOptions,
    put: (queries: Queries, generations: Generation[], live: number, rows: Float32Array[]) => Promise<T>,
  ): Promise<T> {
    for (;;) {
      const { id: generation, inference } = this.live;
      const vectors = await inference.encode(texts, options);
      const rows = unitRows(vectors, texts.length, inference.dimensions);
      const stored = await this.database.transaction(async (queries) => {
        const generations = await sharedGenerations(queries);
        const live = generations.find(({ state }) => state === 'live');
        if (live?.id !== generation) return undefined;
        return { result: await put(queries, generations, generation, rows) };
      });
      if (stored) return stored.result;
      // Another generation went live meanwhile, and these vectors are not its own.
      await this.refresh();
    }
  }

  private grow(documents: number): void {
    this.grown += documents;
    this.follow();
  }

  async get(id: string): Promise<Document | undefined> {
    if (id.includes(NUL)) return undefined;
    const [row] = await this.database.query<DocumentRow>(
      'SELECT id, text, metadata FROM documents WHERE id = $1',
      [id],
    );
    return row && toDocument(row);
  }

  async existing(ids: readonly string[]): Promise<Set<string>> {
    const rows = await this.database.query<{ id: string }>('SELECT id FROM documents WHERE id = ANY ($1)', [
      ids.filter((id) => !id.includes(NUL)),
    ]);
    return new Set(rows.map(({ id }) => id));
  }

  async delete(id: string): Promise<boolean> {
    if (id.includes(NUL)) return false;
    const { wasQueued, wasStored } = await this.database.transaction(async (queries) => {
      const generations = await sharedGenerations(queries);
      // In this order: a worker may just be moving it from the one place to the other.
      const wasQueued = await unqueue(queries, id);
      return { wasQueued, wasStored: await removeDocument(queries, generations, id) };
    });
    if (wasStored) this.grown--;
    return wasStored || wasQueued;
  }

  async list({ after = '', limit }: { after?: string; limit: number }): Promise<Document[]> {
    const rows = await this.database.query<DocumentRow>(
      'SELECT id, text, metadata FROM documents WHERE id > $1 ORDER BY id LIMIT $2',
      // No id has a NUL: what comes after "a\0b" is what comes after "a".
      [after.split(NUL, 1)[0], checkK(limit, 'limit')],
    );
    return rows.map(toDocument);
  }

  async search(request: SearchRequest): Promise<Hit[]> {
    const { query, k, mode, filter, signal } = request;
    const { generation = this.live, lexicalWeight = this.options.lexicalWeight ?? defaults.lexicalWeight } =
      request;
    checkText(query, 'query');
    checkK(k, 'k');
    checkWeight(lexicalWeight);
    // With a vector it is not somebody's search but a comparison of models.
    if (!request.vector) this.remember(query);
    const { inference } = generation;
    const vector =
      mode === 'lexical'
        ? undefined
        : unitRows(
            request.vector ?? (await inference.encode([query], { signal })),
            1,
            inference.dimensions,
          )[0];
    const exclude = request.exclude?.filter((id) => !id.includes(NUL));
    const start = performance.now();
    const hits = await search(this.database, {
      ...{ generation: generation.id, query, vector, k, mode, lexicalWeight, filter, exclude },
      through: this.indexes.through(generation.id, this.documents, denseWanted({ mode, k })),
    }).catch(sayIfDropped(generation));
    this.options.observer?.searched({ mode, start, end: performance.now() });
    signal?.throwIfAborted();
    return hits;
  }

  async duplicatePairs(options: {
    threshold: number;
    limit: number;
    signal?: AbortSignal;
  }): Promise<DuplicatePair[]> {
    const threshold = checkThreshold(options.threshold);
    const limit = checkK(options.limit, 'limit');
    options.signal?.throwIfAborted();
    return pairs(this.database, this.live.id, threshold, limit);
  }

  /** There is no thread here that could hang, and starting this server again brings no PostgreSQL back. */
  async answers(): Promise<void> {}

  info(): CollectionInfo {
    const { id, model, inference } = this.live;
    const { fingerprint, dimensions } = inference;
    const vectors = this.documents;
    return {
      documents: vectors,
      generation: { model, fingerprint, dimensions },
      index: {
        kind: this.indexes.through(id, vectors, 1) ? 'hnsw' : 'exact',
        vectors,
        building: this.indexes.isBuilding(id, vectors),
      },
    };
  }

  async prepare(model: { inference: Inference; job?: number; source?: string }): Promise<ServedGeneration> {
    const { inference, job, source } = model;
    const { name, fingerprint, dimensions } = inference;
    const { id } = await this.database.transaction(async (queries) => {
      await holdGenerations(queries);
      const same = (await allGenerations(queries)).find((each) => each.fingerprint === fingerprint);
      if (same && (same.state === 'live' || same.job !== (job ?? null)))
        throw new UserError('exists', `${same.model} (${same.state}) makes the same vectors`);
      return same ?? createGeneration(queries, { name, fingerprint, dimensions, job, source });
    });
    const served = { id, model: name, inference };
    this.loaded.set(id, served);
    this.building.add(id);
    await this.recount();
    return served;
  }

  async embedMissing(served: ServedGeneration, options: EmbedMissingOptions = {}): Promise<void> {
    const { share = 1, signal, onProgress } = options;
    const total = await countMissing(this.database, served.id);
    let done = 0;
    let begin = performance.now();
    await embedAll(this.database, served.id, served.inference, {
      limit: FOLLOWING_DOCUMENTS,
      signal,
      onEmbedded: async (count) => {
        done += count;
        onProgress?.(done, Math.max(done, total));
        if (share < 1) await sleep((performance.now() - begin) * (1 / share - 1), undefined, { signal });
        begin = performance.now();
      },
    });
    this.building.delete(served.id);
    await this.recount();
  }

  async activate(served: ServedGeneration, signal?: AbortSignal): Promise<void> {
    if (served.id === this.live.id) return;
    await this.embedMissing(served, { signal }).catch(sayIfDropped(served));
    const switching = this.database.transaction(async (queries) => {
      await holdGenerations(queries);
      await embedAll(queries, served.id, served.inference, { limit: REEMBED_DOCUMENTS, signal });
      await putLive(queries, served.id);
      await queries.query(`NOTIFY ${CHANNEL}`);
    });
    await switching.catch(sayIfDropped(served));
    this.live = served;
    await this.lookAgain().catch(() => undefined);
    await this.recount();
  }

  override alone<T>(work: () => Promise<T>): Promise<T> {
    return this.database.withLock(SWITCH_LOCK, this.closing.signal, async () => {
      await this.lookAgain();
      return work();
    });
  }

  async discard(id: number): Promise<void> {
    if (id === this.live.id) return;
    await this.database.transaction(async (queries) => {
      await holdGenerations(queries);
      await dropGeneration(queries, id);
    });
    const served = this.loaded.get(id);
    if (served) this.release(served);
    await this.recount();
  }

  async sample(served: ServedGeneration, n: number): Promise<Float32Array> {
    const table = vectorsTable(served.id);
    const rows = await this.database.query<{ vector: string }>(
      `SELECT vector::text FROM (
         SELECT key, vector, row_number() OVER (ORDER BY key) - 1 AS place, count(*) OVER () AS total FROM ${table}) AS all_of
       WHERE place % greatest(1, total / $1::bigint) = 0 ORDER BY key LIMIT $1`,
      [n],
    );
    const { dimensions } = served.inference;
    const vectors = new Float32Array(rows.length * dimensions);
    rows.forEach(({ vector }, i) => vectors.set(parseVector(vector), i * dimensions));
    return vectors;
  }

  async addFeedback(feedback: readonly Feedback[]): Promise<void> {
    for (const { query, id } of feedback) checkCharacters({ id, text: query });
    await addFeedback(this.database, feedback);
  }

  relevant(part: Part): Promise<{ query: string; id: string; text: string }[]> {
    return relevant(this.database, part);
  }

  feedbackCounts(): Promise<FeedbackCounts> {
    return feedbackCounts(this.database);
  }

  jobs(): Promise<JobRecord[]> {
    return allJobs(this.database);
  }

  changesSinceLastJob(): Promise<number> {
    return changesSinceLastJob(this.database);
  }

  addJob(request: unknown): Promise<JobRecord> {
    return addJob(this.database, request);
  }

  changeJob(job: JobKnown, change: JobChange): Promise<boolean> {
    return changeJob(this.database, job, change);
  }

  jobBoard(folders: JobFolders): JobBoard {
    return new PostgresBoard(this.database, folders, (message) => this.log?.(message));
  }

  async close(): Promise<void> {
    this.closing.abort();
    await this.listener.close();
    await this.following;
    await this.refreshing?.catch(() => undefined);
    await this.indexes.close();
    await this.database.close();
    await this.closeOthers();
  }
}

const UNDEFINED_TABLE = '42P01';

/** A generation that another server has dropped has no table any more. */
function isDropped(error: unknown): boolean {
  return (error as { code?: string }).code === UNDEFINED_TABLE;
}

function sayIfDropped({ model }: ServedGeneration): (error: unknown) => never {
  return (error) => {
    if (!isDropped(error)) throw error;
    throw new UserError(
      'unavailable',
      `the generation of ${model} was dropped meanwhile; send the request again`,
    );
  };
}
