import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import {
  floatChunks,
  readIntegers,
  readSafetensors,
  readSafetensorsHeader,
  readSafetensorsMetadata,
  writeSafetensors,
  type IntegerTensor,
  type Tensor,
} from '../../encoder/safetensors.js';

let folder: string;
before(async () => void (folder = await mkdtemp(path.join(tmpdir(), 'safetensors-'))));
after(() => rm(folder, { recursive: true }));

/** A file by the format's description: length of the header, header, data. */
async function fileOf(header: unknown, data: Uint8Array = new Uint8Array()): Promise<string> {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const file = path.join(folder, 'made.safetensors');
  await writeFile(file, Buffer.concat([length, text, data]));
  return file;
}

const corrupt = (message: RegExp) => ({ name: 'UserError', kind: 'corrupt', message });

describe('writing safetensors', () => {
  it('writes what the format says: a length, a JSON header, then little-endian data', async () => {
    const file = path.join(folder, 'two.safetensors');
    await writeSafetensors(
      file,
      new Map([
        ['b', { shape: [2, 1], data: Float32Array.of(1, -2) }],
        ['a', { shape: [], data: Float32Array.of(0.5) }],
      ]),
    );
    const bytes = await readFile(file);
    const length = Number(bytes.readBigUInt64LE());
    assert.equal(length % 8, 0);
    assert.deepEqual(JSON.parse(bytes.subarray(8, 8 + length).toString()), {
      __metadata__: { format: 'pt' },
      b: { dtype: 'F32', shape: [2, 1], data_offsets: [0, 8] },
      a: { dtype: 'F32', shape: [], data_offsets: [8, 12] },
    });
    assert.equal(bytes.subarray(8 + length).toString('hex'), '0000803f' + '000000c0' + '0000003f');
  });

  it('reads back the same bits, in the same order, subnormals, infinities and NaN too', async () => {
    const file = path.join(folder, 'bits.safetensors');
    const data = Float32Array.of(1e-45, -0, Number.POSITIVE_INFINITY, Number.NaN, 3.4e38);
    await writeSafetensors(
      file,
      new Map([
        ['z', { shape: [5], data }],
        ['empty', { shape: [0, 4], data: new Float32Array() }],
      ]),
    );
    const read = await readSafetensors(file);
    assert.deepEqual([...read.keys()], ['z', 'empty']);
    assert.deepEqual(read.get('z'), { shape: [5], data });
    assert.deepEqual(read.get('empty')!.shape, [0, 4]);
  });

  it('writes 8-bit integers beside floats, with what the file says about itself', async () => {
    const file = path.join(folder, 'integers.safetensors');
    const floats: Tensor = { shape: [1], data: Float32Array.of(0.5) };
    const integers: IntegerTensor = { shape: [3, 1], data: Int8Array.of(127, -127, 0) };
    const tensors = new Map<string, Tensor | IntegerTensor>([
      ['f', floats],
      ['i', integers],
    ]);
    await writeSafetensors(file, tensors, { format: 'pt', made: 'here' });
    const bytes = await readFile(file);
    assert.equal(bytes.subarray(bytes.length - 7).toString('hex'), '0000003f' + '7f8100');
    assert.equal((await readSafetensorsHeader(file)).get('i')!.dtype, 'I8');
    assert.deepEqual(await readIntegers(file, (name) => name === 'i'), new Map([['i', integers]]));
    assert.deepEqual(await readSafetensors(file, (name) => name === 'f'), new Map([['f', floats]]));
    assert.deepEqual(await readSafetensorsMetadata(file), { format: 'pt', made: 'here' });
    await assert.rejects(
      readIntegers(file, () => true),
      {
        kind: 'unsupported-model',
        message: /f: expected dtype I8, found F32/,
      },
    );
  });

  it('leaves the old file when the new one fails, and nothing beside it', async () => {
    const own = await mkdtemp(path.join(folder, 'own-'));
    const file = path.join(own, 'kept.safetensors');
    await writeSafetensors(file, new Map([['a', { shape: [1], data: Float32Array.of(7) }]]));
    const wrong = new Map([['a', { shape: [3], data: Float32Array.of(7) }]]);
    await assert.rejects(writeSafetensors(file, wrong), /a: shape \[3\] holds 3 numbers, not 1/);
    assert.deepEqual((await readSafetensors(file)).get('a')!.data, Float32Array.of(7));
    assert.deepEqual(await readdir(own), ['kept.safetensors']);
  });
});

describe('reading safetensors', () => {
  it('converts float16 and bfloat16', async () => {
    // 1, -2, 65504 (the largest), 2^-24 (the least), infinity; then 1, -2, 3.140625 as bfloat16.
    const half = Uint16Array.of(0x3c00, 0xc000, 0x7bff, 0x0001, 0x7c00);
    const brain = Uint16Array.of(0x3f80, 0xc000, 0x4049);
    const file = await fileOf(
      {
        half: { dtype: 'F16', shape: [5], data_offsets: [0, 10] },
        brain: { dtype: 'BF16', shape: [3], data_offsets: [10, 16] },
      },
      Buffer.concat([Buffer.from(half.buffer), Buffer.from(brain.buffer)]),
    );
    const read = await readSafetensors(file);
    assert.deepEqual([...read.get('half')!.data], [1, -2, 65504, 2 ** -24, Number.POSITIVE_INFINITY]);
    assert.deepEqual([...read.get('brain')!.data], [1, -2, 3.140625]);
  });

  it('yields each number once, in pieces of any dtype, the last of a tensor smaller than the others', async () => {
    const file = path.join(folder, 'pieces.safetensors');
    const long = Float32Array.from({ length: 2 ** 18 + 5 }, (_, i) => i);
    const short = Float32Array.of(7, 8);
    const tensors = { long: { shape: [long.length], data: long }, short: { shape: [2], data: short } };
    await writeSafetensors(file, new Map(Object.entries(tensors)));
    const read = async (from: string, names: string[]): Promise<Record<string, number[]>> => {
      const found: Record<string, number[]> = {};
      for await (const { name, data } of floatChunks(from, names))
        for (const value of data) (found[name] ??= []).push(value);
      return found;
    };
    assert.deepEqual(await read(file, ['long', 'short']), { long: [...long], short: [...short] });
    const header = {
      a: { dtype: 'BF16', shape: [3], data_offsets: [0, 6] },
      b: { dtype: 'BF16', shape: [1], data_offsets: [6, 8] },
    };
    const halves = await fileOf(
      header,
      new Uint8Array(Uint16Array.of(0x3f80, 0x4000, 0x4040, 0x4080).buffer),
    );
    assert.deepEqual(await read(halves, ['a', 'b']), { a: [1, 2, 3], b: [4] });
  });

  it('reads only what is asked for, and knows the rest from the header', async () => {
    const file = await fileOf(
      {
        ids: { dtype: 'I64', shape: [1], data_offsets: [0, 8] },
        w: { dtype: 'F32', shape: [1], data_offsets: [8, 12] },
      },
      Buffer.from('01000000000000000000803f', 'hex'),
    );
    assert.deepEqual([...(await readSafetensors(file, (name) => name === 'w')).keys()], ['w']);
    assert.deepEqual([...(await readSafetensorsHeader(file)).keys()], ['ids', 'w']);
    await assert.rejects(readSafetensors(file), {
      kind: 'unsupported-model',
      message: /ids: expected dtype F32, F16, BF16, found I64/,
    });
  });

  it('refuses a file that is not there, or too short to be one', async () => {
    await assert.rejects(readSafetensors(path.join(folder, 'no')), { kind: 'not-found' });
    const file = path.join(folder, 'short');
    await writeFile(file, 'abc');
    await assert.rejects(readSafetensors(file), corrupt(/found only 3 bytes/));
  });

  it('refuses a header longer than the file', async () => {
    const file = path.join(folder, 'long');
    await writeFile(file, Buffer.from('ffffffffffffff7f7b7d', 'hex'));
    await assert.rejects(readSafetensors(file), corrupt(/header of at most 2 bytes, found a length of/));
  });

  it('refuses a header that is not JSON or lacks a field', async () => {
    await assert.rejects(readSafetensors(await fileOf('{"a": ')), corrupt(/expected a JSON header/));
    await assert.rejects(
      readSafetensors(await fileOf({ a: { dtype: 'F32', shape: [-1], data_offsets: [0, 4] } })),
      corrupt(/a: expected dtype, shape and data_offsets/),
    );
  });

  it('refuses data that are cut short, saying where they should end', async () => {
    const header = { a: { dtype: 'F32', shape: [2], data_offsets: [0, 8] } };
    const start = 8 + JSON.stringify(header).length;
    await assert.rejects(
      readSafetensors(await fileOf(header, new Uint8Array(7))),
      corrupt(new RegExp(`a: expected data up to byte ${start + 8}, found a file of ${start + 7} bytes`)),
    );
  });

  it('refuses offsets that do not fit the shape', async () => {
    const header = { a: { dtype: 'F32', shape: [2, 3], data_offsets: [0, 8] } };
    await assert.rejects(
      readSafetensors(await fileOf(header, new Uint8Array(8))),
      corrupt(/a: expected 24 bytes for F32 \[2, 3\], found 8/),
    );
  });
});
