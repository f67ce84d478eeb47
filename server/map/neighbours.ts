import { HnswGraph } from '../search/hnsw.js';
import { VectorTable } from '../search/vectors.js';
import type { Neighbours } from './layout.js';

/** Up to this many points each is compared with all others: a second or two. */
const EXACT_UP_TO = 5000;
/** How widely the graph is searched: a neighbour in a hundred that is missed shows in no map. */
const EF = 64;

/**
 * The k nearest of each vector, itself first. Exact while they are few, else through an HNSW graph that is made for it.
 *
 * @param vectors n x d, row-major, rows of length 1
 * @param onProgress from 0 to 1
 */
export function findNeighbours(
  vectors: Float32Array,
  { n, d, k }: { n: number; d: number; k: number },
  onProgress: (share: number) => void,
): Neighbours {
  const row = (i: number): Float32Array => vectors.subarray(i * d, (i + 1) * d);
  const table = new VectorTable(d);
  for (let i = 0; i < n; i++) table.add(i, row(i));
  const graph = n > EXACT_UP_TO ? HnswGraph.empty(d, n) : undefined;
  if (graph)
    for (let i = 0; i < n; i++) {
      graph.add(i, row(i));
      onProgress((0.7 * i) / n);
    }
  const indices = new Int32Array(n * k);
  const distances = new Float32Array(n * k);
  for (let i = 0; i < n; i++) {
    const found = graph ? graph.search(row(i), k, EF) : table.search(row(i), k);
    // Of copies of one text any may come first, and a graph may miss the point itself.
    const others = found.map(({ key }) => key).filter((key) => key !== i);
    for (let j = 0; j < k; j++) {
      const other = j === 0 ? i : (others[j - 1] ?? i);
      indices[i * k + j] = other;
      distances[i * k + j] = other === i ? 0 : Math.max(0, 1 - table.score(row(i), other));
    }
    onProgress(graph ? 0.7 + (0.3 * i) / n : i / n);
  }
  return { k, indices, distances };
}
