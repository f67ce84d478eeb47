import type { Vectors } from './vectors.js';

// Multiples of the two by four products that are made at a time; both blocks together fit a cache.
const QUERY_BLOCK = 32;
const DOCUMENT_BLOCK = 256;

/**
 * The k documents with the highest dot product for each query, exactly: every pair is compared. Equal
 * scores keep the order of the documents.
 *
 * @param excluded per query a document that may not appear, or -1
 * @returns [queries.n x k] document numbers, best first, -1 where there are fewer than k
 */
export function rankDocuments(
  queries: Vectors,
  documents: Vectors,
  k: number,
  excluded: Int32Array,
): Int32Array {
  const ranked = new Int32Array(queries.n * k).fill(-1);
  const best = new Float64Array(queries.n * k).fill(-Infinity);
  const scores = new Float64Array(QUERY_BLOCK * DOCUMENT_BLOCK);
  for (let q0 = 0; q0 < queries.n; q0 += QUERY_BLOCK) {
    const q1 = Math.min(q0 + QUERY_BLOCK, queries.n);
    const block = rowsAsDoubles(queries, q0, q1);
    for (let c0 = 0; c0 < documents.n; c0 += DOCUMENT_BLOCK) {
      const c1 = Math.min(c0 + DOCUMENT_BLOCK, documents.n);
      dotProducts(block, rowsAsDoubles(documents, c0, c1), queries.d, scores);
      for (let q = q0; q < q1; q++) {
        const last = (q + 1) * k - 1;
        for (let c = c0, at = (q - q0) * DOCUMENT_BLOCK; c < c1; c++, at++)
          if (scores[at] > best[last] && c !== excluded[q]) insert(best, ranked, q * k, last, scores[at], c);
      }
    }
  }
  return ranked;
}

/** Keeps first..last sorted by falling score; behind equal scores, so that the earlier document stays ahead. */
function insert(
  best: Float64Array,
  ranked: Int32Array,
  first: number,
  last: number,
  score: number,
  document: number,
): void {
  let at = last;
  for (; at > first && best[at - 1] < score; at--) {
    best[at] = best[at - 1];
    ranked[at] = ranked[at - 1];
  }
  best[at] = score;
  ranked[at] = document;
}

/** Doubles: JavaScript computes in them, and converting once a block is cheaper than at every product. */
function rowsAsDoubles({ data, d }: Vectors, from: number, to: number): Float64Array {
  return Float64Array.from(data.subarray(from * d, to * d));
}

/**
 * out[i * DOCUMENT_BLOCK + j] = a_i . b_j for the rows of a and b, two by four at a time; at the edge the
 * last row stands in for those that are missing, and what it gives is never read.
 */
function dotProducts(a: Float64Array, b: Float64Array, d: number, out: Float64Array): void {
  const m = a.length / d;
  const n = b.length / d;
  for (let i = 0; i < m; i += 2) {
    const a0 = i * d;
    const a1 = Math.min(i + 1, m - 1) * d;
    for (let j = 0; j < n; j += 4) {
      const b0 = j * d;
      const b1 = Math.min(j + 1, n - 1) * d;
      const b2 = Math.min(j + 2, n - 1) * d;
      const b3 = Math.min(j + 3, n - 1) * d;
      let s00 = 0;
      let s01 = 0;
      let s02 = 0;
      let s03 = 0;
      let s10 = 0;
      let s11 = 0;
      let s12 = 0;
      let s13 = 0;
      for (let t = 0; t < d; t++) {
        const x0 = a[a0 + t];
        const x1 = a[a1 + t];
        const y0 = b[b0 + t];
        const y1 = b[b1 + t];
        const y2 = b[b2 + t];
        const y3 = b[b3 + t];
        s00 += x0 * y0;
        s01 += x0 * y1;
        s02 += x0 * y2;
        s03 += x0 * y3;
        s10 += x1 * y0;
        s11 += x1 * y1;
        s12 += x1 * y2;
        s13 += x1 * y3;
      }
      const at = i * DOCUMENT_BLOCK + j;
      out[at] = s00;
      out[at + 1] = s01;
      out[at + 2] = s02;
      out[at + 3] = s03;
      out[at + DOCUMENT_BLOCK] = s10;
      out[at + DOCUMENT_BLOCK + 1] = s11;
      out[at + DOCUMENT_BLOCK + 2] = s12;
      out[at + DOCUMENT_BLOCK + 3] = s13;
    }
  }
}
