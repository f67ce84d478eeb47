import { mkdirSync } from 'node:fs';

import { UserError } from '../../base/errors.js';
import { fileError } from '../../base/files.js';
import type { Document, DuplicatePair, Filter, Hit, Metadata, SearchMode } from './collection.js';
import { compileFilter } from './filter.js';
import { fuse, HYBRID_CANDIDATES } from './hybrid.js';
import { VectorIndex } from './vector-index.js';
import { lockFolder } from './lock.js';
import { databaseFile, Store, type Change, type Generation, type Write } from './store.js';
import type { Scored } from './vectors.js';

export interface ModelIdentity {
  name: string;
  fingerprint: string;
  dimensions: number;
}

export interface EngineOptions {
  dataDir: string;
  model: ModelIdentity;
  /** Make vectors with `model` beside the live ones when those are of another fingerprint. */
  reembed: boolean;
  /** See VectorIndexOptions. */
  exactUpTo?: number;
  recall?: number;
  onMeasured?: () => void;
  log?: (message: string) => void;
}

/** A search with its query embedded already. `vector` has length 1; lexical search needs none. */
export interface EngineSearch {
  query: string;
  vector?: Float32Array;
  k: number;
  mode: SearchMode;
  /** See `fuse`. */
  lexicalWeight: number;
  filter?: Filter;
  exclude?: readonly string[];
}

/**
 * The collection behind its thread: the store, the vectors of the live generation and the documents'
 * metadata in memory. A write reaches SQLite first and memory after it.
 */
export class SearchEngine {
  private readonly metadata = new Map<number, Metadata>();
  private index: VectorIndex | undefined;

  private constructor(
    private readonly options: EngineOptions,
    private readonly unlock: () => void,
    private readonly store: Store,
    private generation: Generation,
  ) {}

  /**
   * Opens the folder. While documents lack vectors of this generation (`missing`), add them; then
   * `activate`, and the engine answers.
   *
   * @throws UserError `fingerprint-mismatch` when the live vectors are another encoder's
   */
  static open(options: EngineOptions): SearchEngine {
    const { dataDir, model, reembed } = options;
    try {
      mkdirSync(dataDir, { recursive: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST')
        throw new UserError('invalid', `${dataDir}: expected a folder, found a file`, { cause: error });
      throw fileError(error, dataDir, 'write');
    }
    const unlock = lockFolder(dataDir);
    try {
      const store = new Store(databaseFile(dataDir));
      try {
        return new SearchEngine(options, unlock, store, chooseGeneration(store, model, reembed));
      } catch (error) {
        store.close();
        throw error;
      }
    } catch (error) {
      unlock();
      throw error;
    }
  }

  countMissing(): number {
    return this.store.countMissing(this.generation.id);
  }

  missing(after: number, limit: number): { key: number; text: string }[] {
    return this.store.missing(this.generation.id, after, limit);
  }

  /** @param vectors n x d, row-major, any length */
  addMissing(keys: readonly number[], vectors: Float32Array): void {
    const rows = unitRows(vectors, keys.length, this.generation.dimensions);
    this.store.addVectors(
      this.generation.id,
      keys.map((key, i) => ({ key, vector: rows[i] })),
    );
  }

  /** Puts the generation live if it isn't, and loads it. */
  async activate(): Promise<void> {
    if (this.generation.state !== 'live') this.store.activate(this.generation.id);
    this.generation = { ...this.generation, state: 'live' };
    const { dataDir, exactUpTo, recall, onMeasured, log } = this.options;
    const { fingerprint, dimensions } = this.generation;
    const identity = { fingerprint, dimensions };
    this.index = new VectorIndex({ folder: dataDir, identity, exactUpTo, recall, onMeasured, log });
    await this.index.load(this.store.vectors(this.generation.id));
    for (const { key, metadata } of this.store.metadata()) this.metadata.set(key, metadata);
  }

  status(): {
    documents: number;
    hnsw: boolean;
    building: boolean;
    recallAt10: number | undefined;
    generation: Generation;
  } {
    const index = this.loaded;
    return {
      documents: index.size,
      hnsw: index.kind === 'hnsw',
      building: index.building,
      recallAt10: index.measuredRecall,
      generation: this.generation,
    };
  }

  /** One transaction for all; durable, and found by every later search, on return. */
  write(writes: readonly Write[]): Change[][] {
    const changes = this.store.write(this.generation.id, writes);
    for (const change of changes.flat()) this.follow(change);
    return changes;
  }

  search({ query, vector, k, mode, lexicalWeight, filter, exclude = [] }: EngineSearch): Hit[] {
    const excluded = new Set<number>();
    for (const id of exclude) {
      const key = this.store.keyOf(id);
      if (key !== undefined) excluded.add(key);
    }
    const among = filter && this.survivors(filter);
    const wanted = Math.min(k, this.loaded.size) + excluded.size;
    const ranking = this.rank({ query, vector, k: wanted, mode, lexicalWeight, among });
    const hits: Hit[] = [];
    for (const { key, score } of ranking) {
      if (hits.length === k) break;
      if (!excluded.has(key)) hits.push({ ...this.document(key), score });
    }
    return hits;
  }

  /** See VectorIndex.pairs. */
  async pairs(threshold: number, limit: number, signal: AbortSignal): Promise<DuplicatePair[]> {
    const pairs = await this.loaded.pairs(threshold, limit, signal);
    return pairs.flatMap(({ a, b, score }) => {
      const [first, second] = [this.store.document(a), this.store.document(b)];
      return first && second ? [{ a: first, b: second, score }] : [];
    });
  }

  /** Resolves when the index has caught up with the writes and its file is written. */
  async settled(): Promise<void> {
    await this.loaded.settled();
  }

  async close(): Promise<void> {
    try {
      await this.index?.close();
    } finally {
      this.store.close();
      this.unlock();
    }
  }

  private rank(search: {
    query: string;
    vector?: Float32Array;
    k: number;
    mode: SearchMode;
    lexicalWeight: number;
    among?: ReadonlySet<number>;
  }): Scored[] {
    const { query, vector, k, mode, lexicalWeight, among } = search;
    if (k < 1) return [];
    const accept = among && ((key: number): boolean => among.has(key));
    if (mode === 'lexical') return this.store.lexical(query, k, accept);
    if (!vector) throw new Error(`${mode} search needs the query's vector`);
    if (mode === 'dense') return this.loaded.search(vector, k, among);
    const candidates = Math.max(k, HYBRID_CANDIDATES);
    return fuse(
      this.loaded.search(vector, candidates, among),
      this.store.lexical(query, candidates, accept),
      (key) => this.loaded.score(vector, key),
      lexicalWeight,
    ).slice(0, k);
  }

  private survivors(filter: Filter): Set<number> {
    const matches = compileFilter(filter);
    const survivors = new Set<number>();
    for (const key of this.loaded.keys()) if (matches(this.metadata.get(key))) survivors.add(key);
    return survivors;
  }

  private follow(change: Change): void {
    const gone = 'removed' in change ? change.removed : change.replaced;
    if (gone !== undefined) {
      this.loaded.remove(gone);
      this.metadata.delete(gone);
    }
    if ('added' in change) {
      this.loaded.add(change.added, change.document.vector);
      if (change.document.metadata) this.metadata.set(change.added, change.document.metadata);
    }
  }

  private document(key: number): Document {
    const document = this.store.document(key);
    if (!document) throw new Error(`the index holds key ${key}, which the store does not`);
    return document;
  }

  private get loaded(): VectorIndex {
    if (!this.index) throw new Error('the engine is not active yet');
    return this.index;
  }
}

/** The generation whose vectors are this model's: the live one, one to go on building, or an added one. */
function chooseGeneration(store: Store, model: ModelIdentity, reembed: boolean): Generation {
  const generations = store.generations();
  const live = generations.find((g) => g.state === 'live');
  const ours = generations.find((g) => g.fingerprint === model.fingerprint);
  if (live && live !== ours && !reembed)
    throw new UserError(
      'fingerprint-mismatch',
      `the collection's vectors were made by ${live.model} (${live.fingerprint.slice(0, 12)}), the model is ${model.name} (${model.fingerprint.slice(0, 12)}), and vectors of two encoders can't be compared. Start with --reembed to embed the collection with ${model.name}, or with --model ${live.model} and the --precision of then`,
    );
  return ours ?? store.createGeneration(model);
}

/**
 * The rows of a matrix, each scaled to length 1.
 *
 * @throws UserError `backend` for a vector that has no direction: NaN, infinite or zero
 */
export function unitRows(vectors: Float32Array, n: number, d: number): Float32Array[] {
  if (vectors.length !== n * d)
    throw new UserError(
      'backend',
      `the encoder returned ${vectors.length} numbers for ${n} texts of ${d} dimensions`,
    );
  return Array.from({ length: n }, (_, i) => {
    const row = vectors.subarray(i * d, (i + 1) * d);
    let squares = 0;
    for (const x of row) squares += x * x;
    const norm = Math.sqrt(squares);
    if (!(norm > 0 && norm < Infinity))
      throw new UserError(
        'backend',
        `the encoder returned a vector of length ${norm} for text ${i + 1} of ${n}`,
      );
    return row.map((x) => x / norm);
  });
}
