import { answerCalls, emitEvent, giveWay } from '../threads.js';
import { findClusters, nameClusters } from './clusters.js';
import { alignTo, pcaLayout, umapLayout, type Places } from './layout.js';
import { readMap, writeMap, type MapFile } from './map-file.js';
import { findNeighbours } from './neighbours.js';
import { CollectionReader } from './read-collection.js';

export interface MapOf {
  dataDir: string;
  id: number;
  fingerprint: string;
  dimensions: number;
}

/** Of the work, from 0 to 1. */
export interface ProgressEvent {
  progress: number;
}

export type LayoutName = 'pca' | 'umap';

export interface MapState {
  /** Undefined where there is no map; with one layout a draft. */
  map?: { made: string; points: number; layouts: LayoutName[] };
  /** Documents that came, or were replaced, since then. */
  since: number;
  /** Whether documents came or went. */
  stale: boolean;
}

/** The columns of a map, a row for each point that is still there. */
export interface MapPoints {
  made: string;
  ids: string[];
  /** Undefined in a draft. */
  umap?: { x: number[]; y: number[] };
  pca: { x: number[]; y: number[] };
  cluster: number[];
  clusters: MapFile['clusters'];
  /** Of the metadata. */
  fields: string[];
  /** Of the field that was asked for. */
  values?: (string | number | boolean | null)[];
}

/** What a page draws smoothly; of more documents as many are shown, evenly spread over the collection. */
export const MOST_POINTS = 50_000;
const NEIGHBOURS = 15;
/** Fewer points than this have no neighbourhoods to show: PCA is the map. */
const LEAST_FOR_UMAP = 2 * NEIGHBOURS;
const SEED = 1;
/** Parts of the work, for its progress. */
const NEIGHBOURS_SHARE = 0.4;

const rounded = (values: Float32Array): number[] =>
  Array.from(values, (value) => Math.round(value * 1e3) / 1e3);
const columns = ({ x, y }: Places): { x: number[]; y: number[] } => ({ x: rounded(x), y: rounded(y) });

/** The places of the points that an earlier map has too, by point. */
function placesOn(map: MapFile | undefined, keys: readonly number[]): [number, { x: number; y: number }][] {
  if (!map?.umap) return [];
  const { umap } = map;
  const rows = new Map(map.keys.map((key, row) => [key, row]));
  return keys.flatMap((key, i): [number, { x: number; y: number }][] => {
    const row = rows.get(key);
    return row === undefined ? [] : [[i, { x: umap.x[row], y: umap.y[row] }]];
  });
}

let reported = 0;
function report(progress: number): void {
  if (Date.now() - reported < 200) return;
  reported = Date.now();
  emitEvent({ progress } satisfies ProgressEvent);
}

const handlers = {
  /** @param others generations on whose map, if they have one, this one starts and is laid, the first before others */
  async build({ others, ...of }: MapOf & { others: readonly number[] }): Promise<void> {
    const { dataDir, id, fingerprint, dimensions: d } = of;
    const reader = new CollectionReader(dataDir);
    const state = reader.state();
    const { keys, texts, vectors } = reader.points(of, MOST_POINTS);
    reader.close();
    const n = keys.length;
    const pca = pcaLayout(vectors, n, d);
    const write = (umap: Places | undefined): Promise<void> => {
      const cluster = findClusters(umap ?? pca, SEED);
      return writeMap(dataDir, id, {
        fingerprint,
        made: new Date().toISOString(),
        ...state,
        keys,
        umap: umap && columns(umap),
        pca: columns(pca),
        cluster: [...cluster],
        clusters: nameClusters(cluster, texts),
      });
    };
    let umap = pca;
    if (n >= LEAST_FOR_UMAP) {
      if (!(await readMap(dataDir, id, fingerprint))?.umap) await write(undefined);
      let earlier: ReturnType<typeof placesOn> = [];
      for (const other of [id, ...others])
        if (earlier.length === 0) earlier = placesOn(await readMap(dataDir, other), keys);
      const neighbours = findNeighbours(vectors, { n, d, k: NEIGHBOURS }, (share) =>
        report(NEIGHBOURS_SHARE * share),
      );
      const start = { x: pca.x.slice(), y: pca.y.slice() };
      for (const [i, { x, y }] of earlier) [start.x[i], start.y[i]] = [x, y];
      umap = umapLayout(neighbours, start, SEED, (done, total) =>
        report(NEIGHBOURS_SHARE + ((1 - NEIGHBOURS_SHARE) * done) / total),
      );
      umap = alignTo(umap, earlier);
    }
    await write(umap);
  },

  async state({ dataDir, id, fingerprint }: MapOf): Promise<MapState> {
    const map = await readMap(dataDir, id, fingerprint);
    if (!map) return { since: 0, stale: false };
    const reader = new CollectionReader(dataDir);
    const { documents, lastKey } = reader.state();
    const since = reader.countAfter(map.lastKey);
    reader.close();
    return {
      map: {
        made: map.made,
        points: map.keys.length,
        layouts: map.umap ? ['pca', 'umap'] : ['pca'],
      },
      since,
      stale: documents !== map.documents || lastKey !== map.lastKey,
    };
  },

  /** Undefined where there is no map. */
  async points({ field, ...of }: MapOf & { field?: string }): Promise<MapPoints | undefined> {
    const map = await readMap(of.dataDir, of.id, of.fingerprint);
    if (!map) return undefined;
    const rowOf = new Map(map.keys.map((key, row) => [key, row]));
    const rows: number[] = [];
    const ids: string[] = [];
    const fields = new Set<string>();
    const values: (string | number | boolean | null)[] = [];
    const reader = new CollectionReader(of.dataDir);
    for (const { key, id, metadata } of reader.documents()) {
      const row = rowOf.get(key);
      if (row === undefined) continue;
      rows.push(row);
      ids.push(id);
      const parsed = metadata === null ? {} : (JSON.parse(metadata) as Record<string, unknown>);
      for (const name of Object.keys(parsed)) fields.add(name);
      const value = field === undefined || !Object.hasOwn(parsed, field) ? null : parsed[field];
      values.push(Array.isArray(value) ? value.join(', ') : (value as (typeof values)[number]));
    }
    reader.close();
    const pick = (column: readonly number[]): number[] => rows.map((row) => column[row]);
    return {
      made: map.made,
      ids,
      ...(map.umap && { umap: { x: pick(map.umap.x), y: pick(map.umap.y) } }),
      pca: { x: pick(map.pca.x), y: pick(map.pca.y) },
      cluster: pick(map.cluster),
      clusters: map.clusters,
      fields: [...fields].sort(),
      ...(field !== undefined && { values }),
    };
  },
};

export type MapHandlers = typeof handlers;

giveWay();
answerCalls(handlers);
