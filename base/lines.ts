import { isUtf8 } from 'node:buffer';
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream';
import { createGunzip } from 'node:zlib';

import { messageOf, UserError } from './errors.js';
import { fileError } from './files.js';

export interface Line {
  /** Without its line break; a byte order mark at the start of the file is taken off. */
  text: string;
  /** From 1. */
  number: number;
}

const NEWLINE = 0x0a;
const BYTE_ORDER_MARK = '\ufeff';

/**
 * The lines of a text file, streamed; unzipped on the way when its name ends in .gz. LF and CRLF both
 * end a line, and the last one needs neither. `-` is the standard input.
 *
 * @param onBroken told of lines that are not UTF-8 text, which are then left out
 * @throws UserError `not-found`; `malformed`, with file and line, when a line is not UTF-8 text and nobody is to be
 *   told; `corrupt` when the gzip data are broken or cut short
 */
export async function* readLines(
  file: string,
  onBroken?: (error: UserError, number: number) => void,
): AsyncGenerator<Line> {
  let number = 0;
  for await (const bytes of byteLines(file)) {
    number++;
    if (bytes.includes(0) || !isUtf8(bytes)) {
      const error = new UserError('malformed', `${file}:${number}: expected UTF-8 text, found other bytes`);
      if (!onBroken) throw error;
      onBroken(error, number);
      continue;
    }
    let text = bytes.toString('utf8');
    if (number === 1 && text.startsWith(BYTE_ORDER_MARK)) text = text.slice(1);
    yield { text: text.endsWith('\r') ? text.slice(0, -1) : text, number };
  }
}

async function* byteLines(file: string): AsyncGenerator<Buffer> {
  const source = file === '-' ? process.stdin : createReadStream(file, { highWaterMark: 1 << 18 });
  // The loop below sees every error: pipeline destroys the last stream with it.
  const stream = file.endsWith('.gz') ? pipeline(source, createGunzip(), () => undefined) : source;
  let held: Buffer[] = [];
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      let from = 0;
      for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, from)) {
        const end = chunk.subarray(from, at);
        yield held.length > 0 ? Buffer.concat([...held, end]) : end;
        held = [];
        from = at + 1;
      }
      if (from < chunk.length) held.push(chunk.subarray(from));
    }
  } catch (error) {
    if (error instanceof UserError) throw error;
    if ((error as NodeJS.ErrnoException).code?.startsWith('Z_'))
      throw new UserError('corrupt', `${file}: expected gzip data: ${messageOf(error)}`, { cause: error });
    throw fileError(error, file, 'read');
  }
  if (held.length > 0) yield Buffer.concat(held);
}
