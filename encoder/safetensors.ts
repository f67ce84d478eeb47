import { open, type FileHandle } from 'node:fs/promises';

import { messageOf, UserError } from '../base/errors.js';
import { fileError, writeFileAtomic } from '../base/files.js';

/** A named tensor's content, row-major. */
export interface Tensor {
  shape: number[];
  data: Float32Array;
}

/** The same, of 8-bit integers. */
export interface IntegerTensor {
  shape: number[];
  data: Int8Array;
}

/** A tensor whose numbers are read when their turn comes, so that it need not be in memory whole. */
export interface TensorSource {
  shape: number[];
  /** Piece by piece, row-major. */
  read(): Iterable<Float32Array>;
}

export interface TensorEntry {
  dtype: string;
  shape: number[];
  /** First byte and the one behind the last, counted from the start of the file. */
  begin: number;
  end: number;
}

const BYTES: Record<string, number> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
};
const FLOATS = ['F32', 'F16', 'BF16'];
const LONGEST_HEADER = 100_000_000;

export function countOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/**
 * The header of a safetensors file, checked against the file's size: what is cut short or overlaps is
 * found before a byte of data is read.
 *
 * @throws UserError `not-found`; `corrupt`, naming file, tensor, expected and found
 */
export async function readSafetensorsHeader(file: string): Promise<Map<string, TensorEntry>> {
  return withFile(file, async (handle) => (await header(file, handle)).entries);
}

/**
 * What a safetensors file says about itself.
 *
 * @throws UserError as {@link readSafetensorsHeader}
 */
export async function readSafetensorsMetadata(file: string): Promise<Record<string, unknown>> {
  return withFile(file, async (handle) => (await header(file, handle)).metadata);
}

/**
 * The floating-point tensors of a safetensors file as 32-bit floats; F16 and BF16 are converted.
 *
 * @param wanted which names to read; all when left out
 * @throws UserError `corrupt` as {@link readSafetensorsHeader}; `unsupported-model` for another dtype
 */
export async function readSafetensors(
  file: string,
  wanted: (name: string) => boolean = () => true,
): Promise<Map<string, Tensor>> {
  return readTensors(file, wanted, FLOATS, toFloat32);
}

/**
 * The same in the order of the file, one in memory at a time.
 *
 * @throws UserError as {@link readSafetensors}
 */
export function floatTensors(file: string): AsyncGenerator<[name: string, Tensor]> {
  return eachTensor(file, () => true, FLOATS, toFloat32);
}

/** Numbers that are read at a time. */
const CHUNK = 1 << 18;

/**
 * The same numbers piece by piece, for who needs no more of them at once: tensor by tensor in the order of the names.
 *
 * @yields the tensor's name, and up to 2^18 of its numbers, which are overwritten by the next ones
 * @throws UserError as {@link readSafetensors}
 */
export function floatChunks(
  file: string,
  names: Iterable<string>,
): AsyncGenerator<{ name: string; data: Float32Array }> {
  return eachIn(file, async function* (handle) {
    const { entries } = await header(file, handle);
    const buffer = new Uint8Array(4 * CHUNK);
    for (const name of names) {
      const { dtype, begin, end } = entries.get(name)!;
      checkDtype(file, name, dtype, FLOATS);
      const size = CHUNK * BYTES[dtype];
      for (let at = begin; at < end; at += size) {
        const bytes = buffer.subarray(0, Math.min(size, end - at));
        await fillBytes(file, handle, at, bytes);
        yield { name, data: toFloat32(bytes, dtype) };
      }
    }
  });
}

/**
 * The 8-bit integer tensors (I8) of a safetensors file.
 *
 * @param wanted which names to read
 * @throws UserError as {@link readSafetensors}
 */
export async function readIntegers(
  file: string,
  wanted: (name: string) => boolean,
): Promise<Map<string, IntegerTensor>> {
  return readTensors(file, wanted, ['I8'], ({ buffer }) => new Int8Array(buffer));
}

/** Writes fp32 and int8 tensors in the order of the map, atomically. */
export async function writeSafetensors(
  file: string,
  tensors: ReadonlyMap<string, Tensor | IntegerTensor | TensorSource>,
  metadata: Record<string, string> = { format: 'pt' },
): Promise<void> {
  const entries: Record<string, unknown> = { __metadata__: metadata };
  let at = 0;
  for (const [name, tensor] of tensors) {
    const { shape } = tensor;
    const dtype = 'data' in tensor && tensor.data instanceof Int8Array ? 'I8' : 'F32';
    const begin = at;
    at += countOf(shape) * BYTES[dtype];
    entries[name] = { dtype, shape, data_offsets: [begin, at] };
  }
  let json = JSON.stringify(entries);
  // Data begin at a multiple of 8 bytes, so that a reader may map the file and use it in place.
  json += ' '.repeat((8 - (Buffer.byteLength(json) % 8)) % 8);
  const text = Buffer.from(json);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  await writeFileAtomic(file, contents());

  function* contents(): Generator<Uint8Array> {
    yield length;
    yield text;
    for (const [name, tensor] of tensors) {
      let count = 0;
      for (const data of 'data' in tensor ? [tensor.data] : tensor.read()) {
        count += data.length;
        yield bytesOf(data);
      }
      const expected = countOf(tensor.shape);
      if (count !== expected)
        throw new Error(`${name}: shape ${shapeText(tensor.shape)} holds ${expected} numbers, not ${count}`);
    }
  }
}

export function shapeText(shape: readonly number[]): string {
  return `[${shape.join(', ')}]`;
}

/** The bytes of a typed array, not copied. */
export function bytesOf(array: Float32Array | Int8Array | BigInt64Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

async function withFile<T>(file: string, use: (handle: FileHandle) => Promise<T>): Promise<T> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(file, 'r');
    return await use(handle);
  } catch (error) {
    throw error instanceof UserError ? error : fileError(error, file, 'read');
  } finally {
    await handle?.close();
  }
}

/** What is found in a file, which is closed when whoever takes it has enough. */
async function* eachIn<T>(file: string, find: (handle: FileHandle) => AsyncIterable<T>): AsyncGenerator<T> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(file, 'r');
    yield* find(handle);
  } catch (error) {
    throw error instanceof UserError ? error : fileError(error, file, 'read');
  } finally {
    await handle?.close();
  }
}

async function readBytes(
  file: string,
  handle: FileHandle,
  position: number,
  length: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  await fillBytes(file, handle, position, bytes);
  return bytes;
}

async function fillBytes(
  file: string,
  handle: FileHandle,
  position: number,
  bytes: Uint8Array,
): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesRead } = await handle.read(bytes, done, bytes.length - done, position + done);
    if (bytesRead === 0)
      throw new UserError('corrupt', `${file}: expected ${bytes.length} bytes at ${position}, found ${done}`);
    done += bytesRead;
  }
}

function checkDtype(file: string, name: string, found: string, expected: string[]): void {
  if (!expected.includes(found))
    throw new UserError(
      'unsupported-model',
      `${file}: ${name}: expected dtype ${expected.join(', ')}, found ${found}`,
    );
}

async function readTensors<Data>(
  file: string,
  wanted: (name: string) => boolean,
  dtypes: string[],
  convert: (bytes: Uint8Array<ArrayBuffer>, dtype: string) => Data,
): Promise<Map<string, { shape: number[]; data: Data }>> {
  const tensors = new Map<string, { shape: number[]; data: Data }>();
  for await (const [name, tensor] of eachTensor(file, wanted, dtypes, convert)) tensors.set(name, tensor);
  return tensors;
}

function eachTensor<Data>(
  file: string,
  wanted: (name: string) => boolean,
  dtypes: string[],
  convert: (bytes: Uint8Array<ArrayBuffer>, dtype: string) => Data,
): AsyncGenerator<[string, { shape: number[]; data: Data }]> {
  return eachIn(file, async function* (handle) {
    for (const [name, { dtype, shape, begin, end }] of (await header(file, handle)).entries) {
      if (!wanted(name)) continue;
      checkDtype(file, name, dtype, dtypes);
      const bytes = await readBytes(file, handle, begin, end - begin);
      yield [name, { shape, data: convert(bytes, dtype) }];
    }
  });
}

async function header(
  file: string,
  handle: FileHandle,
): Promise<{ entries: Map<string, TensorEntry>; metadata: Record<string, unknown> }> {
  const { size } = await handle.stat();
  if (size < 8)
    throw new UserError('corrupt', `${file}: expected a safetensors file, found only ${size} bytes`);
  const lengthBytes = await readBytes(file, handle, 0, 8);
  const length = Number(Buffer.from(lengthBytes.buffer).readBigUInt64LE());
  if (length < 2 || length > LONGEST_HEADER || 8 + length > size)
    throw new UserError(
      'corrupt',
      `${file}: expected a safetensors header of at most ${size - 8} bytes, found a length of ${length}; the file is truncated or something else`,
    );
  let json: Record<string, { dtype?: unknown; shape?: unknown; data_offsets?: unknown }>;
  try {
    json = JSON.parse(Buffer.from(await readBytes(file, handle, 8, length)).toString('utf8')) as typeof json;
  } catch (error) {
    throw new UserError('corrupt', `${file}: expected a JSON header: ${messageOf(error)}`, { cause: error });
  }
  const base = 8 + length;
  const entries = new Map<string, TensorEntry>();
  const { __metadata__: metadata = {}, ...described } = json;
  for (const [name, { dtype, shape, data_offsets: offsets }] of Object.entries(described)) {
    if (typeof dtype !== 'string' || !isSizes(shape) || !isSizes(offsets) || offsets.length !== 2)
      throw new UserError(
        'corrupt',
        `${file}: ${name}: expected dtype, shape and data_offsets in the header`,
      );
    const [begin, end] = offsets;
    if (base + end > size)
      throw new UserError(
        'corrupt',
        `${file}: ${name}: expected data up to byte ${base + end}, found a file of ${size} bytes; it is truncated`,
      );
    const expected = countOf(shape) * (BYTES[dtype] ?? Number.NaN);
    if (end - begin !== expected && BYTES[dtype] !== undefined)
      throw new UserError(
        'corrupt',
        `${file}: ${name}: expected ${expected} bytes for ${dtype} ${shapeText(shape)}, found ${end - begin}`,
      );
    entries.set(name, { dtype, shape, begin: base + begin, end: base + end });
  }
  return { entries, metadata: metadata as Record<string, unknown> };
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}

function toFloat32(bytes: Uint8Array<ArrayBuffer>, dtype: string): Float32Array {
  const { buffer, byteOffset, byteLength } = bytes;
  if (dtype === 'F32') return new Float32Array(buffer, byteOffset, byteLength / 4);
  const half = new Uint16Array(buffer, byteOffset, byteLength / 2);
  const result = new Float32Array(half.length);
  if (dtype === 'BF16') {
    // A bfloat16 is the upper half of a float.
    const bits = new Uint32Array(result.buffer);
    for (let i = 0; i < half.length; i++) bits[i] = half[i] << 16;
  } else for (let i = 0; i < half.length; i++) result[i] = float16(half[i]);
  return result;
}

/** IEEE 754 binary16. */
function float16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
