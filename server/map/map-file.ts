import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';

import { writeFileAtomic } from '../../base/files.js';
import { indexFolder } from '../search/engine.js';
import type { Cluster } from './clusters.js';

/** A generation's map as it lies beside its index: derived, so what is not whole is made again. */
export interface MapFile {
  fingerprint: string;
  /** ISO 8601. */
  made: string;
  /** Documents that there were, and the greatest of their keys. */
  documents: number;
  lastKey: number;
  /** Of the points: all documents, or some of very many. In the order of the keys. */
  keys: number[];
  /** Missing in a draft, which is there to be looked at while UMAP takes its time. */
  umap?: { x: number[]; y: number[] };
  pca: { x: number[]; y: number[] };
  cluster: number[];
  clusters: Cluster[];
}

function fileOf(dataDir: string, generation: number): string {
  return path.join(indexFolder(dataDir, generation), 'map.json');
}

const digestOf = (body: string): string => createHash('sha256').update(body).digest('hex');

/** One line with the digest of the next, which is the map. */
export async function writeMap(dataDir: string, generation: number, map: MapFile): Promise<void> {
  const body = JSON.stringify(map);
  await writeFileAtomic(fileOf(dataDir, generation), `${digestOf(body)}\n${body}`);
}

/** Undefined when there is none, or none that is whole and of these vectors. */
export async function readMap(
  dataDir: string,
  generation: number,
  fingerprint?: string,
): Promise<MapFile | undefined> {
  let text: string;
  try {
    text = await readFile(fileOf(dataDir, generation), 'utf8');
  } catch {
    return undefined;
  }
  const [digest, body] = text.split('\n', 2);
  if (body === undefined || digest !== digestOf(body)) return undefined;
  const map = JSON.parse(body) as MapFile;
  return fingerprint === undefined || map.fingerprint === fingerprint ? map : undefined;
}
