import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

import type { Encoder, EncodeOptions } from '../../encoder/encoder.js';
import { readBeirFolder, scoreRankings, type BeirFolder } from '../../evaluation/beir.js';
import { compareScores, type Comparison } from '../../evaluation/bootstrap.js';
import type { Scores } from '../../evaluation/evaluation.js';
import { encodeUnique } from '../../evaluation/vectors.js';
import { fuse, HYBRID_CANDIDATES, without } from './hybrid.js';
import { databaseFile, Store } from './store.js';
import { VectorTable, type Scored } from './vectors.js';

/** How a ranking is made: by cosine, by words, or by both with a weight of the words. */
export type Method = 'dense' | 'lexical' | number;

export interface MethodScores extends Scores {
  method: Method;
  /** To dense. */
  comparison: Comparison;
}

export interface HybridScores {
  /** dense, lexical, and hybrid at each of LEXICAL_WEIGHTS. */
  methods: MethodScores[];
  /** The weight with the highest map@100, when that is above dense beyond chance. */
  best: number | undefined;
  notes: readonly string[];
}

export const LEXICAL_WEIGHTS = Object.freeze([0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1]);

/**
 * Dense, lexical and hybrid search on a retrieval data set, ranked as the server ranks: its lexical index, its fusion.
 * Dense search is exact.
 *
 * @throws UserError as readBeirFolder; `backend` when the encoder gives numbers that are not finite
 */
export async function evaluateHybrid(
  folder: string,
  split: string | undefined,
  encoder: Encoder,
  options?: EncodeOptions,
): Promise<HybridScores> {
  const started = performance.now();
  const data = await readBeirFolder(folder, split ?? 'test');
  const scratch = await mkdtemp(path.join(tmpdir(), 'sentence-jepa-evaluate-'));
  try {
    const rankings = await rankAll(data, scratch, encoder, options);
    const seconds = (performance.now() - started) / 1000;
    const scores = [...rankings].map(([method, ids]) => ({
      method,
      spec: `beir:${folder}`,
      seconds,
      ...scoreRankings(data, ids),
    }));
    const methods = scores.map((of) => ({ ...of, comparison: compareScores(of, scores[0]) }));
    const [best] = methods
      .filter(({ method }) => typeof method === 'number')
      .sort((a, b) => b.comparison.difference - a.comparison.difference);
    return {
      methods,
      best: best.comparison.low > 0 ? (best.method as number) : undefined,
      notes: data.notes,
    };
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** @returns by method, for each query the ids of documents, best first, without the query's own */
async function rankAll(
  { documents, queries }: BeirFolder,
  scratch: string,
  encoder: Encoder,
  options?: EncodeOptions,
): Promise<Map<Method, string[][]>> {
  const texts = [...documents.texts, ...queries.texts];
  const { vectors, rows } = await encodeUnique(encoder, texts, options);
  const vectorOf = (i: number): Float32Array =>
    vectors.data.subarray(rows[i] * vectors.d, (rows[i] + 1) * vectors.d);

  const rankings = new Map<Method, string[][]>();
  const store = new Store(databaseFile(scratch));
  try {
    const table = new VectorTable(vectors.d);
    const generation = store.createGeneration(encoder);
    const put = documents.ids.map((id, i) => ({ id, text: documents.texts[i], vector: vectorOf(i) }));
    const [changes] = store.write(generation.id, [{ put }]);
    const idOf = new Map<number, string>();
    const keyOf = new Map<string, number>();
    changes.forEach((change, i) => {
      if (!('added' in change)) return;
      table.add(change.added, vectorOf(i));
      idOf.set(change.added, documents.ids[i]);
      keyOf.set(documents.ids[i], change.added);
    });
    queries.ids.forEach((id, q) => {
      const vector = vectorOf(documents.ids.length + q);
      const own = keyOf.get(id);
      const excluded = new Set(own === undefined ? [] : [own]);
      const wanted = HYBRID_CANDIDATES + excluded.size;
      const dense = without(excluded, table.search(vector, wanted), HYBRID_CANDIDATES);
      const lexical = without(excluded, store.lexical(queries.texts[q], wanted), HYBRID_CANDIDATES);
      const keep = (method: Method, ranking: readonly Scored[]): void => {
        const ids = ranking.map(({ key }) => idOf.get(key)!);
        const before = rankings.get(method);
        if (before) before.push(ids);
        else rankings.set(method, [ids]);
      };
      keep('dense', dense);
      keep('lexical', lexical);
      for (const weight of LEXICAL_WEIGHTS)
        keep(
          weight,
          fuse(dense, lexical, (key) => table.score(vector, key), weight),
        );
    });
  } finally {
    store.close();
  }
  return rankings;
}
