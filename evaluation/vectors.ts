import { UserError } from '../base/errors.js';
import type { Encoder, EncodeOptions } from '../encoder/encoder.js';

/** n vectors of length 1, row-major, so that a dot product is a cosine. */
export interface Vectors {
  data: Float32Array;
  n: number;
  d: number;
}

/**
 * Encodes each different text once and scales every vector to length 1 (a zero vector stays).
 *
 * @returns `rows[i]` is the row of `vectors` that belongs to `texts[i]`
 * @throws UserError `backend` when the encoder gives numbers that are not finite
 */
export async function encodeUnique(
  encoder: Encoder,
  texts: readonly string[],
  options?: EncodeOptions,
): Promise<{ vectors: Vectors; rows: Int32Array }> {
  const rowOf = new Map<string, number>();
  const rows = Int32Array.from(texts, (text) => {
    const row = rowOf.get(text) ?? rowOf.size;
    rowOf.set(text, row);
    return row;
  });
  const data = normalizeRows(await encoder.encode([...rowOf.keys()], options), encoder.dimensions);
  return { vectors: { data, n: rowOf.size, d: encoder.dimensions }, rows };
}

/** The rows named by `rows`, copied in that order. */
export function takeRows({ data, d }: Vectors, rows: Int32Array): Vectors {
  const taken = new Float32Array(rows.length * d);
  rows.forEach((row, i) => taken.set(data.subarray(row * d, (row + 1) * d), i * d));
  return { data: taken, n: rows.length, d };
}

/** The cosine of rows i and j. */
export function cosine({ data, d }: Vectors, i: number, j: number): number {
  let sum = 0;
  for (let a = i * d, b = j * d, end = a + d; a < end; a++, b++) sum += data[a] * data[b];
  return sum;
}

function normalizeRows(data: Float32Array, d: number): Float32Array {
  const normalized = new Float32Array(data.length);
  for (let start = 0; start < data.length; start += d) {
    let squares = 0;
    for (let i = start; i < start + d; i++) squares += data[i] * data[i];
    if (!Number.isFinite(squares))
      throw new UserError(
        'backend',
        `the encoder gave a vector with NaN or infinity (row ${start / d}): its weights are broken, or training diverged`,
      );
    const scale = squares > 0 ? 1 / Math.sqrt(squares) : 0;
    for (let i = start; i < start + d; i++) normalized[i] = data[i] * scale;
  }
  return normalized;
}
