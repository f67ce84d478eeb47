import type { Inference } from '../batching/inference.js';
import type { JobBoard } from '../jobs/board.js';
import type { JobFolders } from '../jobs/folders.js';
import type { Feedback, FeedbackCounts, Part } from './feedback-table.js';
import type { Ingests } from './ingests.js';
import type { JobChange, JobKnown, JobRecord } from './job-table.js';

/**
 * What the routes know of the collection: documents in, hits out. SQLite is the durable truth, the
 * HNSW file is derived from it (docs/ARCHITECTURE.md, generations).
 */
export interface Document {
  id: string;
  text: string;
  /** Flat JSON values, filterable by equality and by range. */
  metadata?: Metadata;
}

export type Metadata = Record<string, string | number | boolean | null | string[]>;

/** {"field": value} is equality; {"field": {"in": [...]}}, {"gte": 1}, {"lt": 5}, {"ne": "x"} compare. All must hold. */
export type Filter = Record<
  string,
  | string
  | number
  | boolean
  | null
  | Partial<Record<'eq' | 'ne' | 'gt' | 'gte' | 'lt' | 'lte', string | number | boolean>>
  | { in: (string | number | boolean)[] }
>;

export interface Hit extends Document {
  /** Cosine similarity for `dense`, negated BM25 as SQLite's FTS5 gives it for `lexical`, a weighted sum for `hybrid`. */
  score: number;
}

export type SearchMode = 'dense' | 'lexical' | 'hybrid';

export interface SearchRequest {
  query: string;
  /** 1 and up; more than the collection holds is not an error. */
  k: number;
  mode: SearchMode;
  /** What words weigh next to the cosine in `hybrid`: 0 to 1, the server's own unless given. */
  lexicalWeight?: number;
  filter?: Filter;
  /** Left out of the ranking: a query that is itself in the collection. */
  exclude?: string[];
  /** Default: the live one. */
  generation?: ServedGeneration;
  /** The query's vector, by the generation's own model, when it is there already. */
  vector?: Float32Array;
  signal?: AbortSignal;
}

/** A generation that answers requests: its vectors are loaded, and so is the model that made them. */
export interface ServedGeneration {
  id: number;
  /** The model's name. */
  model: string;
  inference: Inference;
}

export interface GenerationInfo {
  id: number;
  model: string;
  fingerprint: string;
  dimensions: number;
  /** building: beside the live one, which it may follow. retired: the one before it, kept for a rollback. */
  state: 'building' | 'live' | 'retired';
  /** The training job that made the model. */
  job?: number;
  /** What --model said, where no job made it. */
  source?: string;
  /** ISO 8601. */
  created: string;
  /** Whether requests may name it. */
  served: boolean;
  vectors: number;
}

export interface DuplicatePair {
  a: Document;
  b: Document;
  score: number;
}

export interface CollectionInfo {
  documents: number;
  generation: { model: string; fingerprint: string; dimensions: number };
  index: {
    kind: 'exact' | 'hnsw';
    vectors: number;
    building: boolean;
    /** Of the graph, on the last sampled queries; undefined until there are enough, and where search is exact. */
    recallAt10?: number;
  };
}

export interface Collection {
  /**
   * Embeds and stores; when the promise resolves the documents survive kill -9. An id that is there
   * is replaced. Concurrent calls are grouped into one transaction.
   */
  upsert(
    documents: readonly Document[],
    signal?: AbortSignal,
  ): Promise<{ inserted: number; replaced: number }>;
  get(id: string): Promise<Document | undefined>;
  /** Those of the ids that there is a document of. */
  existing(ids: readonly string[]): Promise<Set<string>>;
  /** Whether there was such a document. Durable when it is answered. */
  delete(id: string): Promise<boolean>;
  /** Documents in the order of their ids, after `after` (exclusive). */
  list(options: { after?: string; limit: number }): Promise<Document[]>;
  search(request: SearchRequest): Promise<Hit[]>;
  /** Hits with score >= threshold, best first. */
  duplicatesOf(
    text: string,
    options: {
      threshold: number;
      k: number;
      filter?: Filter;
      generation?: ServedGeneration;
      signal?: AbortSignal;
    },
  ): Promise<Hit[]>;
  /** Pairs already in the collection with score >= threshold, best first, each pair once. */
  duplicatePairs(options: {
    threshold: number;
    limit: number;
    signal?: AbortSignal;
  }): Promise<DuplicatePair[]>;
  /** Resolves when what searches answers, whatever else it is asked: a thread that hangs does not. */
  answers(signal: AbortSignal): Promise<void>;
  /** At once, of what is known here: a store that others write to as well may be a moment ahead of it. */
  info(): CollectionInfo;
  /**
   * The generation of a model's name, of two with that name the live one; the live one without.
   * @throws UserError `not-found`, naming those that are served
   */
  served(model?: string): ServedGeneration;
  /** The generation of an id: names need not be unique. @throws UserError `not-found` when it is not served */
  servedAs(id: number): ServedGeneration;
  generations(): GenerationInfo[];
  /** Documents that are embedded behind the answer, where other processes can do that. */
  readonly ingests?: Ingests;
  /** Writes the index beside the database and closes both. */
  close(): Promise<void>;
}

export interface EmbedMissingOptions {
  /** Of the time; the rest is left to others. Default 1. */
  share?: number;
  signal?: AbortSignal;
  onProgress?: (done: number, total: number) => void;
}

/** A collection whose model can follow another one, and what is kept for that beside the documents. */
export interface TrainableCollection extends Collection {
  /**
   * Loads a generation for a model beside the live one, made when there is none of its fingerprint.
   * @throws UserError `exists` when another one, the live one above all, is of that fingerprint
   */
  prepare(model: { inference: Inference; job?: number; source?: string }): Promise<ServedGeneration>;
  /**
   * Has another copy of the same model compute a generation's vectors from here on; the one before is closed when requests
   * in flight are through.
   */
  exchange(generation: ServedGeneration, inference: Inference): ServedGeneration;
  /** Gives a generation the vectors that it lacks. */
  embedMissing(generation: ServedGeneration, options?: EmbedMissingOptions): Promise<void>;
  /**
   * Puts a generation live, whole: what it lacks is embedded first, writes wait for the last of it, searches never.
   * The one that was stays served; the one before that is dropped.
   * @throws UserError `unavailable` when another process has dropped it meanwhile
   */
  activate(generation: ServedGeneration, signal?: AbortSignal): Promise<void>;
  /** Does a switch alone, among all processes that have the collection open: `generations()` is the truth when it begins. */
  alone<T>(work: () => Promise<T>): Promise<T>;
  /** Forgets a generation that is not live. */
  discard(id: number): Promise<void>;
  /** The vectors (length 1) of up to n documents, spread over the collection: rows of n x d. */
  sample(generation: ServedGeneration, n: number): Promise<Float32Array>;
  /** Up to some hundred texts that were searched for since the start, the latest last. */
  recentQueries(): readonly string[];

  /** Durable when it is answered. */
  addFeedback(feedback: readonly Feedback[]): Promise<void>;
  /** What was found relevant and is still there, by query. */
  relevant(part: Part): Promise<{ query: string; id: string; text: string }[]>;
  feedbackCounts(): Promise<FeedbackCounts>;

  jobs(): Promise<JobRecord[]>;
  /** Documents and feedback that came since the last job was added. */
  changesSinceLastJob(): Promise<number>;
  addJob(request: unknown): Promise<JobRecord>;
  /** @returns false when it is not any more as it is given: another process has changed it, and nothing was done */
  changeJob(job: JobKnown, change: JobChange): Promise<boolean>;
  /** Where several processes have the collection, and any of them may be asked for jobs. */
  jobBoard?(folders: JobFolders): JobBoard;
}
