import { UserError } from '../../base/errors.js';
import { createDotKernel, MAX_PAGES, PAGE_BYTES, ROW_ALIGNMENT } from './dot-kernel.js';
import { TopK } from './top-k.js';

export interface Scored {
  key: number;
  score: number;
}

export interface KeyedVector {
  key: number;
  vector: Float32Array;
}

/** Rows scored by one call of the kernel. */
const BATCH = 1024;

/** @throws UserError `too-large` when one table does not hold so many vectors */
export function checkFits(vectors: number, dimensions: number): void {
  // One row less: the query's.
  const most = Math.floor((MAX_PAGES * PAGE_BYTES - 4 * BATCH) / rowBytesOf(dimensions)) - 1;
  if (vectors > most)
    throw new UserError(
      'too-large',
      `expected at most ${most} documents, whose vectors of ${dimensions} dimensions fill 4 GiB, came ${vectors}. PostgreSQL holds more (sentence-jepa migrate, serve --store), and so do vectors of fewer dimensions (finetune --adapt center,pca=N)`,
    );
}

function rowBytesOf(dimensions: number): number {
  return Math.ceil((4 * dimensions) / ROW_ALIGNMENT) * ROW_ALIGNMENT;
}

/**
 * Length-1 vectors by key, for exact search. They lie in WebAssembly's memory, up to 4 GiB, row after
 * row without gaps: removing one moves the last into its place. At the memory's beginning there is room
 * for the query and for the scores of a batch of rows.
 */
export class VectorTable {
  private readonly kernel = createDotKernel();
  private readonly rowBytes: number;
  private readonly queryAt = 0;
  private readonly scoresAt: number;
  private readonly rowsAt: number;
  private floats = new Float32Array(this.kernel.memory.buffer);
  private readonly keys: number[] = [];
  private readonly rows = new Map<number, number>();

  constructor(readonly dimensions: number) {
    this.rowBytes = rowBytesOf(dimensions);
    this.scoresAt = this.rowBytes;
    this.rowsAt = this.scoresAt + 4 * BATCH;
    this.reserve(0);
  }

  get size(): number {
    return this.keys.length;
  }

  has(key: number): boolean {
    return this.rows.has(key);
  }

  allKeys(): readonly number[] {
    return this.keys;
  }

  /** @throws UserError `too-large` when 4 GiB are full */
  add(key: number, vector: Float32Array): void {
    const row = this.keys.length;
    this.reserve(row + 1);
    this.floats.set(vector, this.offset(row));
    this.keys.push(key);
    this.rows.set(key, row);
  }

  /** Makes room for so many vectors in all. @throws UserError `too-large` */
  reserve(rows: number): void {
    const { memory } = this.kernel;
    const { byteLength } = memory.buffer;
    const missing = 4 * this.offset(rows) - byteLength;
    if (missing <= 0) return;
    checkFits(rows, this.dimensions);
    // An eighth more than asked for, so that growing happens a few dozen times and not for every page.
    const wanted = Math.ceil((missing + byteLength / 8) / PAGE_BYTES);
    memory.grow(Math.min(wanted, MAX_PAGES - byteLength / PAGE_BYTES));
    this.floats = new Float32Array(memory.buffer);
  }

  remove(key: number): boolean {
    const row = this.rows.get(key);
    if (row === undefined) return false;
    const last = this.keys.length - 1;
    const moved = this.keys[last];
    this.floats.copyWithin(this.offset(row), this.offset(last), this.offset(last + 1));
    this.keys[row] = moved;
    this.rows.set(moved, row);
    this.rows.delete(key);
    this.keys.pop();
    return true;
  }

  /** A copy of the vector of a key that is there. */
  vector(key: number): Float32Array {
    const begin = this.offset(this.rowOf(key));
    return this.floats.slice(begin, begin + this.dimensions);
  }

  /** Cosine of `query` (length 1) with the vector of a key that is there. */
  score(query: Float32Array, key: number): number {
    this.floats.set(query, this.queryAt / 4);
    this.kernel.dots(this.queryAt, 4 * this.offset(this.rowOf(key)), 1, this.rowBytes, this.scoresAt);
    return this.floats[this.scoresAt / 4];
  }

  /** The k best of all, best first; equal scores by key. */
  search(query: Float32Array, k: number): Scored[] {
    const top = new TopK<number>(k, byKey);
    this.scan(query, 0, (score, key) => {
      if (score >= top.floor) top.offer(score, key);
    });
    return rank(top);
  }

  /** The k best of some keys that are there, best first; equal scores by key. */
  searchAmong(query: Float32Array, k: number, keys: ReadonlySet<number>): Scored[] {
    const top = new TopK<number>(k, byKey);
    // The kernel scores some ten rows in the time of one alone, but it scores all.
    if (keys.size * 10 > this.size)
      this.scan(query, 0, (score, key) => {
        if (score >= top.floor && keys.has(key)) top.offer(score, key);
      });
    else
      for (const key of keys) {
        const score = this.score(query, key);
        if (score >= top.floor) top.offer(score, key);
      }
    return rank(top);
  }

  /** Cosines of the vector of `key` with all in the rows after it: over all keys, each pair once. */
  scanAfter(key: number, visit: (score: number, key: number) => void): void {
    this.scan(this.vector(key), this.rowOf(key) + 1, visit);
  }

  private scan(query: Float32Array, from: number, visit: (score: number, key: number) => void): void {
    this.floats.set(query, this.queryAt / 4);
    const scores = this.floats.subarray(this.scoresAt / 4, this.scoresAt / 4 + BATCH);
    for (let row = from; row < this.keys.length; row += BATCH) {
      const n = Math.min(BATCH, this.keys.length - row);
      this.kernel.dots(this.queryAt, 4 * this.offset(row), n, this.rowBytes, this.scoresAt);
      for (let i = 0; i < n; i++) visit(scores[i], this.keys[row + i]);
    }
  }

  private rowOf(key: number): number {
    const row = this.rows.get(key);
    if (row === undefined) throw new Error(`no vector for key ${key}`);
    return row;
  }

  /** Where a row begins, in floats. */
  private offset(row: number): number {
    return (this.rowsAt + row * this.rowBytes) / 4;
  }
}

const byKey = (a: number, b: number): number => a - b;

function rank(top: TopK<number>): Scored[] {
  return top.sorted().map(({ item, score }) => ({ key: item, score }));
}
