import { setImmediate as nextTurn } from 'node:timers/promises';

import { messageOf } from '../../base/errors.js';
import { Random } from '../../base/random.js';
import { defaults } from '../config.js';
import { CHOICE_QUERIES, EfChoice, movedALittle } from './ef.js';
import { HnswGraph, type ChosenEf, type HnswIdentity } from './hnsw.js';
import { Pace, RECALL_K, recallOf, RecallSamples } from './recall.js';
import { TopK } from './top-k.js';
import { VectorTable, type KeyedVector, type Scored } from './vectors.js';

/** Up to this many vectors exact search is as fast as the graph and needs no building (bench/search.ts). */
export const EXACT_UP_TO = 20_000;
/** More neighbours than this are found faster by exact search. */
export const GRAPH_UP_TO_K = 500;
/** A graph with more deleted nodes than this is built again. */
const REBUILD_AT_DELETED_SHARE = 0.3;
/** ef is chosen again for a graph that has grown by this. */
export const CHOOSE_AT_GROWTH = 1.25;
/** Of the time, for measuring recall on queries that come in. */
const MEASURING_SHARE = 0.01;
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
  /** recall@10 to hold; 1 searches exactly, whatever the size. */
  recall?: number;
  measuringShare?: number;
  /** The measured recall is another. */
  onMeasured?: () => void;
  log?: (message: string) => void;
}

/**
 * Vectors in memory, searched exactly while few and through an HNSW graph when many. The graph follows
 * the table in the background, in short slices; until it has caught up, what it lacks is searched
 * exactly, so that a vector can be found from the moment `add` returns. Once it has, the ef is chosen that holds
 * the recall; before, and where none does, search is exact.
 */
export class VectorIndex {
  private readonly table: VectorTable;
  private readonly exactUpTo: number;
  private readonly recall: number;
  private readonly pace: Pace;
  private readonly samples = new RecallSamples();
  private readonly random = new Random(1);
  private measuring = false;
  private chosen: ChosenEf | undefined;
  private graph: HnswGraph | undefined;
  /** Keys in the table that the graph does not hold yet. */
  private readonly pending = new Set<number>();
  /** Keys deleted while the graph is being written, when it must not change. */
  private readonly deletedWhileSaving: number[] = [];
  private changedSinceSave = 0;
  private saving = false;
  private working: Promise<void> | undefined;
  private following = false;
  private closing = false;

  constructor(private readonly options: VectorIndexOptions) {
    this.table = new VectorTable(options.identity.dimensions);
    this.exactUpTo = options.exactUpTo ?? EXACT_UP_TO;
    this.recall = options.recall ?? defaults.recall;
    this.pace = new Pace(options.measuringShare ?? MEASURING_SHARE);
  }

  /**
   * Fills the table from the truth, page by page, and reads the graph file when it is whole and of this generation. Takes turns
   * with other work; what is removed meanwhile must be removed here as well. `follow` then lets the graph catch up.
   */
  async load(pages: Iterable<readonly KeyedVector[]>): Promise<void> {
    const { folder, identity, log } = this.options;
    const reading = this.recall < 1 ? HnswGraph.read(folder, identity) : undefined;
    for (const page of pages) {
      for (const { key, vector } of page) this.table.add(key, vector);
      await nextTurn();
    }
    const read = await reading;
    if (read && this.wantsGraph) {
      if ('graph' in read) {
        this.graph = read.graph;
        this.graph.keepOnly(this.table);
        if (read.chosen?.recall === this.recall) this.chosen = read.chosen;
      } else log?.(`building the search index over ${this.table.size} vectors: ${read.reason}`);
    }
    for (const key of this.table.allKeys()) if (!this.graph?.has(key)) this.pending.add(key);
    this.changedSinceSave = this.pending.size;
  }

  /** From here on the graph follows the table. */
  follow(): void {
    this.following = true;
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
    return this.wantsGraph && (this.pending.size > 0 || !this.chosen);
  }

  /** recall@10 of the graph on the last sampled queries; undefined while there are few, or search is exact. */
  get measuredRecall(): number | undefined {
    return this.usesGraph ? this.samples.mean : undefined;
  }

  has(key: number): boolean {
    return this.table.has(key);
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

  /** Makes room for so many more. @throws UserError `too-large` */
  reserve(more: number): void {
    this.table.reserve(this.table.size + more);
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
    if (!among) this.sample(query);
    return this.nearest(query, k, among);
  }

  private nearest(query: Float32Array, k: number, among?: ReadonlySet<number>): Scored[] {
    const wanted = Math.min(k, this.table.size);
    if (wanted < 1) return [];
    if (among && (among.size <= this.exactUpTo || !this.usesGraph))
      return this.table.searchAmong(query, wanted, among);
    const ef = this.chosen?.ef;
    if (!this.usesGraph || !ef || wanted > GRAPH_UP_TO_K) return this.table.search(query, wanted);
    return this.throughGraph(query, wanted, ef, among);
  }

  private throughGraph(query: Float32Array, k: number, ef: number, among?: ReadonlySet<number>): Scored[] {
    // Until it is written the graph knows nothing of what was deleted meanwhile, and would give that in place of others.
    const alive = among ?? (this.deletedWhileSaving.length > 0 ? this.table : undefined);
    const found = this.graph?.search(query, k, ef, alive && ((key) => alive.has(key))) ?? [];
    const candidates = new Set(found.map(({ key }) => key));
    for (const key of this.pending) if (!among || among.has(key)) candidates.add(key);
    return this.table.searchAmong(query, k, candidates);
  }

  private recallAt(query: Float32Array, exact: readonly Scored[], ef: number): number {
    return recallOf(exact, this.throughGraph(query, RECALL_K, ef));
  }

  /** Measures the recall of a query now and then, once it is answered. */
  private sample(query: Float32Array): void {
    if (this.measuring || !this.usesGraph || !this.pace.isTime) return;
    this.measuring = true;
    const copy = query.slice();
    setImmediate(() => {
      this.measuring = false;
      const ef = this.chosen?.ef;
      if (this.closing || !this.usesGraph || !ef) return;
      this.pace.run(() => {
        const recall = this.recallAt(copy, this.table.search(copy, RECALL_K), ef);
        this.samples.add({ query: copy, recall });
      });
      this.options.onMeasured?.();
      this.catchUp();
    });
  }

  /**
   * All pairs with cosine >= threshold, each once, the `limit` best. Exact while the search is; through
   * the graph, a vector's nearest MAX_NEIGHBOURS are looked at.
   *
   * Takes turns with other work. Vectors that come or go meanwhile may or may not be in a pair.
   */
  async pairs(threshold: number, limit: number, signal: AbortSignal): Promise<Pair[]> {
    // Through the graph a pair can be found from either side, so up to twice.
    const top = new TopK<[number, number]>(2 * limit, (x, y) => x[0] - y[0] || x[1] - y[1]);
    const offer = (a: number, b: number, score: number): void => {
      if (score >= threshold && score >= top.floor) top.offer(score, a < b ? [a, b] : [b, a]);
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
    for (const { item, score } of top.sorted()) pairs.set(item.join(), { a: item[0], b: item[1], score });
    return [...pairs.values()].slice(0, limit);
  }

  /** The nearest vectors, as many as reach the threshold, MAX_NEIGHBOURS at most. */
  private neighbours(vector: Float32Array, threshold: number): Scored[] {
    for (let k = 16; ; k *= 4) {
      const found = this.nearest(vector, k);
      if (found.length < k || found[k - 1].score < threshold || k >= MAX_NEIGHBOURS) return found;
    }
  }

  /** Writes the graph, finished or not, so that the next start goes on from it. */
  async close(): Promise<void> {
    this.closing = true;
    await this.working;
    if (this.graph && this.changedSinceSave > 0) await this.save(this.graph);
  }

  /** Ends the background work and writes nothing more. */
  async abandon(): Promise<void> {
    this.closing = true;
    await this.working;
  }

  /** Resolves when the graph holds every vector and is on disk. */
  async settled(): Promise<void> {
    while (this.working) await this.working;
  }

  private get wantsGraph(): boolean {
    return this.table.size > this.exactUpTo && this.recall < 1;
  }

  /** Whether the graph holds the recall, and covers enough: the rest is searched exactly, and that must stay few. */
  private get usesGraph(): boolean {
    return this.wantsGraph && !!this.graph && !!this.chosen?.ef && this.pending.size <= this.exactUpTo;
  }

  /** Starts the background work when there is some and none is under way. */
  private catchUp(): void {
    const isFree = this.following && !this.working && !this.closing;
    if (!isFree || !this.wantsGraph || !this.hasWork) return;
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
    return this.pending.size > 0 || this.shouldSave || this.shouldRebuild || this.shouldChoose;
  }

  private get shouldChoose(): boolean {
    if (!this.chosen) return true;
    const recall = this.measuredRecall;
    return (
      this.table.size > CHOOSE_AT_GROWTH * this.chosen.vectors ||
      (recall !== undefined && recall < this.recall)
    );
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
      this.chosen = undefined;
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
    if (this.shouldChoose) await this.chooseEf();
    if (this.shouldSave && !this.closing) await this.save(graph);
  }

  /**
   * Chooses ef by queries that came in, when there are enough to judge by, else by stored vectors moved a little. One
   * query at a time: a search gets its turn between two.
   */
  private async chooseEf(): Promise<void> {
    const choice = new EfChoice();
    const asked = this.samples.mean === undefined ? [] : this.samples.queries(CHOICE_QUERIES);
    for (let i = 0; i < (asked.length || CHOICE_QUERIES); i++) {
      const query = asked[i] ?? movedALittle(this.anyVector(), this.anyVector());
      const exact = this.table.search(query, RECALL_K);
      choice.add((ef) => this.recallAt(query, exact, ef));
      await nextTurn();
      if (this.closing || !this.wantsGraph) return;
    }
    const least = choice.least(this.recall);
    this.chosen = { ef: least?.ef ?? null, recall: this.recall, vectors: this.table.size };
    this.samples.replace(least ? asked.map((query, i) => ({ query, recall: least.recalls[i] })) : []);
    this.options.onMeasured?.();
    if (!least)
      this.options.log?.(
        `no search through the graph holds recall@10 of ${this.recall} over ${this.table.size} vectors: searching exactly`,
      );
  }

  private anyVector(): Float32Array {
    const keys = this.table.allKeys();
    return this.table.vector(keys[this.random.below(keys.length)]);
  }

  private async save(graph: HnswGraph): Promise<void> {
    const changed = this.changedSinceSave;
    this.saving = true;
    try {
      await graph.save(this.options.folder, this.options.identity, this.chosen);
    } finally {
      // A failed write is tried again when as much has changed once more, not at once.
      this.changedSinceSave -= changed;
      this.saving = false;
      for (const key of this.deletedWhileSaving.splice(0)) graph.remove(key);
    }
  }
}
