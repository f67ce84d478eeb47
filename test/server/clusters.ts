import { Random } from '../../base/random.js';

export type Keyed = { key: number; vector: Float32Array };

export function unit(vector: Float32Array): Float32Array {
  const norm = Math.hypot(...vector);
  return vector.map((x) => x / norm);
}

/** Points around random centres, as texts gather around topics: neighbours at a cosine of about 0.5. */
export function clusters(n: number, d: number, seed: number): Keyed[] {
  const random = new Random(seed);
  const normal = (): Float32Array => Float32Array.from({ length: d }, () => random.normal());
  const centres = Array.from({ length: Math.ceil(n / 20) }, () => unit(normal()));
  return Array.from({ length: n }, (_, i) => {
    const centre = centres[random.below(centres.length)];
    const noise = normal();
    return { key: i + 1, vector: unit(centre.map((x, j) => x + noise[j] / Math.sqrt(d))) };
  });
}
