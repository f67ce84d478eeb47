import { randomUUID } from 'node:crypto';
import { open, readdir, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';

import type Hnswlib from 'hnswlib-node';

import { messageOf } from '../../base/errors.js';
import { besideName, exists, readJson, sha256File, writeFileAtomic } from '../../base/files.js';
import { HierarchicalNSW } from './hnswlib/load.js';
import type { Scored } from './vectors.js';

/**
 * Malkov and Yashunin 2016 (arXiv 1603.09320). Neighbours a node, and candidates while building; how many
 * while searching, ef.ts chooses.
 */
export const HNSW_PARAMETERS = Object.freeze({ m: 16, efConstruction: 200, seed: 1 });

/** Which vectors an index file holds: another fingerprint or shape is another index. */
export interface HnswIdentity {
  fingerprint: string;
  dimensions: number;
}

/** With which ef a graph is searched. */
export interface ChosenEf {
  /** null when none holds the recall: exact search does. */
  ef: number | null;
  /** The recall@10 that it was to hold. */
  recall: number;
  /** Vectors in the graph when it was chosen. */
  vectors: number;
}

interface Manifest extends HnswIdentity {
  version: 1;
  file: string;
  bytes: number;
  sha256: string;
  m: number;
  efConstruction: number;
  chosen?: ChosenEf;
}

const MANIFEST = 'index.json';
/** hnswlib-node takes labels as 32-bit numbers. */
const MAX_LABEL = 2 ** 32 - 1;

/** hnswlib's graph over length-1 vectors; a vector's label is its key. */
export class HnswGraph {
  private deleted = 0;

  private constructor(
    private readonly graph: Hnswlib.HierarchicalNSW,
    private readonly labels: Set<number>,
  ) {}

  static empty(dimensions: number, capacity: number): HnswGraph {
    const graph = new HierarchicalNSW('ip', dimensions);
    const { m, efConstruction, seed } = HNSW_PARAMETERS;
    graph.initIndex(Math.max(1024, capacity), m, efConstruction, seed);
    return new HnswGraph(graph, new Set());
  }

  /** Vectors that a search can find. */
  get size(): number {
    return this.labels.size;
  }

  /** Share of the graph's nodes that are deleted: they cost time and memory until a rebuild. */
  get deletedShare(): number {
    return this.deleted / Math.max(1, this.deleted + this.labels.size);
  }

  has(key: number): boolean {
    return this.labels.has(key);
  }

  add(key: number, vector: Float32Array): void {
    if (key > MAX_LABEL) throw new Error(`key ${key} is beyond what hnswlib-node can label`);
    const capacity = this.graph.getMaxElements();
    if (this.graph.getCurrentCount() >= capacity) this.graph.resizeIndex(Math.ceil(capacity * 1.5));
    this.graph.addPoint(numbers(vector), key);
    this.labels.add(key);
  }

  remove(key: number): void {
    if (!this.labels.delete(key)) return;
    this.graph.markDelete(key);
    this.deleted++;
  }

  /**
   * About the k nearest, best first, with approximate cosines.
   *
   * @param ef candidates that the search keeps, twice k at least
   */
  search(query: Float32Array, k: number, ef: number, accept?: (key: number) => boolean): Scored[] {
    const wanted = Math.min(k, this.size);
    if (wanted === 0) return [];
    this.graph.setEf(Math.max(ef, 2 * wanted));
    const { neighbors, distances } = this.graph.searchKnn(numbers(query), wanted, accept);
    return neighbors.map((key, i) => ({ key, score: 1 - distances[i] }));
  }

  /**
   * Writes the graph beside, fsyncs, renames, and then names it in the manifest; what was there before
   * stays valid until that moment. The graph must not change before the promise resolves.
   */
  async save(folder: string, identity: HnswIdentity, chosen?: ChosenEf): Promise<void> {
    const file = `hnsw-${randomUUID()}.bin`;
    const beside = besideName(path.join(folder, file));
    try {
      await this.graph.writeIndex(beside);
      const handle = await open(beside, 'r');
      try {
        await handle.sync();
      } finally {
        await handle.close();
      }
      const manifest: Manifest = {
        version: 1,
        ...identity,
        file,
        bytes: (await stat(beside)).size,
        sha256: await sha256File(beside),
        m: HNSW_PARAMETERS.m,
        efConstruction: HNSW_PARAMETERS.efConstruction,
        chosen,
      };
      await rename(beside, path.join(folder, file));
      await writeFileAtomic(path.join(folder, MANIFEST), JSON.stringify(manifest, null, 2) + '\n');
    } finally {
      await rm(beside, { force: true });
    }
    await removeOtherFiles(folder, file);
  }

  /**
   * Reads the graph that the manifest names, much of it in a thread of its own. What it holds beyond the truth, `keepOnly` takes out.
   *
   * @returns the graph, or why there is none to use
   */
  static async read(
    folder: string,
    identity: HnswIdentity,
  ): Promise<{ graph: HnswGraph; chosen?: ChosenEf } | { reason: string }> {
    try {
      if (!(await exists(path.join(folder, MANIFEST)))) return { reason: 'no index file' };
      const manifest = await readJson<Manifest>(path.join(folder, MANIFEST));
      const mismatch = (
        [
          ['version', 1],
          ['fingerprint', identity.fingerprint],
          ['dimensions', identity.dimensions],
          ['m', HNSW_PARAMETERS.m],
          ['efConstruction', HNSW_PARAMETERS.efConstruction],
        ] as const
      ).find(([field, expected]) => manifest[field] !== expected);
      if (mismatch) return { reason: `the index file is of another ${mismatch[0]}` };
      const file = path.join(folder, path.basename(manifest.file));
      if (!(await exists(file))) return { reason: 'the index file is missing' };
      if ((await stat(file)).size !== manifest.bytes || (await sha256File(file)) !== manifest.sha256)
        return { reason: 'the index file is damaged' };

      const hnsw = new HierarchicalNSW('ip', identity.dimensions);
      await hnsw.readIndex(file);
      return { graph: new HnswGraph(hnsw, new Set(hnsw.getIdsList())), chosen: manifest.chosen };
    } catch (error) {
      return { reason: `the index file can't be read (${messageOf(error)})` };
    }
  }

  /** Marks as deleted what the file held and the truth does not. */
  keepOnly(live: { has(key: number): boolean }): void {
    for (const key of this.labels) {
      if (live.has(key)) continue;
      this.labels.delete(key);
      this.deleted++;
      try {
        this.graph.markDelete(key);
      } catch {
        // It was deleted before the file was written, and marking one twice is an error in hnswlib.
      }
    }
  }
}

/** As hnswlib-node takes them. `Array.from` walks an iterator, and takes 10 us where this takes 1. */
function numbers(vector: Float32Array): number[] {
  const array = new Array<number>(vector.length);
  for (let i = 0; i < vector.length; i++) array[i] = vector[i];
  return array;
}

/** Graphs that the manifest no longer names, and partial ones of a process that was killed. */
async function removeOtherFiles(folder: string, keep: string): Promise<void> {
  for (const name of await readdir(folder))
    if (name !== keep && /^(\.?hnsw-.*\.(bin|partial)|\.index\.json\..*\.partial)$/.test(name))
      await rm(path.join(folder, name), { force: true });
}
