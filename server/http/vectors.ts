/**
 * The shortest decimal form that reads back as the same float32, as JSON. A vector's numbers are
 * mostly between 1e-4 and 1, where seven to nine decimals are enough; the double's own form has
 * seventeen.
 */
export function float32Text(x: number): string {
  for (let scale = 1e6; scale <= 1e12; scale *= 10) {
    const short = Math.round(x * scale) / scale;
    if (Math.fround(short) === x) return String(short);
  }
  return String(x);
}

/** One row as a JSON list. */
export function rowToJson(row: Float32Array): string {
  let text = '[';
  for (let j = 0; j < row.length; j++) text += j === 0 ? float32Text(row[j]) : ',' + float32Text(row[j]);
  return text + ']';
}

/** Little-endian float32, as OpenAI's base64 form. */
export function rowToBase64(row: Float32Array): string {
  const bytes = Buffer.alloc(row.length * 4);
  for (let j = 0; j < row.length; j++) bytes.writeFloatLE(row[j], j * 4);
  return bytes.toString('base64');
}

/** Row i of n x d. */
export function rowOf(vectors: Float32Array, dimensions: number, i: number): Float32Array {
  return vectors.subarray(i * dimensions, (i + 1) * dimensions);
}

/** Scales a row to length 1, in place; a row of zeros stays. */
export function normalizeRow(row: Float32Array): Float32Array {
  let sum = 0;
  for (const x of row) sum += x * x;
  const length = Math.sqrt(sum);
  if (length > 0) for (let j = 0; j < row.length; j++) row[j] /= length;
  return row;
}
