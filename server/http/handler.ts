import type express from 'express';

import { UserError } from '../../base/errors.js';
import type { Limits } from '../config.js';
import type { ServedGeneration } from '../search/collection.js';
import type { Services } from '../services.js';
import type { Line } from './body.js';
import { HttpError } from './errors.js';
import type { CountBytes } from './held-bytes.js';
import type { operations } from './openapi.js';

type JsonOf<T> = T extends { content: { 'application/json': infer Body } } ? Body : undefined;
type Answers<Op extends keyof operations> = operations[Op]['responses'];

/** A request that has been read and checked against openapi.yaml. */
export interface Call<Op extends keyof operations> {
  body: JsonOf<NonNullable<operations[Op]['requestBody']>>;
  /** Instead of `body` where NDJSON is sent, which is read and checked as it is taken. */
  lines?: AsyncIterable<Line>;
  /** For the lines' bytes, which whoever takes them lets go again. */
  countBytes: CountBytes;
  query: NonNullable<operations[Op]['parameters']['query']>;
  path: NonNullable<operations[Op]['parameters']['path']>;
  /** There when the operation needs them: it answers 503 when they are not. */
  services: Services;
  limits: Limits;
  /** Aborted when the client is gone. */
  signal: AbortSignal;
  /** Aborted when the server is told to stop. */
  draining: AbortSignal;
  request: express.Request;
  response: express.Response;
}

/** What it returns is sent as JSON; undefined means that it has answered itself. */
export type Handler<Op extends keyof operations> = (
  call: Call<Op>,
) => Promise<Answer<Op> | undefined> | Answer<Op> | undefined;

type Answer<Op extends keyof operations> =
  Answers<Op> extends { 200: infer Ok } | { 202: infer Ok } ? JsonOf<Ok> : undefined;

export type Handlers<Ops extends keyof operations> = { [Op in Ops]: Handler<Op> };

/**
 * The limits that openapi.yaml can't state, because they are the server's own.
 * @param field the list's name, for the message
 * @throws HttpError `too-large`
 */
export function checkCount(
  count: number,
  field: string,
  limits: Limits,
  wayOut = 'send several requests',
): void {
  if (count > limits.texts)
    throw new HttpError(
      'too-large',
      `${field}: expected at most ${limits.texts} in one request, came ${count}; ${wayOut}`,
      { param: field },
    );
}

/** @throws HttpError `too-large` */
export function checkTexts(texts: readonly string[], field: string, limits: Limits): void {
  checkCount(texts.length, field, limits);
  texts.forEach((text, i) => checkText(text, texts.length === 1 ? field : `${field}[${i}]`, limits));
}

/** @throws HttpError `too-large` */
export function checkText(text: string, field: string, limits: Pick<Limits, 'characters'>): void {
  if (text.length > limits.characters)
    throw new HttpError(
      'too-large',
      `${field}: expected at most ${limits.characters} characters, came ${text.length}; split the text`,
      { param: field },
    );
}

/**
 * The generation that a request means, which its answer names in the header X-Generation.
 *
 * @param model as the request names it; the live one without
 * @throws HttpError `not-found` for a model that is not served
 */
export function generationFor(
  { services, response }: Pick<Call<keyof operations>, 'services' | 'response'>,
  model?: string,
): ServedGeneration {
  try {
    const served = services.collection.served(model);
    response.set('X-Generation', String(served.id));
    return served;
  } catch (error) {
    if (!(error instanceof UserError && error.kind === 'not-found')) throw error;
    throw new HttpError('not-found', error.message, { param: 'model' });
  }
}
