import { randomUUID } from 'node:crypto';

import express from 'express';
import helmet from 'helmet';
import { stdSerializers, type Logger } from 'pino';
import { pinoHttp } from 'pino-http';

import { UserError } from '../../base/errors.js';
import type { ServerConfig } from '../config.js';
import type { Metrics } from '../metrics.js';
import type { Services } from '../services.js';
import { json, mediaType, ndjson, oneTextBytes, readJsonBody, readLines, type Line } from './body.js';
import { checkHead } from './connections.js';
import { crossOrigin } from './cross-origin.js';
import { docsAssets } from './docs.js';
import { asHttpError, errorBody, HttpError, sendError } from './errors.js';
import type { Call, Handler } from './handler.js';
import { documentHandlers } from './handlers/documents.js';
import { embeddingHandlers } from './handlers/embeddings.js';
import { mapHandlers } from './handlers/map.js';
import { modelFileHandlers } from './handlers/model-files.js';
import { operationHandlers } from './handlers/operations.js';
import { searchHandlers } from './handlers/search.js';
import { trainingHandlers } from './handlers/training.js';
import { HeldBytes } from './held-bytes.js';
import { hostCheck } from './hosts.js';
import { keyCheck } from './keys.js';
import type { operations } from './openapi.js';
import { pageAssets } from './pages.js';
import { rateLimiter, type CountRequest } from './rate-limit.js';
import { RequestsInProgress } from './requests-in-progress.js';
import { allOperations, type Operation } from './spec.js';

/** What the routes ask of the server around them. */
export interface Surroundings {
  config: Pick<
    ServerConfig,
    'host' | 'allowedHosts' | 'apiKeys' | 'limits' | 'maxRequests' | 'rateLimit' | 'corsOrigins'
  >;
  /** Those that are served; undefined: all, and the pages. */
  routes?: readonly (keyof operations)[];
  log: Logger;
  metrics: Metrics;
  /** @throws UserError `unavailable` when inference does not answer */
  health(): Promise<void>;
  /** @throws UserError `overloaded` when no new work is taken */
  admit(): void;
  /** @throws UserError `not-ready` while starting or draining */
  services(): Services;
  draining: AbortSignal;
  /** Goes before everything else. */
  trace?: express.RequestHandler;
}

/** Bodies of the largest size that are held at a time; each takes about three times its size to work on. */
const BODIES_HELD = 8;

type AnyHandler = Handler<keyof operations>;

/** The routes of openapi.yaml, each with what it takes to get there. */
export function createApp(around: Surroundings): express.Express {
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  // Anything else, and express shows a stack trace for what fails beyond `answerError`.
  app.set('env', 'production');
  app.set('query parser', parseQuery);
  if (around.trace) app.use(around.trace);
  app.use(logRequests(around.log));
  app.use(observeRequests(around.metrics));
  app.use(
    helmet({
      contentSecurityPolicy: { useDefaults: false, directives: { defaultSrc: ["'none'"] } },
      // The server speaks HTTP; whether the name is reached by HTTPS is for what stands in front of it.
      strictTransportSecurity: false,
    }),
  );

  const { apiKeys, limits, maxRequests, rateLimit, corsOrigins } = around.config;
  const checkHost = hostCheck(around.config);
  if (checkHost) app.use(checkHost);
  if (corsOrigins) app.use(crossOrigin(corsOrigins));
  app.use(checkHead);

  const handlers = {
    ...embeddingHandlers,
    ...searchHandlers,
    ...documentHandlers,
    ...mapHandlers,
    ...trainingHandlers,
    ...modelFileHandlers(),
    ...operationHandlers(around),
  } as unknown as Record<keyof operations, AnyHandler>;
  const entrance = {
    checkKey: keyCheck(apiKeys),
    countRequest: rateLimit && rateLimiter(rateLimit),
    inProgress: new RequestsInProgress(maxRequests),
    held: new HeldBytes(BODIES_HELD * limits.bytes),
  };
  const { routes } = around;
  if (!routes) {
    app.use('/docs', docsAssets());
    app.use('/assets', pageAssets());
  }
  const served = routes ? allOperations.filter(({ id }) => routes.includes(id)) : allOperations;
  for (const operation of served) {
    const route = operation.path.replace(/\{(\w+)\}/g, ':$1');
    app[operation.method](route, (request, response) =>
      serve(operation, handlers[operation.id], entrance, around, request, response),
    );
  }
  for (const [path, methods] of allowedMethods(served)) {
    app.all(path.replace(/\{(\w+)\}/g, ':$1'), (request) => {
      throw new HttpError(
        'method-not-allowed',
        `${path}: expected ${methods.join(' or ')}, came ${request.method}`,
        {
          headers: { Allow: methods.join(', ') },
        },
      );
    });
  }
  app.use((request) => {
    const which = routes ? `here are ${served.map(({ path }) => path).join(', ')}` : '/docs lists them';
    throw new HttpError('not-found', `no such route: ${request.method} ${request.path}; ${which}`);
  });
  app.use(answerError);
  return app;
}

/** What a request passes before it is served. */
interface Entrance {
  checkKey: ReturnType<typeof keyCheck>;
  countRequest?: CountRequest;
  inProgress: RequestsInProgress;
  held: HeldBytes;
}

async function serve(
  operation: Operation,
  handler: AnyHandler,
  { checkKey, countRequest, inProgress, held }: Entrance,
  { config: { limits }, services, draining, admit }: Surroundings,
  request: express.Request,
  response: express.Response,
): Promise<void> {
  response.locals.route = operation.path;
  if (!operation.open) {
    const client = checkKey(request.headers.authorization, operation.scope);
    await countRequest?.(request, response, client);
  }
  const ready = operation.needsServices ? services() : undefined;
  if (operation.isWork) {
    admit();
    inProgress.enter(response);
  }

  const path = { ...request.params };
  const query = { ...request.query };
  operation.checkPath(path);
  operation.checkQuery(query);
  const countBytes = held.counterFor(response);
  let body: unknown;
  let lines: AsyncGenerator<Line> | undefined;
  if (operation.checkBody) {
    const { bodySeconds: seconds } = limits;
    if (mediaType(request, operation.takesNdjson ? [json, ndjson] : [json]) === ndjson) {
      lines = readLines(request, { bytes: limits.bytes, seconds }, countBytes);
    } else {
      const bytes = operation.takesOneText ? oneTextBytes(limits) : limits.bytes;
      body = await readJsonBody(request, { bytes, seconds }, countBytes);
      operation.checkBody(body);
    }
  }

  const gone = new AbortController();
  response.once('close', () => {
    if (!response.writableFinished) gone.abort();
  });
  const call = {
    body,
    lines,
    countBytes,
    query,
    path,
    services: ready,
    limits,
    signal: gone.signal,
    draining,
    request,
    response,
  };
  const answer = await handler(call as unknown as Call<keyof operations>);
  if (answer !== undefined) sendJson(response, answer);
}

/** In one write: what express makes of a longer text, a buffer, is one beside that of the headers. */
function sendJson(response: express.Response, value: unknown): void {
  const text = JSON.stringify(value);
  response.setHeader('Content-Type', 'application/json; charset=utf-8');
  response.setHeader('Content-Length', Buffer.byteLength(text));
  response.end(text);
}

function allowedMethods(served: readonly Operation[]): Map<string, string[]> {
  const methods = new Map<string, string[]>();
  for (const { path, method } of served) {
    const names = method === 'get' ? ['GET', 'HEAD'] : [method.toUpperCase()];
    methods.set(path, [...(methods.get(path) ?? []), ...names]);
  }
  return methods;
}

/** Like `querystring`, but what is not UTF-8 is refused instead of replaced. */
function parseQuery(text: string | null): Record<string, string | string[]> {
  const query = Object.create(null) as Record<string, string | string[]>;
  for (const part of (text ?? '').split('&')) {
    if (part === '') continue;
    const [name, value = ''] = part
      .replaceAll('+', ' ')
      .split(/=(.*)/s, 2)
      .map((word) => decodeURIComponent(word));
    const earlier = query[name];
    query[name] = earlier === undefined ? value : [earlier, value].flat();
  }
  return query;
}

const requestIdForm = /^[\w.:-]{1,64}$/;

function logRequests(log: Logger): express.RequestHandler {
  return pinoHttp({
    logger: log,
    genReqId(request, response) {
      const given = request.headers['x-request-id'];
      const id = typeof given === 'string' && requestIdForm.test(given) ? given : randomUUID();
      response.setHeader('X-Request-Id', id);
      return id;
    },
    // Neither headers nor the query: the one holds the API key, the other may, beside what people search for.
    wrapSerializers: false,
    serializers: {
      req: ({ id, method, path, socket }: express.Request) => ({
        id,
        method,
        path,
        from: socket.remoteAddress,
      }),
      res: ({ statusCode }: express.Response) => ({ statusCode }),
      // A stack helps with what was not foreseen, and with nothing else.
      err: (error: Error) =>
        error instanceof UserError || error instanceof HttpError
          ? { kind: error.kind, message: error.message }
          : stdSerializers.err(error),
    },
    customLogLevel(_request, response, error) {
      // Starting and stopping are no failure.
      if ((response.err as Partial<UserError> | undefined)?.kind === 'not-ready') return 'warn';
      if (response.statusCode >= 500) return 'error';
      return error ? 'warn' : 'info';
    },
    autoLogging: { ignore: ({ url }) => url === '/health' || url === '/ready' || url === '/metrics' },
  }) as express.RequestHandler;
}

function observeRequests(metrics: Metrics): express.RequestHandler {
  return (request, response, next) => {
    const start = performance.now();
    response.once('close', () => {
      const route = (response.locals.route as string | undefined) ?? 'other';
      // 499, nginx's number for it: the client was gone before the answer.
      const status = response.writableFinished ? response.statusCode : 499;
      metrics.observe(request.method, route, status, (performance.now() - start) / 1000);
    });
    next();
  };
}

function answerError(
  thrown: unknown,
  request: express.Request,
  response: express.Response,
  _next: express.NextFunction,
): void {
  const error = asHttpError(thrown, request.id);
  if (response.destroyed) return;
  // Where pino-http looks for what to log with the request.
  if (error.status >= 500) response.err = error.cause instanceof Error ? error.cause : error;
  if (response.headersSent) {
    // A stream of NDJSON: the status is sent, the error is its last line.
    response.end(JSON.stringify(errorBody(error)) + '\n');
    return;
  }
  sendError(request, response, error);
}
