import { STATUS_CODES, type Server, type ServerOptions, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';

import type express from 'express';
import type { Logger } from 'pino';

import type { ConnectionTimes } from '../config.js';
import { errorBody, HttpError } from './errors.js';

/** Of a URL. */
const URL_BYTES = 16 * 1024;
/** Of a URL, a method and headers together. */
const HEAD_BYTES = 32 * 1024;

/** What node:http does about connections that are slow, idle or too generous. */
export function connectionOptions(times: ConnectionTimes): ServerOptions {
  return {
    maxHeaderSize: HEAD_BYTES,
    headersTimeout: times.headers * 1000,
    connectionsCheckingInterval: times.headers * 250,
    // A stream of documents takes as long as it takes: body.ts limits how long a body may stall.
    requestTimeout: 0,
    // Longer than load balancers keep theirs, so that it is they who close.
    keepAliveTimeout: 65_000,
    // `checkHead` answers it in our form.
    requireHostHeader: false,
  };
}

/** Refuses what node:http lets through. @throws HttpError `uri-too-long`, `malformed` */
export const checkHead: express.RequestHandler = (request, _response, next) => {
  if (request.url.length > URL_BYTES)
    throw new HttpError(
      'uri-too-long',
      `the URL: expected at most ${URL_BYTES} bytes, came ${request.url.length}; send a POST with a body instead`,
    );
  if (request.headers.host === undefined && request.httpVersion === '1.1')
    throw new HttpError('malformed', 'expected the header Host, which HTTP/1.1 asks for, came none');
  next();
};

/**
 * Answers in our form what never becomes a request: no HTTP, headers that are too large or do not arrive. And cuts
 * connections whose clients go on sending a body long after the answer, or do not take it.
 */
export function guardConnections(server: Server, times: ConnectionTimes, log: Logger): void {
  const answering = new WeakMap<Duplex, ServerResponse>();
  const cutLater = (socket: Duplex): NodeJS.Timeout =>
    setTimeout(() => socket.destroy(), times.linger * 1000).unref();

  server.on('request', (request, response) => {
    // So long nothing went either way; what waits for us may be quiet: an answer that is not there yet, a stream of events.
    response.setTimeout(times.unread * 1000, () => {
      if (response.writableEnded) request.socket.destroy();
    });
    answering.set(request.socket, response);
    response.once('close', () => answering.delete(request.socket));
    response.once('finish', () => {
      if (request.complete) return;
      // Dropped; where nobody reads, nobody hears that the client is gone.
      request.resume();
      const cut = cutLater(request.socket);
      request.once('close', () => clearTimeout(cut));
    });
  });
  // By default one that is not known is refused with 417, not in our form; HTTP lets it be passed over as well.
  server.on('checkExpectation', (request, response) => server.emit('request', request, response));
  server.on('clientError', (error: NodeJS.ErrnoException & { reason?: string }, socket: Socket) => {
    // Once answered, what else comes is not looked at.
    if (!socket.writable) return;
    if (error.code === 'ECONNRESET' || answering.get(socket)?.headersSent) {
      socket.destroy();
      return;
    }
    const refusal = refusalOf(error);
    log.info({ from: socket.remoteAddress, code: error.code, status: refusal.status }, 'not a request');
    socket.end(rawAnswer(refusal));
    const cut = cutLater(socket);
    socket.once('close', () => clearTimeout(cut));
  });
}

function refusalOf({ code, reason }: { code?: string; reason?: string }): HttpError {
  switch (code) {
    case 'HPE_HEADER_OVERFLOW':
      return new HttpError(
        'headers-too-large',
        `expected a URL and headers of at most ${HEAD_BYTES} bytes, came more`,
      );
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return new HttpError(
        'too-large',
        'the body: expected chunks with short extensions or none, came longer',
      );
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new HttpError('timeout', 'the request did not arrive in time');
    default:
      return new HttpError('malformed', `expected HTTP/1.1, came something else: ${reason ?? code}`);
  }
}

function rawAnswer(error: HttpError): string {
  const body = JSON.stringify(errorBody(error));
  return [
    `HTTP/1.1 ${error.status} ${STATUS_CODES[error.status]}`,
    'Content-Type: application/json; charset=utf-8',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'X-Content-Type-Options: nosniff',
    'Connection: close',
    '',
    body,
  ].join('\r\n');
}
