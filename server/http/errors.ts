import type express from 'express';

import { UserError, type ErrorKind } from '../../base/errors.js';

export type HttpErrorKind =
  ErrorKind | 'method-not-allowed' | 'timeout' | 'uri-too-long' | 'rate-limited' | 'headers-too-large';

/** The only table from what went wrong to an HTTP status. */
export const statusOf: Readonly<Record<HttpErrorKind, number>> = Object.freeze({
  usage: 400,
  malformed: 400,
  empty: 400,
  unauthorized: 401,
  forbidden: 403,
  'not-found': 404,
  'method-not-allowed': 405,
  timeout: 408,
  exists: 409,
  'fingerprint-mismatch': 409,
  'too-large': 413,
  'uri-too-long': 414,
  'unsupported-media-type': 415,
  invalid: 422,
  'unsupported-model': 422,
  overloaded: 429,
  'rate-limited': 429,
  'headers-too-large': 431,
  backend: 500,
  corrupt: 500,
  'not-ready': 503,
  unavailable: 503,
});

/** Seconds after which a client may try again, where the error does not know better. */
const retryAfter: Partial<Record<HttpErrorKind, number>> = { overloaded: 1, 'not-ready': 2, unavailable: 30 };

export interface ErrorDetails {
  /** The field that is wrong, as a path: `documents[3].text`. */
  param?: string;
  headers?: Record<string, string>;
  /** Further fields of the body. */
  fields?: Record<string, unknown>;
}

/** An error as a client sees it: a kind, a message, and which field it is about. */
export class HttpError extends Error {
  override readonly name = 'HttpError';
  constructor(
    readonly kind: HttpErrorKind,
    message: string,
    readonly details: ErrorDetails = {},
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }

  get status(): number {
    return statusOf[this.kind];
  }
}

/** Anything that was thrown, as a client may see it. What was not foreseen is for the log alone. */
export function asHttpError(error: unknown, requestId: unknown): HttpError {
  if (error instanceof HttpError) return error;
  if (error instanceof UserError) {
    const { kind, message, retryAfter } = error;
    const details = retryAfter === undefined ? {} : { headers: { 'Retry-After': String(retryAfter) } };
    return new HttpError(kind, message, details, { cause: error });
  }
  if (error instanceof URIError)
    return new HttpError('malformed', 'the URL: expected percent-encoded UTF-8; write % as %25');
  return new HttpError(
    'backend',
    `internal error; the server's log has it under request ${String(requestId)}`,
    {},
    { cause: error },
  );
}

/** text-embeddings-inference's form. */
export function errorBody(error: HttpError): Record<string, unknown> {
  const { param, fields } = error.details;
  return { error: error.message, error_type: error.kind, ...(param && { param }), ...fields };
}

/** OpenAI's form. */
export function openAiErrorBody(error: HttpError): Record<string, unknown> {
  const type =
    error.status === 401
      ? 'authentication_error'
      : error.status === 429
        ? 'rate_limit_error'
        : error.status >= 500
          ? 'server_error'
          : 'invalid_request_error';
  return {
    error: { message: error.message, type, param: error.details.param ?? null, code: error.kind },
  };
}

export function sendError(request: express.Request, response: express.Response, error: HttpError): void {
  const seconds = retryAfter[error.kind];
  if (seconds !== undefined) response.set('Retry-After', String(seconds));
  response.status(error.status).set(error.details.headers ?? {});
  // The route's own form: a path may end in a slash, or be written in capitals.
  const path = (response.locals.route as string | undefined) ?? request.path;
  // /v1/rerank is of another family.
  const openAi = path.startsWith('/v1/') && path !== '/v1/rerank';
  response.json(openAi ? openAiErrorBody(error) : errorBody(error));
}
