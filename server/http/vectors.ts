import { bytesOf } from '../../encoder/safetensors.js';

/** Bytes that the longest form of a number may take, with a comma. */
const NUMBER_BYTES = 26;
const [ZERO, POINT, MINUS, COMMA, OPEN, CLOSE] = Buffer.from('0.-,[]');

let scratch = Buffer.alloc(0);

/**
 * Writes the shortest decimal fraction that reads back as the same float32, from six decimals up. The
 * numbers of a vector mostly lie between 1e-4 and 1, where seven to nine decimals are enough; as a
 * double, the same number has seventeen.
 *
 * @returns the position after it
 */
function writeFloat32(x: number, bytes: Buffer, at: number): number {
  const size = Math.abs(x);
  // Outside of this range an exponent or an integer part is shorter, and rare enough for String.
  for (let decimals = 6, scale = 1e6; size < 1 && size >= 1e-5 && decimals <= 12; decimals++, scale *= 10) {
    let digits = Math.round(size * scale);
    if (Math.fround(digits / scale) !== size) continue;
    if (x < 0) bytes[at++] = MINUS;
    bytes[at] = ZERO;
    bytes[at + 1] = POINT;
    let end = at + 2 + decimals;
    for (let i = end - 1; i > at + 1; i--) {
      const rest = Math.floor(digits / 10);
      bytes[i] = ZERO + digits - rest * 10;
      digits = rest;
    }
    while (bytes[end - 1] === ZERO) end--;
    return end;
  }
  return at + bytes.write(String(x), at, 'latin1');
}

/** One row as a JSON list. */
export function rowToJson(row: Float32Array): string {
  if (scratch.length < row.length * NUMBER_BYTES + 2) scratch = Buffer.alloc(row.length * NUMBER_BYTES + 2);
  let at = 0;
  scratch[at++] = OPEN;
  for (let j = 0; j < row.length; j++) {
    if (j > 0) scratch[at++] = COMMA;
    at = writeFloat32(row[j], scratch, at);
  }
  scratch[at++] = CLOSE;
  return scratch.toString('latin1', 0, at);
}

/** Little-endian float32, as every platform that Node supports keeps it in memory, row by row. */
export function rowsToBytes(rows: readonly Float32Array[]): Buffer {
  return Buffer.concat(rows.map(bytesOf));
}

/** The same of one row, as OpenAI's base64 form. */
export function rowToBase64(row: Float32Array): string {
  return rowsToBytes([row]).toString('base64');
}

/** Row i of n x d. */
export function rowOf(vectors: Float32Array, dimensions: number, i: number): Float32Array {
  return vectors.subarray(i * dimensions, (i + 1) * dimensions);
}
