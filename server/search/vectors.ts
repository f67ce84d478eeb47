import { TopK } from './top-k.js';

export interface Scored {
  key: number;
  score: number;
}

/** Rows a block of memory holds: growing adds a block and moves nothing. */
const BLOCK = 4096;

/**
 * Length-1 vectors by key, for exact search. Rows stay dense: removing one moves the last into its place.
 */
export class VectorTable {
  private readonly blocks: Float32Array[] = [];
  private readonly keys: number[] = [];
  private readonly rows = new Map<number, number>();

  constructor(readonly dimensions: number) {}

  get size(): number {
    return this.keys.length;
  }

  has(key: number): boolean {
    return this.rows.has(key);
  }

  allKeys(): readonly number[] {
    return this.keys;
  }

  add(key: number, vector: Float32Array): void {
    const row = this.keys.length;
    if (row % BLOCK === 0 && row / BLOCK === this.blocks.length)
      this.blocks.push(new Float32Array(BLOCK * this.dimensions));
    this.keys.push(key);
    this.rows.set(key, row);
    this.row(row).set(vector);
  }

  remove(key: number): boolean {
    const row = this.rows.get(key);
    if (row === undefined) return false;
    const last = this.keys.length - 1;
    const moved = this.keys[last];
    this.row(row).set(this.row(last));
    this.keys[row] = moved;
    this.rows.set(moved, row);
    this.rows.delete(key);
    this.keys.pop();
    return true;
  }

  /** The vector itself, not a copy. */
  vector(key: number): Float32Array {
    const row = this.rows.get(key);
    if (row === undefined) throw new Error(`no vector for key ${key}`);
    return this.row(row);
  }

  /** Cosine of `query` (length 1) with the vector of `key`. */
  score(query: Float32Array, key: number): number {
    const row = this.rows.get(key)!;
    return dot(query, this.blocks[Math.floor(row / BLOCK)], (row % BLOCK) * this.dimensions, this.dimensions);
  }

  /** Calls `visit` with every key that `accept` lets through and its cosine with `query`. */
  forEachScore(
    query: Float32Array,
    accept: (key: number) => boolean,
    visit: (key: number, score: number) => void,
  ): void {
    const d = this.dimensions;
    for (let b = 0; b * BLOCK < this.keys.length; b++) {
      const block = this.blocks[b];
      const n = Math.min(BLOCK, this.keys.length - b * BLOCK);
      for (let i = 0; i < n; i++) {
        const key = this.keys[b * BLOCK + i];
        if (accept(key)) visit(key, dot(query, block, i * d, d));
      }
    }
  }

  /** The k best of all, best first; equal scores by key. */
  search(query: Float32Array, k: number): Scored[] {
    const top = new TopK<number>(k);
    this.forEachScore(
      query,
      () => true,
      (key, score) => {
        if (score > top.floor) top.offer(score, key);
      },
    );
    return rank(top);
  }

  /** The k best of some keys. */
  searchAmong(query: Float32Array, k: number, keys: Iterable<number>): Scored[] {
    const top = new TopK<number>(k);
    for (const key of keys) {
      const score = this.score(query, key);
      if (score > top.floor) top.offer(score, key);
    }
    return rank(top);
  }

  private row(row: number): Float32Array {
    const begin = (row % BLOCK) * this.dimensions;
    return this.blocks[Math.floor(row / BLOCK)].subarray(begin, begin + this.dimensions);
  }
}

export function rank(top: TopK<number>): Scored[] {
  return top.sorted((a, b) => a - b).map(({ item, score }) => ({ key: item, score }));
}

/** Four accumulators, so that an addition need not wait for the one before it. */
function dot(a: Float32Array, b: Float32Array, begin: number, d: number): number {
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  let i = 0;
  for (; i + 3 < d; i += 4) {
    s0 += a[i] * b[begin + i];
    s1 += a[i + 1] * b[begin + i + 1];
    s2 += a[i + 2] * b[begin + i + 2];
    s3 += a[i + 3] * b[begin + i + 3];
  }
  for (; i < d; i++) s0 += a[i] * b[begin + i];
  return s0 + s1 + (s2 + s3);
}
