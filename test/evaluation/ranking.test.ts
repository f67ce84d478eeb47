import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { Random } from '../../base/random.js';
import { rankDocuments } from '../../evaluation/ranking.js';
import type { Vectors } from '../../evaluation/vectors.js';

function randomVectors(n: number, d: number, seed: number): Vectors {
  const random = new Random(seed);
  return { n, d, data: Float32Array.from({ length: n * d }, () => random.normal()) };
}
const nobody = (n: number): Int32Array => new Int32Array(n).fill(-1);

describe('ranking', () => {
  it('is that of sorting all dot products, whatever the sizes', () => {
    for (const [n, m, d, k] of [
      [1, 1, 1, 1],
      [3, 5, 7, 2],
      [33, 257, 6, 20],
      [65, 1030, 5, 100],
    ]) {
      const queries = randomVectors(n, d, n);
      const documents = randomVectors(m, d, m + 1);
      const dot = (q: number, c: number): number => {
        let sum = 0;
        for (let t = 0; t < d; t++) sum += queries.data[q * d + t] * documents.data[c * d + t];
        return sum;
      };
      const expected = Array.from({ length: n }, (_, q) => {
        const scores = Array.from({ length: m }, (_, c) => dot(q, c));
        return scores
          .map((_, c) => c)
          .sort((a, b) => scores[b] - scores[a] || a - b)
          .slice(0, k);
      });
      const ranked = rankDocuments(queries, documents, k, nobody(n));
      assert.deepEqual(Array.from(ranked), expected.flat(), `${n} x ${m} x ${d}, k ${k}`);
    }
  });

  it('keeps the order of documents with equal scores', () => {
    const documents: Vectors = { n: 6, d: 1, data: Float32Array.of(1, 2, 1, 2, 1, 2) };
    const query: Vectors = { n: 1, d: 1, data: Float32Array.of(1) };
    assert.deepEqual([...rankDocuments(query, documents, 4, nobody(1))], [1, 3, 5, 0]);
  });

  it('leaves the excluded document out and marks what is missing with -1', () => {
    const documents: Vectors = { n: 3, d: 1, data: Float32Array.of(3, 2, 1) };
    const queries: Vectors = { n: 2, d: 1, data: Float32Array.of(1, 1) };
    assert.deepEqual([...rankDocuments(queries, documents, 3, Int32Array.of(0, -1))], [1, 2, -1, 0, 1, 2]);
  });
});
