import type { Tensor } from '../safetensors.js';

export interface Quantized {
  /** value = integer x scale */
  values: Int8Array;
  scales: Float32Array;
}

/**
 * 7 bits of a weight: without VNNI instructions ONNX Runtime adds pairs of 8-bit products in 16 bits, which
 * overflow with 8-bit weights.
 */
const LARGEST_WEIGHT = 63;

/** Symmetric integers of a matrix [rows, columns], a scale for each column. */
export function quantizeColumns({ shape: [rows, columns], data }: Tensor): Quantized {
  const scales = new Float32Array(columns);
  for (let i = 0; i < data.length; i++) {
    const column = i % columns;
    scales[column] = Math.max(scales[column], Math.abs(data[i]));
  }
  for (let column = 0; column < columns; column++) scales[column] = scales[column] / LARGEST_WEIGHT || 1;
  const values = new Int8Array(rows * columns);
  for (let i = 0; i < values.length; i++) values[i] = Math.round(data[i] / scales[i % columns]);
  return { values, scales };
}

/** Symmetric 8-bit integers of a matrix [rows, columns], a scale for each row. */
export function quantizeRows({ shape: [rows, columns], data }: Tensor): Quantized {
  const values = new Int8Array(rows * columns);
  const scales = new Float32Array(rows);
  for (let row = 0; row < rows; row++) {
    const from = row * columns;
    let largest = 0;
    for (let i = from; i < from + columns; i++) largest = Math.max(largest, Math.abs(data[i]));
    scales[row] = largest / 127 || 1;
    for (let i = from; i < from + columns; i++) values[i] = Math.round(data[i] / scales[row]);
  }
  return { values, scales };
}

/** The matrix that {@link quantizeRows} stands for, in 32-bit floats. */
export function dequantizeRows({ values, scales }: Quantized): Float32Array {
  const columns = values.length / scales.length;
  const data = new Float32Array(values.length);
  for (let i = 0; i < data.length; i++) data[i] = values[i] * scales[Math.floor(i / columns)];
  return data;
}

/**
 * The integers and scales that a matrix was made of by {@link dequantizeRows}: it is their product to the last bit.
 *
 * @returns nothing for a matrix that was not
 */
export function exactRows(tensor: Tensor): Quantized | undefined {
  const { values, scales } = quantizeRows(tensor);
  const { data } = tensor;
  const columns = values.length / scales.length;
  const bits = new Int32Array(scales.buffer);
  const isExact = (row: number): boolean => {
    for (let i = row * columns; i < (row + 1) * columns; i++)
      if (Math.fround(values[i] * scales[row]) !== data[i]) return false;
    return true;
  };
  for (let row = 0; row < scales.length; row++) {
    // 127 scales, rounded, over 127 may be the scale's neighbour.
    const scale = bits[row];
    const found = [scale, scale - 1, scale + 1].some((candidate) => {
      bits[row] = candidate;
      return isExact(row);
    });
    if (!found) return undefined;
  }
  return { values, scales };
}
