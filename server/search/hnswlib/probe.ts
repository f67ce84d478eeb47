import { createRequire } from 'node:module';

import type Hnswlib from 'hnswlib-node';

import { Random } from '../../../base/random.js';
import { tryModule } from '../../../base/try-module.js';

/**
 * Loads the hnswlib-node in the folder named as the first argument, and finds each of some vectors through a graph. For a
 * process of its own (see tryModule): instructions that the processor does not know end it.
 */
function probe(folder: string): void {
  const { HierarchicalNSW } = createRequire(import.meta.url)(folder) as typeof Hnswlib;
  // Lengths for each of hnswlib's loops: 16 numbers at a time, 4, and what is left over.
  for (const dimensions of [64, 20, 67]) {
    const random = new Random(dimensions);
    const graph = new HierarchicalNSW('l2', dimensions);
    const product = new HierarchicalNSW('ip', dimensions);
    const points = Array.from({ length: 200 }, () =>
      Array.from({ length: dimensions }, () => random.normal()),
    );
    for (const index of [graph, product]) {
      index.initIndex(points.length);
      points.forEach((point, label) => index.addPoint(point, label));
    }
    points.forEach((point, label) => {
      const { neighbors, distances } = graph.searchKnn(point, 1);
      if (neighbors[0] !== label || distances[0] !== 0)
        throw new Error(`the vector nearest to number ${label} came out as number ${neighbors[0]}`);
      const best = product.searchKnn(point, 1);
      const expected = 1 - points[best.neighbors[0]].reduce((sum, x, i) => sum + x * point[i], 0);
      if (!(Math.abs(best.distances[0] - expected) < 1e-3 * (1 + Math.abs(expected))))
        throw new Error(`an inner product came out as ${1 - best.distances[0]} instead of ${1 - expected}`);
    });
  }
}

await tryModule(() => probe(process.argv[2]));
