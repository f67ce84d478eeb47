import type { Readable, Transform } from 'node:stream';
import { createBrotliDecompress, createGunzip, createInflate } from 'node:zlib';

import type express from 'express';

import { messageOf } from '../../base/errors.js';
import type { Limits } from '../config.js';
import { HttpError } from './errors.js';
import type { CountBytes } from './held-bytes.js';

export const json = 'application/json';
export const ndjson = 'application/x-ndjson';

/** Beside one text, for all that such a request may have: a filter, ids, metadata. */
const BESIDE_TEXT_BYTES = 256 * 1024;

/** The largest body that has one text, in which each character may be written as \u0123. */
export function oneTextBytes({ bytes, characters }: Pick<Limits, 'bytes' | 'characters'>): number {
  return Math.min(bytes, 6 * characters + BESIDE_TEXT_BYTES);
}

/**
 * The body's media type, when it is one of `accepted` and in UTF-8.
 * @throws HttpError `unsupported-media-type`
 */
export function mediaType(request: express.Request, accepted: readonly string[]): string {
  const header = request.headers['content-type'];
  const [type, ...parameters] = (header ?? '').split(';').map((part) => part.trim().toLowerCase());
  if (!accepted.includes(type))
    throw new HttpError(
      'unsupported-media-type',
      `expected Content-Type ${accepted.join(' or ')}, came ${header ?? 'none'}`,
    );
  const charset = parameters.find((parameter) => parameter.startsWith('charset='))?.slice('charset='.length);
  if (charset !== undefined && !/^"?utf-?8"?$/.test(charset))
    throw new HttpError('unsupported-media-type', `expected charset utf-8, came ${charset}`);
  return type;
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true });

/**
 * Bytes to a JSON value. Bytes that are not UTF-8, and escapes that are no Unicode character, are
 * refused: stored or embedded they would silently become other text.
 *
 * @param whole what to call the bytes: "the body", "line 3"
 * @throws HttpError `malformed`
 */
export function parseJson(bytes: Uint8Array, whole: string): unknown {
  let text: string;
  try {
    text = strictUtf8.decode(bytes);
  } catch {
    throw new HttpError('malformed', `${whole}: expected UTF-8, came bytes that are not`);
  }
  if (text.trim() === '') throw new HttpError('malformed', `${whole}: expected JSON, came nothing`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new HttpError('malformed', `${whole}: expected JSON: ${messageOf(error)}`);
  }
  // A lone surrogate can only come from an escape.
  if (/\\u[dD][89a-fA-F]/.test(text) && !isWellFormed(value))
    throw new HttpError(
      'malformed',
      `${whole}: expected Unicode text, came half of a surrogate pair (\\ud800 to \\udfff)`,
    );
  return value;
}

/** Without recursion: a body may be nested deeper than the stack is. */
function isWellFormed(value: unknown): boolean {
  const left = [value];
  while (left.length > 0) {
    const inner = left.pop();
    if (typeof inner === 'string') {
      if (/\p{Surrogate}/u.test(inner)) return false;
    } else if (inner !== null && typeof inner === 'object') {
      for (const [key, child] of Object.entries(inner)) left.push(key, child);
    }
  }
  return true;
}

/**
 * The whole body as JSON, inflated when it is compressed: the limit is of what comes out, and refuses it as soon as
 * it is passed.
 *
 * @param count of what comes, not of what is announced: who sends nothing must not keep others out
 * @throws HttpError `too-large`, `malformed`, `unsupported-media-type`, `timeout`, `overloaded`
 */
export async function readJsonBody(
  request: express.Request,
  limits: { bytes: number; seconds: number },
  count: CountBytes,
): Promise<unknown> {
  const checkSize = (bytes: number): void => {
    if (bytes > limits.bytes)
      throw new HttpError(
        'too-large',
        `the body: expected at most ${limits.bytes} bytes, came more; send less at a time`,
      );
  };
  checkSize(Number(request.headers['content-length'] ?? 0));
  let bytes = 0;
  const chunks: Buffer[] = [];
  const late = `the request's body did not arrive within ${limits.seconds} s`;
  await arrived(request, limits.seconds * 1000, late, (chunk) => {
    bytes += chunk.length;
    checkSize(bytes);
    count(chunk.length);
    chunks.push(chunk);
  });
  return parseJson(chunks.length === 1 ? chunks[0] : Buffer.concat(chunks), 'the body');
}

export interface Line {
  /** From 1. */
  number: number;
  bytes: Uint8Array;
}

/**
 * The lines of a stream that are not blank, read no faster than they are taken.
 *
 * @param count of what has come; who takes a line lets its bytes go when it is through with them
 * @throws HttpError `too-large` for a line over the limit, or as many blank ones in a row, `timeout` when nothing
 *   comes for so long, `overloaded`
 */
export async function* readLines(
  request: express.Request,
  limits: { bytes: number; seconds: number },
  count: CountBytes,
): AsyncGenerator<Line> {
  let number = 0;
  let pending: Buffer[] = [];
  let bytesSinceLine = 0;
  const lineOf = (parts: Buffer[]): Line | undefined => {
    number++;
    const bytes = parts.length === 1 ? parts[0] : Buffer.concat(parts);
    if (!bytes.every((byte) => byte === 0x20 || byte === 0x0d || byte === 0x09)) return { number, bytes };
    count(-bytes.length);
    return undefined;
  };
  const late = `the stream: nothing came for ${limits.seconds} s`;
  for await (const chunk of arriving(request, () => limits.seconds * 1000, late)) {
    let start = 0;
    for (let end = chunk.indexOf(10); ; end = chunk.indexOf(10, start)) {
      const part = chunk.subarray(start, end < 0 ? chunk.length : end);
      pending.push(part);
      bytesSinceLine += part.length;
      if (bytesSinceLine > limits.bytes)
        throw new HttpError(
          'too-large',
          `line ${number + 1}: expected at most ${limits.bytes} bytes, came more`,
          {
            fields: { line: number + 1 },
          },
        );
      count(part.length);
      if (end < 0) break;
      const line = lineOf(pending);
      pending = [];
      bytesSinceLine = line ? 0 : bytesSinceLine + 1;
      if (line) yield line;
      start = end + 1;
    }
  }
  const line = lineOf(pending);
  if (line) yield line;
}

const inflaters: Readonly<Record<string, () => Transform>> = {
  gzip: createGunzip,
  deflate: createInflate,
  br: createBrotliDecompress,
};

/** The body as a stream, through an inflater when it is compressed. @throws HttpError `unsupported-media-type` */
function inflated(request: express.Request): Readable {
  const encoding = request.headers['content-encoding']?.toLowerCase() ?? 'identity';
  if (encoding === 'identity') return request;
  if (!Object.hasOwn(inflaters, encoding))
    throw new HttpError(
      'unsupported-media-type',
      `expected Content-Encoding gzip, deflate, br or none, came ${encoding}`,
    );
  const inflater = inflaters[encoding]();
  request.once('close', () => {
    if (!request.complete) inflater.destroy(new Disconnected());
  });
  return request.pipe(inflater);
}

/** What an inflater ends with when the client is gone. */
class Disconnected extends Error {}

/**
 * Resolves when the whole body has come, inflated. For what is small: listeners are a fraction of what an iterator costs.
 *
 * @param late the message when it does not come within so many milliseconds
 * @param take gets each part; what it throws ends the reading
 */
function arrived(
  request: express.Request,
  milliseconds: number,
  late: string,
  take: (chunk: Buffer) => void,
): Promise<void> {
  const stream = inflated(request);
  return new Promise((resolve, reject) => {
    const settle = (error?: unknown): void => {
      clearTimeout(timer);
      stream.off('data', part).off('end', settle).off('close', cut);
      if (error === undefined) return resolve();
      stream.pause();
      drop(request, stream);
      reject(arrivalError(error, stream !== request));
    };
    const part = (chunk: Buffer): void => {
      try {
        take(chunk);
      } catch (error) {
        settle(error);
      }
    };
    const cut = (): void => settle(new Disconnected());
    const timer = setTimeout(() => settle(new HttpError('timeout', late)), milliseconds);
    stream.on('data', part).on('end', settle).on('error', settle).on('close', cut);
    if (stream.destroyed) cut();
  });
}

/** What still comes must not wait for an inflater that is not read. */
function drop(request: express.Request, stream: Readable): void {
  if (stream === request) return;
  request.unpipe();
  stream.destroy();
}

/**
 * The body's bytes, inflated, no faster than they are taken.
 *
 * @param patience milliseconds for which the next of them may be waited for
 * @param late the message when they do not come
 */
async function* arriving(
  request: express.Request,
  patience: () => number,
  late: string,
): AsyncGenerator<Buffer> {
  const stream = inflated(request);
  const chunks = stream.iterator({ destroyOnReturn: false }) as AsyncIterableIterator<Buffer>;
  const next = async (): Promise<IteratorResult<Buffer>> => {
    let timer: NodeJS.Timeout | undefined;
    const isLate = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new HttpError('timeout', late)), patience());
    });
    try {
      return await Promise.race([chunks.next(), isLate]);
    } catch (error) {
      throw arrivalError(error, stream !== request);
    } finally {
      clearTimeout(timer);
    }
  };
  try {
    for (let part = await next(); !part.done; part = await next()) yield part.value;
  } finally {
    drop(request, stream);
    void chunks.return?.();
  }
}

function arrivalError(error: unknown, isInflated: boolean): HttpError {
  if (error instanceof HttpError) return error;
  if (isInflated && !(error instanceof Disconnected))
    return new HttpError(
      'malformed',
      `the body: expected to be compressed as Content-Encoding says: ${messageOf(error)}`,
    );
  return new HttpError('malformed', 'the body: expected to come to its end, came a part and a disconnect');
}
