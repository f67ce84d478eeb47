import { setTimeout as sleep } from 'node:timers/promises';

import { UserError } from '../../base/errors.js';
import type { Collection, Document } from '../search/collection.js';
import type { Line } from './body.js';
import { documentOf } from './document-line.js';
import { asHttpError, HttpError } from './errors.js';
import type { Call } from './handler.js';

/** Documents, and bytes of their lines, that are embedded and committed together. */
const CHUNK = 256;
const CHUNK_BYTES = 1 << 20;
/** Chunks under way at a time: one is embedded while another is stored. */
const CHUNKS_IN_FLIGHT = 2;

/** How much of the stream is durable, counted from its start. */
export interface Stored {
  stored: number;
  inserted: number;
  replaced: number;
}

/**
 * Reads documents line by line and stores them a chunk at a time, in order, reading no faster than
 * they are stored.
 *
 * @param onStored called whenever more is durable
 * @throws HttpError with `stored`, `inserted` and `replaced` in its body: every line before the one at
 *   fault is durable by then, and nothing is stored any more
 */
export async function upsertLines(
  { request, limits, signal, draining, countBytes, services: { collection } }: Call<'upsertDocuments'>,
  lines: AsyncIterable<Line>,
  onStored?: (stored: Stored) => void,
): Promise<Stored> {
  const stored: Stored = { stored: 0, inserted: 0, replaced: 0 };
  const inFlight: { ids: Set<string>; bytes: number; committed: ReturnType<Collection['upsert']> }[] = [];
  const gaveUp = new AbortController();
  const stop = AbortSignal.any([signal, gaveUp.signal]);
  let hasFailed = false;
  let storedBehind = 0;
  let chunk: Document[] = [];
  let ids = new Set<string>();
  let bytes = 0;

  const send = (): void => {
    if (chunk.length === 0 || hasFailed) return;
    const committed = storeInTurn(collection, chunk, stop);
    // Awaited in order; a later chunk may fail while an earlier one is waited for.
    committed.catch(() => (hasFailed = true));
    inFlight.push({ ids, bytes, committed });
    chunk = [];
    ids = new Set();
    bytes = 0;
  };
  const settle = async (leave: number): Promise<void> => {
    while (inFlight.length > (hasFailed ? 0 : leave)) {
      const { ids, bytes, committed } = inFlight[0];
      const { inserted, replaced } = await committed.catch(giveUp);
      inFlight.shift();
      countBytes(-bytes);
      stored.stored += ids.size;
      stored.inserted += inserted;
      stored.replaced += replaced;
      onStored?.({ ...stored });
    }
  };
  /** Stored behind the answer, later chunks would undo what others write once it is there. */
  const giveUp = async (error: unknown): Promise<never> => {
    gaveUp.abort();
    const later = inFlight.splice(0).slice(1);
    const settled = await Promise.allSettled(later.map(({ committed }) => committed));
    later.forEach(({ ids }, i) => {
      if (settled[i].status === 'fulfilled') storedBehind += ids.size;
    });
    throw error;
  };

  try {
    try {
      for await (const line of lines) {
        if (draining.aborted)
          throw new HttpError(
            'not-ready',
            'the server is shutting down; send the lines that are not stored again',
          );
        const document = documentOf(line, limits);
        // The later of two lines with one id must win, and chunks in flight may overtake each other.
        if (ids.has(document.id) || inFlight.some((other) => other.ids.has(document.id))) {
          send();
          await settle(0);
        }
        chunk.push(document);
        ids.add(document.id);
        bytes += line.bytes.length;
        if (chunk.length === CHUNK || bytes >= CHUNK_BYTES) {
          send();
          await settle(CHUNKS_IN_FLIGHT - 1);
        }
      }
    } finally {
      send();
      await settle(0);
    }
  } catch (error) {
    const { kind, message, details } = asHttpError(error, request.id);
    throw new HttpError(
      kind,
      `${message} (${stored.stored} documents before it are stored${storedBehind > 0 ? `, and ${storedBehind} behind it` : ''})`,
      { ...details, fields: { ...details.fields, ...stored } },
      { cause: error },
    );
  }
  return stored;
}

/** Documents line by line, in pieces of which each has an id once, read no faster than they are taken. */
export async function* documentPieces(
  { limits, draining, countBytes }: Call<'upsertDocuments'>,
  lines: AsyncIterable<Line>,
): AsyncGenerator<Document[]> {
  let piece = new Map<string, Document>();
  let bytes = 0;
  for await (const line of lines) {
    if (draining.aborted)
      throw new HttpError('not-ready', 'the server is shutting down, and nothing is queued; send it again');
    const document = documentOf(line, limits);
    // Set again, it would keep its place.
    piece.delete(document.id);
    piece.set(document.id, document);
    bytes += line.bytes.length;
    if (piece.size < CHUNK && bytes < CHUNK_BYTES) continue;
    yield [...piece.values()];
    countBytes(-bytes);
    piece = new Map();
    bytes = 0;
  }
  yield [...piece.values()];
}

/** Where too much waits already, a stream waits for its turn: nobody has to send it again. */
async function storeInTurn(
  collection: Collection,
  documents: readonly Document[],
  signal: AbortSignal,
): ReturnType<Collection['upsert']> {
  for (;;)
    try {
      return await collection.upsert(documents, signal);
    } catch (error) {
      if (!(error instanceof UserError && error.kind === 'overloaded')) throw error;
      await sleep(1000 * (error.retryAfter ?? 1), undefined, { signal });
    }
}
