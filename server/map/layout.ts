import { EigenvalueDecomposition, Matrix } from 'ml-matrix';
import { UMAP } from 'umap-js';

import { Random } from '../../base/random.js';

/** Places in two dimensions: x and y of n points. */
export interface Places {
  x: Float32Array;
  y: Float32Array;
}

/** The k nearest of each of n points, itself first: row-major n x k. */
export interface Neighbours {
  k: number;
  indices: Int32Array;
  /** 1 - cosine. */
  distances: Float32Array;
}

/** Rows that the directions of a PCA are estimated from: more do not turn them visibly. */
const PCA_ROWS = 4000;
/** Half the width of where UMAP starts, as in its reference implementation. */
const START_EXTENT = 10;

/** The first two principal components, the larger ends of which lie at +-START_EXTENT. @param vectors n x d, row-major */
export function pcaLayout(vectors: Float32Array, n: number, d: number): Places {
  const mean = new Float64Array(d);
  for (let i = 0; i < n; i++) for (let j = 0; j < d; j++) mean[j] += vectors[i * d + j] / n;
  const covariance = Matrix.zeros(d, d);
  const step = Math.max(1, Math.floor(n / PCA_ROWS));
  for (let i = 0; i < n; i += step) {
    const row = Float64Array.from(mean, (m, j) => vectors[i * d + j] - m);
    for (let a = 0; a < d; a++)
      for (let b = a; b < d; b++) covariance.set(a, b, covariance.get(a, b) + row[a] * row[b]);
  }
  for (let a = 0; a < d; a++) for (let b = 0; b < a; b++) covariance.set(a, b, covariance.get(b, a));
  const { eigenvectorMatrix } = new EigenvalueDecomposition(covariance, { assumeSymmetric: true });
  // Eigenvalues come in rising order.
  const [x, y] = [d - 1, Math.max(0, d - 2)].map((column) => {
    const direction = eigenvectorMatrix.getColumn(column);
    const places = new Float32Array(n);
    for (let i = 0; i < n; i++)
      for (let j = 0; j < d; j++) places[i] += direction[j] * (vectors[i * d + j] - mean[j]);
    return places;
  });
  const extent = [...x, ...y].reduce((most, value) => Math.max(most, Math.abs(value)), 1e-12);
  const scale = START_EXTENT / extent;
  return { x: x.map((value) => value * scale), y: y.map((value) => value * scale) };
}

/**
 * UMAP (McInnes, Healy and Melville 2018) from neighbours that are known. The same for the same seed.
 *
 * @param start where the points are before; UMAP keeps of it what the neighbours leave open
 * @param onEpoch after each round over the points
 */
export function umapLayout(
  { k, indices, distances }: Neighbours,
  start: Places,
  seed: number,
  onEpoch?: (done: number, total: number) => void,
): Places {
  const n = start.x.length;
  const random = new Random(seed);
  const umap = new UMAP({ nNeighbors: k, minDist: 0.1, random: () => random.float() });
  const rows = <T>(values: ArrayLike<T>): T[][] =>
    Array.from({ length: n }, (_, i) => Array.from({ length: k }, (_, j) => values[i * k + j]));
  umap.setPrecomputedKNN(rows(indices), rows(distances));
  // Of the points it only wants to know how many there are.
  const epochs = umap.initializeFit(Array.from({ length: n }, () => []));
  // What it moves, so that what is written here is where it starts. Two points in one place would never part.
  const embedding = umap.getEmbedding();
  for (let i = 0; i < n; i++) {
    embedding[i][0] = start.x[i] + 1e-3 * random.normal();
    embedding[i][1] = start.y[i] + 1e-3 * random.normal();
  }
  for (let epoch = 0; epoch < epochs;) {
    epoch = umap.step();
    onEpoch?.(epoch, epochs);
  }
  return {
    x: Float32Array.from(embedding, ([x]) => x),
    y: Float32Array.from(embedding, ([, y]) => y),
  };
}

/**
 * Turns, mirrors, scales and shifts places so that those of the pairs come as near as they can to their partners (Procrustes
 * analysis; Gower 1975).
 *
 * @param pairs [point, place of its partner]
 */
export function alignTo(
  places: Places,
  pairs: readonly (readonly [number, { x: number; y: number }])[],
): Places {
  const m = pairs.length;
  if (m < 3) return places;
  const mean = { x: 0, y: 0, u: 0, v: 0 };
  for (const [i, to] of pairs) {
    mean.x += places.x[i] / m;
    mean.y += places.y[i] / m;
    mean.u += to.x / m;
    mean.v += to.y / m;
  }
  let squares = 0;
  // As complex numbers: the sums of conj(z) w and of z w, the latter for the mirrored points.
  const turned = { re: 0, im: 0 };
  const mirrored = { re: 0, im: 0 };
  for (const [i, to] of pairs) {
    const [x, y, u, v] = [places.x[i] - mean.x, places.y[i] - mean.y, to.x - mean.u, to.y - mean.v];
    squares += x * x + y * y;
    turned.re += x * u + y * v;
    turned.im += x * v - y * u;
    mirrored.re += x * u - y * v;
    mirrored.im += x * v + y * u;
  }
  if (squares === 0) return places;
  const isMirrored = Math.hypot(mirrored.re, mirrored.im) > Math.hypot(turned.re, turned.im);
  const { re, im } = isMirrored ? mirrored : turned;
  const [a, b, sign] = [re / squares, im / squares, isMirrored ? -1 : 1];
  const aligned = { x: new Float32Array(places.x.length), y: new Float32Array(places.y.length) };
  for (let i = 0; i < aligned.x.length; i++) {
    const [x, y] = [places.x[i] - mean.x, sign * (places.y[i] - mean.y)];
    aligned.x[i] = a * x - b * y + mean.u;
    aligned.y[i] = b * x + a * y + mean.v;
  }
  return aligned;
}
