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
  signal?: AbortSignal;
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
  get(id: string): Document | undefined;
  /** Whether there was such a document. Durable when it is answered. */
  delete(id: string): Promise<boolean>;
  /** Documents in the order of their ids, after `after` (exclusive). */
  list(options: { after?: string; limit: number }): Document[];
  search(request: SearchRequest): Promise<Hit[]>;
  /** Hits with score >= threshold, best first. */
  duplicatesOf(
    text: string,
    options: { threshold: number; k: number; filter?: Filter; signal?: AbortSignal },
  ): Promise<Hit[]>;
  /** Pairs already in the collection with score >= threshold, best first, each pair once. */
  duplicatePairs(options: {
    threshold: number;
    limit: number;
    signal?: AbortSignal;
  }): Promise<DuplicatePair[]>;
  info(): CollectionInfo;
  /** Writes the index beside the database and closes both. */
  close(): Promise<void>;
}
