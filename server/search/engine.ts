import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';

import { UserError } from '../../base/errors.js';
import { fileError } from '../../base/files.js';
import type { Document, DuplicatePair, Filter, Hit, Metadata, SearchMode } from './collection.js';
import { Thread } from '../threads.js';
import type { CheckHandlers } from './check-worker.js';
import { compileFilter } from './filter.js';
import { fuse, HYBRID_CANDIDATES, without } from './hybrid.js';
import { VectorIndex } from './vector-index.js';
import { lockFolder } from './lock.js';
import { fingerprintMismatch } from './served.js';
import { refuseUnfinished } from './unfinished.js';
import {
  databaseFile,
  Store,
  type Change,
  type Generation,
  type GenerationModel,
  type Write,
} from './store.js';
import { checkFits, type KeyedVector, type Scored } from './vectors.js';

export interface EngineOptions {
  dataDir: string;
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
  /** Which vectors to look at. Default: the live ones. */
  generation?: number;
}

/** Vectors read at a time: some milliseconds, and searches get their turn. */
const PAGE_VECTORS = 1000;

/** Where a generation's index lies. */
export function indexFolder(dataDir: string, generation: number): string {
  return path.join(dataDir, 'generations', String(generation));
}

/**
 * The collection behind its thread: the store, the documents' metadata in memory, and the vectors of the live
 * generation, of one that is to follow it and of the one that it followed. A write reaches SQLite first and
 * memory after it; its vector is the live generation's, and others are given theirs soon after (`lacked`).
 */
export class SearchEngine {
  private readonly metadata = new Map<number, Metadata>();
  private readonly indexes = new Map<number, VectorIndex>();
  /** Of each loaded generation that is not live: keys of documents whose vectors it lacks. */
  private readonly lacking = new Map<number, Set<number>>();
  /** Indexes that are being filled. */
  private readonly loading = new Set<VectorIndex>();
  /** The live one; at the start, from `choose` to `activate`, the one that is to be. */
  private chosen: Generation | undefined;

  private constructor(
    private readonly options: EngineOptions,
    private readonly unlock: () => void,
    readonly store: Store,
  ) {}

  /**
   * Opens the folder and reads all that needs no model. Then `choose` one; while documents lack vectors of its
   * (`missing`), add them; then `activate`, and the engine answers.
   *
   * @throws UserError `unavailable` when another server has it open, `not-ready` where a migration into it is not finished,
   *   `corrupt`, `invalid` for a later version's
   */
  static async open(options: EngineOptions): Promise<SearchEngine> {
    const { dataDir } = options;
    try {
      mkdirSync(dataDir, { recursive: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST')
        throw new UserError('invalid', `${dataDir}: expected a folder, found a file`, { cause: error });
      throw fileError(error, dataDir, 'write');
    }
    const unlock = lockFolder(dataDir);
    const checker = new Thread<CheckHandlers>(new URL('./check-worker.js', import.meta.url), 'check');
    try {
      refuseUnfinished(dataDir);
      const file = databaseFile(dataDir);
      const store = new Store(file, options.log);
      try {
        const engine = new SearchEngine(options, unlock, store);
        // Side by side, for either takes half of what a start does.
        const results = await Promise.allSettled([checker.call('check', file), engine.read()]);
        for (const result of results) if (result.status === 'rejected') throw result.reason;
        return engine;
      } catch (error) {
        store.close();
        throw error;
      }
    } catch (error) {
      unlock();
      throw error;
    } finally {
      await checker.terminate();
    }
  }

  private async read(): Promise<void> {
    const live = this.store.generations().find(({ state }) => state === 'live');
    if (live) await this.load(live);
    for (const { key, metadata } of this.store.metadata()) this.metadata.set(key, metadata);
  }

  /**
   * The generation that is to be live is this model's.
   *
   * @param reembed make vectors with it beside the live ones when those are of another fingerprint
   * @returns how many documents have no vector of it yet
   * @throws UserError `fingerprint-mismatch` when the live vectors are another encoder's, `too-large` when this one's take too
   *   much room
   */
  choose(model: GenerationModel, reembed: boolean): number {
    this.chosen = chooseGeneration(this.store, model, reembed);
    const { id } = this.chosen;
    // A vector always belongs to a document.
    return this.store.countDocuments() - (this.indexes.get(id)?.size ?? this.store.countVectors(id));
  }

  missing(after: number, limit: number): { key: number; text: string }[] {
    return this.store.missing(this.generation.id, after, limit);
  }

  /**
   * @param vectors n x d, row-major, any length
   * @throws UserError `too-large` when there is no room: nothing is stored then
   */
  addMissing(keys: readonly number[], vectors: Float32Array, generation = this.generation.id): void {
    const { dimensions } = this.known(generation);
    const rows = unitRows(vectors, keys.length, dimensions);
    const index = this.indexes.get(generation);
    index?.reserve(keys.length);
    const added = new Set(
      this.store.addVectors(
        generation,
        keys.map((key, i) => ({ key, vector: rows[i] })),
      ),
    );
    const lacks = this.lacking.get(generation);
    keys.forEach((key, i) => {
      lacks?.delete(key);
      if (added.has(key)) index?.add(key, rows[i]);
    });
  }

  /** Some documents whose vectors a loaded generation lacks, and of how many it does. */
  lacked(generation: number, limit: number): { documents: { key: number; text: string }[]; count: number } {
    const lacks = this.lacking.get(generation) ?? new Set();
    const documents: { key: number; text: string }[] = [];
    for (const key of lacks) {
      if (documents.length === limit) break;
      documents.push({ key, text: found(this.store.document(key), key).text });
    }
    return { documents, count: lacks.size };
  }

  /** Puts the chosen generation live, if it isn't. */
  async activate(): Promise<void> {
    const { id, state } = this.generation;
    if (state !== 'live') {
      this.forget(this.store.activate(id));
      // Nobody has the model of the one before.
      const before = [...this.indexes.values()];
      this.indexes.clear();
      for (const index of before) await index.abandon();
    }
    this.chosen = this.known(id);
    if (!this.indexes.has(id)) await this.load(this.chosen);
    this.loaded().follow();
  }

  /**
   * A generation for a model, made when there is none of its fingerprint, and loaded beside the live one.
   *
   * @throws UserError `exists` when another one, the live one above all, is of that fingerprint; `too-large` when its vectors
   *   take too much room
   */
  async prepare(model: GenerationModel): Promise<Generation> {
    const same = this.store.generations().find((g) => g.fingerprint === model.fingerprint);
    if (same && (same.state === 'live' || same.job !== (model.job ?? null)))
      throw new UserError('exists', `${same.model} (${same.state}) makes the same vectors`);
    if (!same) checkFits(this.store.countDocuments(), model.dimensions);
    const generation = same ?? this.store.createGeneration(model);
    if (!this.indexes.has(generation.id)) await this.load(generation);
    const index = this.loaded(generation.id);
    index.follow();
    this.lacking.set(
      generation.id,
      new Set(
        this.loaded()
          .keys()
          .filter((key) => !index.has(key)),
      ),
    );
    return generation;
  }

  /**
   * Puts a loaded generation live, if it has all vectors. The one that was stays loaded.
   * @returns false when vectors are missing: nothing has changed then
   */
  flip(generation: number): boolean {
    if (generation === this.generation.id) return true;
    if (this.lacking.get(generation)?.size !== 0) return false;
    this.forget(this.store.activate(generation));
    this.lacking.delete(generation);
    this.lacking.set(this.generation.id, new Set());
    this.chosen = this.known(generation);
    return true;
  }

  /** Forgets a generation that is not live. */
  discard(generation: number): void {
    const found = this.store.generations().find(({ id }) => id === generation);
    if (!found || found.state === 'live') return;
    this.store.discard(generation);
    this.forget([found]);
  }

  /** The vectors of so many documents, of a generation: n x d. */
  sample(generation: number, n: number): Float32Array {
    const index = this.loaded(generation);
    const keys = index.keys();
    const step = Math.max(1, Math.floor(keys.length / n));
    const rows = keys.filter((_, i) => i % step === 0).slice(0, n);
    const { dimensions } = this.known(generation);
    const vectors = new Float32Array(rows.length * dimensions);
    rows.forEach((key, i) => vectors.set(index.vector(key), i * dimensions));
    return vectors;
  }

  private known(generation: number): Generation {
    const found = this.store.generations().find(({ id }) => id === generation);
    if (!found) throw new UserError('not-found', `there is no generation ${generation}`);
    return found;
  }

  private async load(generation: Generation): Promise<void> {
    const { dataDir, exactUpTo, recall, onMeasured, log } = this.options;
    const { id, fingerprint, dimensions, state } = generation;
    if (state === 'live') adoptIndex(dataDir, id);
    const folder = indexFolder(dataDir, id);
    mkdirSync(folder, { recursive: true });
    const index = new VectorIndex({
      folder,
      identity: { fingerprint, dimensions },
      exactUpTo,
      recall,
      onMeasured: () => {
        if (this.indexes.has(id)) onMeasured?.();
      },
      log,
    });
    this.loading.add(index);
    try {
      await index.load(this.pages(generation));
    } finally {
      this.loading.delete(index);
    }
    this.indexes.set(id, index);
  }

  private *pages(generation: Generation): Generator<KeyedVector[]> {
    for (let after = 0; ;) {
      const page = this.store.vectors(generation, after, PAGE_VECTORS);
      if (page.length === 0) return;
      yield page;
      after = page[page.length - 1].key;
    }
  }

  /** Lets go of what generations had in memory and on disk, beside SQLite. */
  private forget(generations: readonly Generation[]): void {
    for (const { id } of generations) {
      const index = this.indexes.get(id);
      this.indexes.delete(id);
      this.lacking.delete(id);
      const remove = (): void =>
        rmSync(indexFolder(this.options.dataDir, id), { recursive: true, force: true });
      if (index) void index.abandon().then(remove, remove);
      else remove();
    }
  }

  status(): {
    documents: number;
    hnsw: boolean;
    building: boolean;
    recallAt10: number | undefined;
    generation: Generation;
    generations: (Generation & { vectors: number })[];
  } {
    const index = this.loaded();
    return {
      documents: index.size,
      hnsw: index.kind === 'hnsw',
      building: index.building,
      recallAt10: index.measuredRecall,
      generation: this.generation,
      generations: this.store
        .generations()
        .map((generation) => ({ ...generation, vectors: this.indexes.get(generation.id)?.size ?? 0 })),
    };
  }

  get live(): Generation {
    return this.generation;
  }

  private get generation(): Generation {
    if (!this.chosen) throw new UserError('not-ready', 'the collection has no model yet');
    return this.chosen;
  }

  has(generation: number): boolean {
    return this.indexes.has(generation);
  }

  /**
   * Vectors of the live generation. One transaction for all; durable, and found by every later search, on return.
   * @throws UserError `too-large` when there is no room for what is new: nothing is stored then
   */
  write(writes: readonly Write[]): Change[][] {
    // Before they are durable: what memory could not follow would be found by nobody.
    this.loaded().reserve(this.countNew(writes));
    const changes = this.store.write(this.generation.id, writes);
    for (const change of changes.flat()) this.follow(change);
    return changes;
  }

  search(search: EngineSearch): Hit[] {
    const { query, vector, k, mode, lexicalWeight, filter, exclude = [], generation } = search;
    const index = this.loaded(generation);
    const excluded = new Set<number>();
    for (const id of exclude) {
      const key = this.store.keyOf(id);
      if (key !== undefined) excluded.add(key);
    }
    const among = filter && this.survivors(index, filter);
    const wanted = Math.min(k, index.size);
    const best = this.rank(index, { query, vector, k: wanted, mode, lexicalWeight, among, excluded });
    const documents = this.store.documents(best.map(({ key }) => key));
    return best.map(({ key, score }) => ({ ...found(documents.get(key), key), score }));
  }

  /** See VectorIndex.pairs. */
  async pairs(threshold: number, limit: number, signal: AbortSignal): Promise<DuplicatePair[]> {
    const pairs = await this.loaded().pairs(threshold, limit, signal);
    return pairs.flatMap(({ a, b, score }) => {
      const [first, second] = [this.store.document(a), this.store.document(b)];
      return first && second ? [{ a: first, b: second, score }] : [];
    });
  }

  /** Resolves when the index has caught up with the writes and its file is written. */
  async settled(): Promise<void> {
    await Promise.all([...this.indexes.values()].map((index) => index.settled()));
  }

  async close(): Promise<void> {
    try {
      await Promise.all([...this.indexes.values()].map((index) => index.close()));
    } finally {
      this.store.close();
      this.unlock();
    }
  }

  private rank(
    index: VectorIndex,
    search: {
      query: string;
      vector?: Float32Array;
      k: number;
      mode: SearchMode;
      lexicalWeight: number;
      among?: ReadonlySet<number>;
      excluded: ReadonlySet<number>;
    },
  ): Scored[] {
    const { query, vector, k, mode, lexicalWeight, among, excluded } = search;
    if (k < 1) return [];
    const accept = among && ((key: number): boolean => among.has(key));
    const lexical = (n: number): Scored[] =>
      without(excluded, this.store.lexical(query, n + excluded.size, accept), n);
    if (mode === 'lexical') return lexical(k);
    if (!vector) throw new Error(`${mode} search needs the query's vector`);
    const dense = (n: number): Scored[] =>
      without(excluded, index.search(vector, n + excluded.size, among), n);
    if (mode === 'dense') return dense(k);
    const candidates = Math.max(k, HYBRID_CANDIDATES);
    return fuse(
      dense(candidates),
      lexical(candidates).filter(({ key }) => index.has(key)),
      (key) => index.score(vector, key),
      lexicalWeight,
    ).slice(0, k);
  }

  private survivors(index: VectorIndex, filter: Filter): Set<number> {
    const matches = compileFilter(filter);
    const survivors = new Set<number>();
    for (const key of index.keys()) if (matches(this.metadata.get(key))) survivors.add(key);
    return survivors;
  }

  private countNew(writes: readonly Write[]): number {
    const ids = new Set<string>();
    for (const write of writes)
      if ('put' in write) for (const { id } of write.put) if (this.store.keyOf(id) === undefined) ids.add(id);
    return ids.size;
  }

  private follow(change: Change): void {
    const gone = 'removed' in change ? change.removed : change.replaced;
    if (gone !== undefined) {
      for (const index of [...this.indexes.values(), ...this.loading]) index.remove(gone);
      for (const lacks of this.lacking.values()) lacks.delete(gone);
      this.metadata.delete(gone);
    }
    if ('added' in change) {
      this.loaded().add(change.added, change.document.vector);
      for (const lacks of this.lacking.values()) lacks.add(change.added);
      if (change.document.metadata) this.metadata.set(change.added, change.document.metadata);
    }
  }

  private loaded(generation = this.generation.id): VectorIndex {
    const index = this.indexes.get(generation);
    if (!index) throw new Error(`generation ${generation} is not loaded`);
    return index;
  }
}

function found(document: Document | undefined, key: number): Document {
  if (!document) throw new Error(`the index holds key ${key}, which the store does not`);
  return document;
}

/** An index of the time when there was one generation, beside the database, is the live one's. */
function adoptIndex(dataDir: string, generation: number): void {
  const folder = indexFolder(dataDir, generation);
  if (!existsSync(path.join(dataDir, 'index.json')) || existsSync(folder)) return;
  mkdirSync(folder, { recursive: true });
  for (const name of readdirSync(dataDir))
    if (name === 'index.json' || /^hnsw-.*\.bin$/.test(name))
      renameSync(path.join(dataDir, name), path.join(folder, name));
}

/** The generation whose vectors are this model's: the live one, one to go on building, or an added one. */
function chooseGeneration(store: Store, model: GenerationModel, reembed: boolean): Generation {
  const generations = store.generations();
  const live = generations.find((g) => g.state === 'live');
  const ours = generations.find((g) => g.fingerprint === model.fingerprint);
  if (live && live !== ours && !reembed) throw fingerprintMismatch(live, model);
  if (ours && ours.dimensions !== model.dimensions)
    throw new UserError(
      'corrupt',
      `the collection says that ${ours.model} has ${ours.dimensions} dimensions, it has ${model.dimensions}. Restore the collection from a backup`,
    );
  // The same model may lie elsewhere today.
  if (ours && model.source !== undefined) store.setSource(ours.id, model.source);
  if (ours) return ours;
  checkFits(store.countDocuments(), model.dimensions);
  return store.createGeneration(model);
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
    for (let j = 0; j < d; j++) squares += row[j] * row[j];
    const norm = Math.sqrt(squares);
    if (!(norm > 0 && norm < Infinity))
      throw new UserError(
        'backend',
        `the encoder returned a vector of length ${norm} for text ${i + 1} of ${n}`,
      );
    const unit = new Float32Array(d);
    for (let j = 0; j < d; j++) unit[j] = row[j] / norm;
    return unit;
  });
}
