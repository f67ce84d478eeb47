import { setImmediate as nextTurn } from 'node:timers/promises';

import { messageOf } from '../../base/errors.js';
import { HnswGraph, type HnswIdentity } from './hnsw.js';
import { TopK } from './top-k.js';
import { VectorTable, type Scored } from './vectors.js';

/** Up to this many vectors exact search is as fast as the graph and needs no building (bench/search.ts). */
export const EXACT_UP_TO = 20_000;
/** More neighbours than this are found faster by exact search. */
const GRAPH_UP_TO_K = 500;
/** A graph with more deleted nodes than this is built again. */
const REBUILD_AT_DELETED_SHARE = 0.3;
/** How long building holds the thread before a search gets its turn. */
const SLICE_MS = 8;
/** The graph file is written again when this share of it is not in the file yet. */
const SAVE_AT_CHANGED_SHARE = 0.2;
/** How many neighbours of one vector the search for pairs looks at through the graph. */
const MAX_NEIGHBOURS = 256;

export interface Pair {
  a: number;
  b: number;
  score: number;
}

export interface VectorIndexOptions {
  /** Where the graph file and its manifest lie. */
  folder: string;
  identity: HnswIdentity;
  exactUpTo?: number;
  log?: (message: string) => void;
}

/**
 * Vectors in memory, searched exactly while few and through an HNSW graph when many. The graph follows
 * the table in the background, in short slices; until it has caught up, what it lacks is searched
 * exactly, so that a vector can be found from the moment `add` returns.
 */
export class VectorIndex {
  private readonly table: VectorTable;
  private readonly exactUpTo: number;
  private graph: HnswGraph | undefined;
  /** Keys in the table that the graph does not hold yet. */
  private readonly pending = new Set<number>();
  /** Keys deleted while the graph is being written, when it must not change. */
  private readonly deletedWhileSaving: number[] = [];
  private changedSinceSave = 0;
  private saving = false;
  private working: Promise<void> | undefined;
  private closing = false;

  constructor(private readonly options: VectorIndexOptions) {
    this.table = new VectorTable(options.identity.dimensions);
    this.exactUpTo = options.exactUpTo ?? EXACT_UP_TO;
  }

  /** Fills the table from the truth, loads the graph file when it is whole and of this generation, catches up. */
  async load(vectors: Iterable<{ key: number; vector: Float32Array }>): Promise<void> {
    for (const { key, vector } of vectors) this.table.add(key, vector);
    if (this.table.size > this.exactUpTo) {
      const { folder, identity, log } = this.options;
      const loaded = await HnswGraph.load(folder, identity, this.table);
      if ('graph' in loaded) this.graph = loaded.graph;
      else log?.(`building the search index over ${this.table.size} vectors: ${loaded.reason}`);
    }
    for (const key of this.table.allKeys()) if (!this.graph?.has(key)) this.pending.add(key);
    this.changedSinceSave = this.pending.size;
    this.catchUp();
  }

  get size(): number {
    return this.table.size;
  }

  get kind(): 'exact' | 'hnsw' {
    return this.usesGraph ? 'hnsw' : 'exact';
  }

  /** Whether the graph is still being built or is catching up. */
  get building(): boolean {
    return this.wantsGraph && this.pending.size > 0;
  }

  keys(): readonly number[] {
    return this.table.allKeys();
  }

  vector(key: number): Float32Array {
    return this.table.vector(key);
  }

  score(query: Float32Array, key: number): number {
    return this.table.score(query, key);
  }

  add(key: number, vector: Float32Array): void {
    this.table.add(key, vector);
    this.pending.add(key);
    this.changedSinceSave++;
    this.catchUp();
  }

  remove(key: number): void {
    if (!this.table.remove(key)) return;
    this.changedSinceSave++;
    if (this.pending.delete(key)) return;
    if (this.saving) this.deletedWhileSaving.push(key);
    else this.graph?.remove(key);
    this.catchUp();
  }

  /**
   * The k nearest, best first, with exact cosines.
   *
   * @param among only these keys
   */
  search(query: Float32Array, k: number, among?: ReadonlySet<number>): Scored[] {
    const wanted = Math.min(k, this.table.size);
    if (wanted < 1) return [];
    if (among && (among.size <= this.exactUpTo || !this.usesGraph))
      return this.table.searchAmong(query, wanted, among);
    if (!this.usesGraph || !this.graph || wanted > GRAPH_UP_TO_K) return this.table.search(query, wanted);
    const found = this.graph.search(query, wanted, among && ((key) => among.has(key)));
    const candidates = new Set<number>();
    for (const { key } of found) if (this.table.has(key)) candidates.add(key);
    for (const key of this.pending) if (!among || among.has(key)) candidates.add(key);
    return this.table.searchAmong(query, wanted, candidates);
  }

  /**
   * All pairs with cosine >= threshold, each once, the `limit` best. Exact while the search is; through
   * the graph, a vector's nearest MAX_NEIGHBOURS are looked at.
   *
   * Takes turns with other work. Vectors that come or go meanwhile may or may not be in a pair.
   */
  async pairs(threshold: number, limit: number, signal: AbortSignal): Promise<Pair[]> {
    // Through the graph a pair can be found from either side, so up to twice.
    const top = new TopK<[number, number]>(2 * limit);
    const offer = (a: number, b: number, score: number): void => {
      if (score >= threshold && score > top.floor) top.offer(score, a < b ? [a, b] : [b, a]);
    };
    let sliceEnds = performance.now() + SLICE_MS;
    for (const a of [...this.table.allKeys()]) {
      if (performance.now() > sliceEnds) {
        await nextTurn();
        signal.throwIfAborted();
        sliceEnds = performance.now() + SLICE_MS;
      }
      if (!this.table.has(a)) continue;
      if (this.usesGraph)
        for (const { key, score } of this.neighbours(this.table.vector(a), threshold)) {
          if (key !== a) offer(a, key, score);
        }
      else this.table.scanAfter(a, (score, b) => offer(a, b, score));
    }
    const pairs = new Map<string, Pair>();
    for (const { item, score } of top.sorted((x, y) => x[0] - y[0] || x[1] - y[1]))
      pairs.set(item.join(), { a: item[0], b: item[1], score });
    return [...pairs.values()].slice(0, limit);
  }

  /** The nearest vectors, as many as reach the threshold, MAX_NEIGHBOURS at most. */
  private neighbours(vector: Float32Array, threshold: number): Scored[] {
    for (let k = 16; ; k *= 4) {
      const found = this.search(vector, k);
      if (found.length < k || found[k - 1].score < threshold || k >= MAX_NEIGHBOURS) return found;
    }
  }

  /** Writes the graph, finished or not, so that the next start goes on from it. */
  async close(): Promise<void> {
    this.closing = true;
    await this.working;
    if (this.graph && this.changedSinceSave > 0) await this.save(this.graph);
  }

  /** Resolves when the graph holds every vector and is on disk. */
  async settled(): Promise<void> {
    while (this.working) await this.working;
  }

  private get wantsGraph(): boolean {
    return this.table.size > this.exactUpTo;
  }

  /** Whether the graph covers enough: the rest is searched exactly, and that must stay few. */
  private get usesGraph(): boolean {
    return this.wantsGraph && this.graph !== undefined && this.pending.size <= this.exactUpTo;
  }

  /** Starts the background work when there is some and none is under way. */
  private catchUp(): void {
    if (this.working || this.closing || !this.wantsGraph || !this.hasWork) return;
    this.working = this.work().then(
      () => {
        this.working = undefined;
        this.catchUp();
      },
      (error: unknown) => {
        this.working = undefined;
        this.options.log?.(`the search index could not be written: ${messageOf(error)}`);
      },
    );
  }

  private get hasWork(): boolean {
    return this.pending.size > 0 || this.shouldSave || this.shouldRebuild;
  }

  private get shouldRebuild(): boolean {
    return this.graph !== undefined && this.graph.deletedShare > REBUILD_AT_DELETED_SHARE;
  }

  private get shouldSave(): boolean {
    return this.changedSinceSave > SAVE_AT_CHANGED_SHARE * this.table.size;
  }

  private async work(): Promise<void> {
    // What asked for this goes first: a write is answered before the graph follows it.
    await nextTurn();
    if (this.shouldRebuild) {
      this.graph = undefined;
      for (const key of this.table.allKeys()) this.pending.add(key);
    }
    const graph = (this.graph ??= HnswGraph.empty(this.table.dimensions, Math.ceil(this.table.size * 1.25)));
    while (this.pending.size > 0) {
      const sliceEnds = performance.now() + SLICE_MS;
      for (const key of this.pending) {
        graph.add(key, this.table.vector(key));
        this.pending.delete(key);
        if (performance.now() > sliceEnds) break;
      }
      await nextTurn();
      if (this.closing) return;
    }
    if (this.shouldSave) await this.save(graph);
  }

  private async save(graph: HnswGraph): Promise<void> {
    const changed = this.changedSinceSave;
    this.saving = true;
    try {
      await graph.save(this.options.folder, this.options.identity);
    } finally {
      // A failed write is tried again when as much has changed once more, not at once.
      this.changedSinceSave -= changed;
      this.saving = false;
      for (const key of this.deletedWhileSaving.splice(0)) graph.remove(key);
    }
  }
}
