/**
 * Dot products of one vector with many, in WebAssembly SIMD: several times the speed of a JavaScript
 * loop, on every platform that Node runs on, without native code to build.
 */
export interface DotKernel {
  /**
   * out[i] = query . rows[i], i = 0 .. n - 1. All are byte offsets into the memory; a row is
   * `rowBytes` long, a multiple of ROW_ALIGNMENT (what is beyond the vector holds zeros). n is 1 and up.
   */
  (query: number, rows: number, n: number, rowBytes: number, out: number): void;
}

/** Bytes: four SIMD registers, so that four sums grow side by side. */
export const ROW_ALIGNMENT = 64;
export const PAGE_BYTES = 65536;
/** 4 GiB, as much as 32 bits address. */
export const MAX_PAGES = 65536;

/** What Node has of the WebAssembly interface, as far as it is used here. */
export interface WasmMemory {
  readonly buffer: ArrayBuffer;
  grow(pages: number): number;
}
declare const WebAssembly: {
  Memory: new (descriptor: { initial: number; maximum: number }) => WasmMemory;
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object, imports: object) => { exports: Record<string, unknown> };
};

/** @returns an empty memory (it may grow to 4 GiB) and the kernel that works on it */
export function createDotKernel(): { memory: WasmMemory; dots: DotKernel } {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: MAX_PAGES });
  const instance = new WebAssembly.Instance(new WebAssembly.Module(assemble()), { js: { memory } });
  return { memory, dots: instance.exports.dots as DotKernel };
}

// The parameters and locals of the function, by index.
const [QUERY, ROWS, N, ROW_BYTES, OUT, AT, END] = [0, 1, 2, 3, 4, 5, 6];
const SUMS = [7, 8, 9, 10];

const I32 = 0x7f;
const V128 = 0x7b;
const get = (local: number): number[] => [0x20, local];
const set = (local: number): number[] => [0x21, local];
const i32 = (value: number): number[] => [0x41, ...signedLeb(value)];
const [I32_ADD, I32_SUB, I32_LT_U, F32_ADD] = [0x6a, 0x6b, 0x49, 0x92];
const loop = (body: number[]): number[] => [0x03, 0x40, ...body, 0x0b];
const branchIf = (depth: number): number[] => [0x0d, depth];
const v128Load = (offset: number): number[] => [0xfd, 0x00, 4, offset];
const V128_ZERO = [0xfd, 0x0c, ...new Array<number>(16).fill(0)];
const F32X4_ADD = [0xfd, 0xe4, 0x01];
const F32X4_MUL = [0xfd, 0xe6, 0x01];
const f32x4Lane = (lane: number): number[] => [0xfd, 0x1f, lane];
const F32_STORE = [0x38, 2, 0];

/** The module's bytes: WebAssembly core specification 2.0, chapter 5 (binary format). */
function assemble(): Uint8Array {
  const advance = (local: number, bytes: number): number[] => [
    ...get(local),
    ...i32(bytes),
    I32_ADD,
    ...set(local),
  ];
  const multiplyAdd = (sum: number, i: number): number[] => [
    ...get(sum),
    ...get(AT),
    ...v128Load(16 * i),
    ...get(ROWS),
    ...v128Load(16 * i),
    ...F32X4_MUL,
    ...F32X4_ADD,
    ...set(sum),
  ];
  const [s0, s1, s2, s3] = SUMS;
  const code = loop([
    ...SUMS.flatMap((sum) => [...V128_ZERO, ...set(sum)]),
    ...[...get(QUERY), ...set(AT)],
    ...[...get(QUERY), ...get(ROW_BYTES), I32_ADD, ...set(END)],
    ...loop([
      ...SUMS.flatMap(multiplyAdd),
      ...advance(AT, ROW_ALIGNMENT),
      ...advance(ROWS, ROW_ALIGNMENT),
      ...[...get(AT), ...get(END), I32_LT_U, ...branchIf(0)],
    ]),
    ...[...get(s0), ...get(s1), ...F32X4_ADD, ...get(s2), ...get(s3), ...F32X4_ADD, ...F32X4_ADD, ...set(s0)],
    ...get(OUT),
    ...[...get(s0), ...f32x4Lane(0), ...get(s0), ...f32x4Lane(1), F32_ADD],
    ...[...get(s0), ...f32x4Lane(2), ...get(s0), ...f32x4Lane(3), F32_ADD],
    ...[F32_ADD, ...F32_STORE],
    ...advance(OUT, 4),
    ...[...get(N), ...i32(1), I32_SUB, ...set(N)],
    ...[...get(N), ...branchIf(0)],
  ]);
  const body = [2, 2, I32, SUMS.length, V128, ...code, 0x0b];
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [1, 0x60, 5, I32, I32, I32, I32, I32, 0]),
    ...section(2, [1, ...text('js'), ...text('memory'), 0x02, 0x01, 1, ...leb(MAX_PAGES)]),
    ...section(3, [1, 0]),
    ...section(7, [1, ...text('dots'), 0x00, 0]),
    ...section(10, [1, ...leb(body.length), ...body]),
  ]);
}

function section(id: number, content: number[]): number[] {
  return [id, ...leb(content.length), ...content];
}

function text(name: string): number[] {
  return [name.length, ...Buffer.from(name)];
}

function leb(value: number): number[] {
  return value < 128 ? [value] : [(value & 127) | 128, ...leb(value >>> 7)];
}

/** Of 0 .. 8191: the sign bit of the last byte must be clear. */
function signedLeb(value: number): number[] {
  return value < 64 ? [value] : [(value & 127) | 128, value >>> 7];
}
