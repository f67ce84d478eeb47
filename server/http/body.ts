import type { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';

import express from 'express';

import { messageOf } from '../../base/errors.js';
import { HttpError } from './errors.js';
import type { HeldBytes } from './held-bytes.js';

export const json = 'application/json';
export const ndjson = 'application/x-ndjson';

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

function isWellFormed(value: unknown): boolean {
  if (typeof value === 'string') return !/\p{Surrogate}/u.test(value);
  if (value === null || typeof value !== 'object') return true;
  return Object.entries(value).every(([key, inner]) => isWellFormed(key) && isWellFormed(inner));
}

/**
 * The whole body as JSON, inflated when it is compressed.
 *
 * @param held what the requests in flight hold
 * @throws HttpError `too-large`, `malformed`, `unsupported-media-type`, `timeout`, `overloaded`
 */
export async function readJsonBody(
  request: express.Request,
  response: express.Response,
  limits: { bytes: number; seconds: number },
  held: HeldBytes,
): Promise<unknown> {
  const count = held.counterFor(response);
  let counted = 0;
  const countUpTo = (bytes: number): void => {
    if (bytes > counted) count(bytes - counted);
    counted = Math.max(counted, bytes);
  };
  // A larger one is refused below for its size.
  countUpTo(Math.min(Number(request.headers['content-length'] ?? 0), limits.bytes));
  const read = express.raw({ limit: limits.bytes, type: () => true });
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new HttpError('timeout', `the request's body did not arrive within ${limits.seconds} s`)),
      limits.seconds * 1000,
    );
    // Without Content-Length only this tells how much it is.
    let arrived = 0;
    request.on('data', (chunk: Buffer) => {
      arrived += chunk.length;
      try {
        countUpTo(arrived);
      } catch (error) {
        clearTimeout(timer);
        request.removeAllListeners('data').resume();
        reject(error as HttpError);
      }
    });
    read(request, response, (error?: unknown) => {
      clearTimeout(timer);
      if (error) reject(bodyError(error, limits.bytes));
      else resolve();
    });
  });
  const body = request.body as Buffer | undefined;
  countUpTo(body?.length ?? 0);
  return parseJson(body ?? new Uint8Array(), 'the body');
}

/** What express.raw throws, by its `type`. */
function bodyError(error: unknown, bytes: number): unknown {
  switch ((error as { type?: string }).type) {
    case 'entity.too.large':
      return new HttpError(
        'too-large',
        `the body: expected at most ${bytes} bytes, came more; send several requests`,
      );
    case 'encoding.unsupported':
      return new HttpError(
        'unsupported-media-type',
        `expected Content-Encoding gzip, deflate, br or none, came ${(error as { encoding?: string }).encoding}`,
      );
    case 'request.aborted':
    case 'request.size.invalid':
      return new HttpError(
        'malformed',
        'the body: expected as many bytes as Content-Length says, came fewer',
      );
    default:
      return inflateError(error);
  }
}

/** What zlib throws, or anything else as it is. */
function inflateError(error: unknown): unknown {
  if (!(error as { code?: string }).code?.startsWith('Z_')) return error;
  return new HttpError(
    'malformed',
    `the body: expected to be compressed as Content-Encoding says: ${messageOf(error)}`,
  );
}

export interface Line {
  /** From 1. */
  number: number;
  bytes: Uint8Array;
}

/**
 * The lines of a stream that are not blank, read no faster than they are taken.
 * @throws HttpError `too-large` for a line over the limit, `timeout` when nothing comes for so long
 */
export async function* readLines(
  request: express.Request,
  limits: { bytes: number; seconds: number },
): AsyncGenerator<Line> {
  let number = 0;
  let pending: Buffer[] = [];
  let pendingBytes = 0;
  const lineOf = (parts: Buffer[]): Line | undefined => {
    number++;
    const bytes = parts.length === 1 ? parts[0] : Buffer.concat(parts);
    return bytes.every((byte) => byte === 0x20 || byte === 0x0d || byte === 0x09)
      ? undefined
      : { number, bytes };
  };
  for await (const chunk of withIdleLimit(inflated(request), limits.seconds)) {
    let start = 0;
    for (let end = chunk.indexOf(10); ; end = chunk.indexOf(10, start)) {
      const part = chunk.subarray(start, end < 0 ? chunk.length : end);
      pending.push(part);
      pendingBytes += part.length;
      if (pendingBytes > limits.bytes)
        throw new HttpError(
          'too-large',
          `line ${number + 1}: expected at most ${limits.bytes} bytes, came more`,
          {
            fields: { line: number + 1 },
          },
        );
      if (end < 0) break;
      const line = lineOf(pending);
      if (line) yield line;
      pending = [];
      pendingBytes = 0;
      start = end + 1;
    }
  }
  if (pendingBytes > 0) {
    const line = lineOf(pending);
    if (line) yield line;
  }
}

function inflated(request: express.Request): Readable {
  const encoding = request.headers['content-encoding']?.toLowerCase() ?? 'identity';
  if (encoding === 'identity') return request;
  if (encoding !== 'gzip')
    throw new HttpError('unsupported-media-type', `expected Content-Encoding gzip or none, came ${encoding}`);
  const gunzip = createGunzip();
  request.on('error', (error) => gunzip.destroy(error));
  request.on('aborted', () => gunzip.destroy(new Error('the client disconnected')));
  return request.pipe(gunzip);
}

/** The stream's chunks; waiting for the client longer than `seconds` is an error, being waited for is not. */
async function* withIdleLimit(stream: Readable, seconds: number): AsyncGenerator<Buffer> {
  const chunks = stream.iterator({ destroyOnReturn: false }) as AsyncIterableIterator<Buffer>;
  for (;;) {
    let timer: NodeJS.Timeout | undefined;
    const idle = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new HttpError('timeout', `the stream: nothing came for ${seconds} s`)),
        seconds * 1000,
      );
    });
    const next = chunks.next();
    next.catch(() => undefined);
    try {
      const { value, done } = await Promise.race([next, idle]);
      if (done) return;
      yield value;
    } catch (error) {
      throw inflateError(error);
    } finally {
      clearTimeout(timer);
    }
  }
}
