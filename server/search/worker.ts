import { UserError } from '../../base/errors.js';
import { answerCalls, emitEvent, type CallContext, type Handlers } from '../threads.js';
import type { Document, DuplicatePair, Hit } from './collection.js';
import { SearchEngine, unitRows, type EngineOptions, type EngineSearch } from './engine.js';
import type { Feedback, FeedbackCounts, Part } from './feedback-table.js';
import type { JobChange, JobKnown, JobRecord } from './job-table.js';
import { sqliteError } from './schema.js';
import { databaseFile, type Change, type Generation, type GenerationModel, type Write } from './store.js';

/** More documents than this are not merged into one transaction: searches wait while it runs. */
const GROUP_DOCUMENTS = 1000;

interface Pending {
  write: Write;
  resolve(changes: Change[]): void;
  reject(error: unknown): void;
}

let engine: SearchEngine | undefined;
/** For messages about it. */
let database = '';
let pending: Pending[] = [];

function opened(): SearchEngine {
  if (!engine) throw new UserError('not-ready', 'the collection is not open');
  return engine;
}

/** Group commit: all writes that came in while the last transaction ran go into the next. */
function commit(write: Write): Promise<Change[]> {
  return new Promise((resolve, reject) => {
    pending.push({ write, resolve, reject });
    if (pending.length === 1) setImmediate(commitPending);
  });
}

function commitPending(): void {
  // `flip` or `close` was faster.
  if (pending.length === 0) return;
  const writes = pending;
  pending = [];
  for (const group of groups(writes)) commitGroup(group);
  report();
  reportWhenSettled();
}

function commitGroup(group: Pending[]): void {
  try {
    const changes = opened().write(group.map(({ write }) => write));
    group.forEach(({ resolve }, i) => resolve(changes[i]));
  } catch (error) {
    // What one is refused for, the others need not be: a deletion makes the room that a document lacks.
    if (group.length > 1) for (const one of group) commitGroup([one]);
    else for (const { reject } of group) reject(error);
  }
}

/** One write is never split over two transactions, so each is stored whole or not at all. */
function* groups(writes: Pending[]): Generator<Pending[]> {
  let group: Pending[] = [];
  let documents = 0;
  for (const item of writes) {
    const size = 'put' in item.write ? item.write.put.length : 1;
    if (group.length > 0 && documents + size > GROUP_DOCUMENTS) {
      yield group;
      group = [];
      documents = 0;
    }
    group.push(item);
    documents += size;
  }
  yield group;
}

/** What `info` answers on the other side without asking. */
export interface StatusEvent {
  status: ReturnType<SearchEngine['status']>;
}

export interface LogEvent {
  log: string;
}

function report(): void {
  emitEvent({ status: opened().status() } satisfies StatusEvent);
}

let waitsForSettling = false;

function reportWhenSettled(): void {
  if (waitsForSettling) return;
  waitsForSettling = true;
  void opened()
    .settled()
    .then(() => {
      waitsForSettling = false;
      if (engine) report();
    });
}

const handlers = {
  async open(options: EngineOptions): Promise<void> {
    database = databaseFile(options.dataDir);
    engine = await SearchEngine.open({
      ...options,
      onMeasured: report,
      log: (message) => emitEvent({ log: message } satisfies LogEvent),
    });
  },

  /** @returns how many documents have no vector of the model yet */
  choose({ model, reembed }: { model: GenerationModel; reembed: boolean }): number {
    return opened().choose(model, reembed);
  },

  missing({ after, limit }: { after: number; limit: number }): { key: number; text: string }[] {
    return opened().missing(after, limit);
  },

  addMissing(input: { keys: number[]; vectors: Float32Array; generation?: number }): void {
    const { keys, vectors, generation } = input;
    opened().addMissing(keys, vectors, generation);
    if (generation !== undefined) report();
  },

  lacked(input: { generation: number; limit: number }): {
    documents: { key: number; text: string }[];
    count: number;
  } {
    return opened().lacked(input.generation, input.limit);
  },

  async prepare(model: GenerationModel): Promise<Generation> {
    const generation = await opened().prepare(model);
    report();
    return generation;
  },

  /** For whoever asks whether this thread answers. */
  answer(): void {},

  /** Resolves when every index has caught up with the writes. */
  settled(): Promise<void> {
    return opened().settled();
  },

  flip(generation: number): boolean {
    // What was answered before it has to be in both.
    commitPending();
    const flipped = opened().flip(generation);
    report();
    return flipped;
  },

  discard(generation: number): void {
    opened().discard(generation);
    report();
  },

  sample({ generation, n }: { generation: number; n: number }): Float32Array {
    return opened().sample(generation, n);
  },

  addFeedback(feedback: readonly Feedback[]): void {
    opened().store.feedback.add(feedback);
  },

  relevant(part: Part): { query: string; id: string; text: string }[] {
    return opened().store.feedback.relevant(part);
  },

  feedbackCounts(): FeedbackCounts {
    return opened().store.feedback.counts();
  },

  jobs(): JobRecord[] {
    return opened().store.jobs.all();
  },

  changesSinceLastJob(): number {
    return opened().store.jobs.changesSinceLast();
  },

  addJob(request: unknown): JobRecord {
    return opened().store.jobs.add(request);
  },

  changeJob({ job, change }: { job: JobKnown; change: JobChange }): boolean {
    return opened().store.jobs.change(job, change);
  },

  async activate(): Promise<void> {
    await opened().activate();
    report();
    reportWhenSettled();
  },

  /** @returns nothing when the vectors' generation is not live any more: nothing is stored then */
  async upsert(input: {
    documents: readonly Document[];
    vectors: Float32Array;
    generation: number;
  }): Promise<{ inserted: number; replaced: number } | undefined> {
    const { documents, vectors, generation } = input;
    const { live } = opened();
    if (live.id !== generation) return undefined;
    const rows = unitRows(vectors, documents.length, live.dimensions);
    const changes = await commit({ put: documents.map((document, i) => ({ ...document, vector: rows[i] })) });
    const replaced = changes.filter((change) => 'added' in change && change.replaced !== undefined).length;
    return { inserted: changes.length - replaced, replaced };
  },

  async remove(id: string): Promise<boolean> {
    return (await commit({ remove: id })).length > 0;
  },

  /** @returns nothing when the generation is not there any more */
  search(input: EngineSearch): Hit[] | undefined {
    if (input.generation !== undefined && !opened().has(input.generation)) return undefined;
    const vector = input.vector && unitRows(input.vector, 1, input.vector.length)[0];
    return opened().search({ ...input, vector });
  },

  pairs(
    { threshold, limit }: { threshold: number; limit: number },
    { signal }: CallContext,
  ): Promise<DuplicatePair[]> {
    return opened().pairs(threshold, limit, signal);
  },

  async close(): Promise<void> {
    commitPending();
    await engine?.close();
    engine = undefined;
  },
};

export type SearchHandlers = typeof handlers;

/** A read that meets a damaged page says so, and what to do. */
function saying(handler: Handlers[string]): Handlers[string] {
  return async (...call) => {
    try {
      return await handler(...call);
    } catch (error) {
      throw sqliteError(database, error);
    }
  };
}

answerCalls(
  Object.fromEntries(Object.entries<Handlers[string]>(handlers).map(([name, it]) => [name, saying(it)])),
);
