import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';

import { readLines, type Line } from '../../base/lines.js';
import { folderWith } from '../evaluation/support.js';

async function linesOf(name: string, content: string | Uint8Array): Promise<Line[]> {
  const file = path.join(await folderWith({ [name]: content }), name);
  const lines = [];
  for await (const line of readLines(file)) lines.push(line);
  return lines;
}
const texts = async (name: string, content: string | Uint8Array): Promise<string[]> =>
  (await linesOf(name, content)).map(({ text }) => text);

describe('lines of a file', () => {
  it('numbers them from 1 and keeps empty ones', async () => {
    assert.deepEqual(await linesOf('a.txt', 'one\n\nthree\n'), [
      { text: 'one', number: 1 },
      { text: '', number: 2 },
      { text: 'three', number: 3 },
    ]);
  });

  it('needs no line break at the end, takes CRLF, and drops a byte order mark', async () => {
    assert.deepEqual(await texts('a.txt', '\ufeffone\r\ntwo'), ['one', 'two']);
  });

  it('finds none in an empty file', async () => {
    assert.deepEqual(await texts('a.txt', ''), []);
  });

  it('keeps lines whole that are longer than what is read at a time', async () => {
    const long = 'ä'.repeat(700_000);
    assert.deepEqual(await texts('a.txt', `${long}\nshort\n${long}`), [long, 'short', long]);
  });

  it('unzips what ends in .gz', async () => {
    assert.deepEqual(await texts('a.txt.gz', gzipSync('one\ntwo\n')), ['one', 'two']);
  });

  it('says that a zipped file is broken or cut short', async () => {
    const zipped = gzipSync('one\ntwo\n'.repeat(1000));
    await assert.rejects(linesOf('a.gz', 'not gzip'), {
      kind: 'corrupt',
      message: /a\.gz: expected gzip data/,
    });
    await assert.rejects(linesOf('a.gz', zipped.subarray(0, 20)), { kind: 'corrupt' });
  });

  it('names file and line of what is not UTF-8 text', async () => {
    await assert.rejects(linesOf('a.txt', Buffer.from([0x61, 0x0a, 0xff, 0x0a])), {
      kind: 'malformed',
      message: /a\.txt:2: expected UTF-8 text/,
    });
    await assert.rejects(linesOf('a.txt', Buffer.from([0x61, 0x00])), { message: /a\.txt:1: / });
  });

  it('leaves out what is not UTF-8 text when somebody wants to be told', async () => {
    const content = Buffer.from([0x61, 0x0a, 0xff, 0x0a, 0x62, 0x0a]);
    const file = path.join(await folderWith({ 'a.txt': content }), 'a.txt');
    const told: string[] = [];
    const lines: Line[] = [];
    for await (const line of readLines(file, ({ message }, number) => told.push(`${number} ${message}`)))
      lines.push(line);
    assert.deepEqual(lines, [
      { text: 'a', number: 1 },
      { text: 'b', number: 3 },
    ]);
    assert.deepEqual(told, [`2 ${file}:2: expected UTF-8 text, found other bytes`]);
  });

  it('says that a file is missing, or is a folder', async () => {
    const folder = await folderWith({});
    const first = (file: string): Promise<unknown> => readLines(file).next();
    await assert.rejects(first(path.join(folder, 'none.txt')), { kind: 'not-found', message: /none\.txt/ });
    await assert.rejects(first(folder), { kind: 'invalid', message: /expected a file, found a folder/ });
  });
});
