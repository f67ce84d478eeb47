import { kmeans } from 'ml-kmeans';

import type { Places } from './layout.js';

export interface Cluster {
  /** What its texts say and others don't, the most telling first. */
  words: string[];
  size: number;
}

/** As many as colours can tell apart. */
const MOST = 12;
const WORDS = 3;
/** Of a word in a cluster, for it to tell anything. */
const LEAST_COUNT = 3;
const ROUNDS = 100;

/**
 * Parts a map by k-means; the largest cluster is number 0.
 *
 * @returns the cluster of each point
 */
export function findClusters({ x, y }: Places, seed: number): Uint8Array {
  const n = x.length;
  const k = Math.min(n, Math.max(2, Math.min(MOST, Math.round(Math.sqrt(n) / 3))));
  const points = Array.from(x, (value, i) => [value, y[i]]);
  const { clusters } = kmeans(points, k, { seed, initialization: 'kmeans++', maxIterations: ROUNDS });
  const sizes = new Uint32Array(k);
  for (const cluster of clusters) sizes[cluster]++;
  const rank = new Map(
    [...sizes.keys()].sort((a, b) => sizes[b] - sizes[a]).map((old, place) => [old, place]),
  );
  return Uint8Array.from(clusters, (cluster) => rank.get(cluster)!);
}

/**
 * Names clusters by words: those whose share of the cluster's words, times the logarithm of how many times that is their share
 * of all words, is the greatest (their part of the Kullback-Leibler divergence).
 */
export function nameClusters(clusters: Uint8Array, texts: readonly string[]): Cluster[] {
  const k = clusters.reduce((most, cluster) => Math.max(most, cluster + 1), 0);
  const named = Array.from({ length: k }, () => ({ counts: new Map<string, number>(), words: 0, size: 0 }));
  const all = new Map<string, number>();
  let total = 0;
  texts.forEach((text, i) => {
    const cluster = named[clusters[i]];
    cluster.size++;
    // A word that a text repeats says no more about its cluster.
    for (const word of new Set(text.toLowerCase().match(/[\p{L}\p{N}][\p{L}\p{N}.+#-]*[\p{L}\p{N}+#]/gu))) {
      cluster.counts.set(word, (cluster.counts.get(word) ?? 0) + 1);
      all.set(word, (all.get(word) ?? 0) + 1);
      cluster.words++;
      total++;
    }
  });
  return named.map(({ counts, words, size }) => {
    const scored = [...counts]
      .filter(([, count]) => count >= LEAST_COUNT)
      .map(([word, count]) => {
        const share = count / words;
        return { word, score: share * Math.log(share / (all.get(word)! / total)) };
      })
      .filter(({ score }) => score > 0)
      .sort((a, b) => b.score - a.score);
    return { words: scored.slice(0, WORDS).map(({ word }) => word), size };
  });
}
