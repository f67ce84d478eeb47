import { createServer, IncomingMessage, ServerResponse, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

import type { Logger } from 'pino';

import { messageOf, UserError } from '../base/errors.js';
import { checkExposure, type ServerConfig } from './config.js';
import { HealthCheck } from './health.js';
import { createApp, type Surroundings } from './http/app.js';
import { connectionOptions, guardConnections } from './http/connections.js';
import { MemoryGuard } from './memory-guard.js';
import { createMetrics } from './metrics.js';
import { observers, type Observer } from './observer.js';
import type { Services } from './services.js';
import { openTracing } from './tracing.js';

export interface RunningServer {
  /** Where it listens, already while it is getting ready; empty without a port. */
  url: string;
  /** Resolves when requests are served. Rejects when the model or the collection can't be opened. */
  ready: Promise<Services>;
  /** Stops listening, finishes the requests in flight, closes the collection. May be called again. */
  close(): Promise<void>;
}

/**
 * Listens at once, so that /health answers while the model loads; every other request is answered
 * with 503 until it has.
 *
 * @param openServices loads the model and opens the collection, which tell the observer of their work
 * @param routes those of openapi.yaml that it has; all unless given
 * @throws UserError `usage` when the server would be open to other machines by accident, `unavailable`
 *   when it can't listen, or can't send traces
 */
export async function startServer(
  config: ServerConfig,
  log: Logger,
  openServices: (observer: Observer) => Promise<Services>,
  routes?: Surroundings['routes'],
): Promise<RunningServer> {
  checkExposure(config);
  const tracing = config.otlpUrl && (await openTracing(config.otlpUrl, log));
  let services: Services | undefined;
  const draining = new AbortController();
  const { maxMemoryMib } = config;
  const memory = new MemoryGuard(maxMemoryMib && maxMemoryMib * 2 ** 20, {
    forget: () => services?.inference.forget?.(),
  });
  const metrics = createMetrics(() => services, memory);
  const healthCheck = new HealthCheck(config.healthSeconds);
  const app = createApp({
    config,
    routes,
    log,
    metrics,
    async health() {
      // Loading is for /ready to tell, and a server that stops is not to be killed for it.
      if (services && !draining.signal.aborted)
        await healthCheck.check(services.inference, services.collection);
    },
    draining: draining.signal,
    trace: tracing?.trace,
    admit: () => memory.check(),
    services() {
      if (draining.signal.aborted)
        throw new UserError('not-ready', 'the server is shutting down; send the request to another one');
      if (!services) throw new UserError('not-ready', 'the model is loading; try again in a few seconds');
      return services;
    },
  });

  // Born as express's, which else changes the prototype of each: V8 then finds every property of them the slow way.
  const classes = {
    IncomingMessage: withPrototype(IncomingMessage, app.request),
    ServerResponse: withPrototype(ServerResponse, app.response),
  };
  const options = { ...connectionOptions(config.connectionTimes), ...classes };
  const server = createServer(options, (request, response) => {
    if (draining.signal.aborted) response.setHeader('Connection', 'close');
    app(request, response);
  });
  guardConnections(server, config.connectionTimes, log);
  const url = await listen(server, config);
  memory.start();

  const observer = observers([
    metrics.observer,
    {
      workerLost: ({ message }) => log.error({ reason: message }, 'an inference thread is replaced'),
      workerNotStarted: ({ message }, again) =>
        log.error({ reason: message, againMs: again }, 'an inference thread can not be started'),
    },
    tracing?.observer ?? {},
  ]);
  const ready = openServices(observer).then((opened) => (services = opened));
  ready.catch(() => undefined);

  let closing: Promise<void> | undefined;
  return {
    url,
    ready,
    close() {
      closing ??= (async () => {
        draining.abort();
        memory.stop();
        await drain(server, config.drainSeconds * 1000);
        const opened = await ready.catch(() => undefined);
        await opened?.jobs.close();
        await opened?.maps.close();
        await opened?.collection.close();
        await opened?.inference.close();
        await tracing?.close();
      })();
      return closing;
    },
  };
}

/** A class of node:http, which are functions, but for the prototype of what it makes. */
function withPrototype<T extends typeof IncomingMessage | typeof ServerResponse>(
  base: T,
  prototype: object,
): T {
  function Derived(this: object, ...args: unknown[]): void {
    Reflect.apply(base as unknown as (...args: unknown[]) => void, this, args);
  }
  Derived.prototype = prototype;
  return Derived as unknown as T;
}

/** @returns where it does; empty without a port */
async function listen(server: Server, { host, port }: ServerConfig): Promise<string> {
  if (port === undefined) return '';
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const reason =
        error.code === 'EADDRINUSE'
          ? 'the port is in use; stop the other program, or choose another port with --port'
          : error.code === 'EACCES'
            ? 'no permission to use the port; choose one from 1024 up with --port'
            : error.code === 'EADDRNOTAVAIL' || error.code === 'ENOTFOUND'
              ? 'not an address of this machine; choose another with --host'
              : messageOf(error);
      reject(new UserError('unavailable', `${host} port ${port}: ${reason}`, { cause: error }));
    });
    server.listen(port, host, resolve);
  });
  return urlOf(server, host);
}

function urlOf(server: Server, host: string): string {
  const { port } = server.address() as AddressInfo;
  const name = host === '0.0.0.0' || host === '::' ? 'localhost' : host;
  return `http://${name.includes(':') ? `[${name}]` : name}:${port}`;
}

/** Lets connections end with the request they are serving, and cuts those that take longer. */
async function drain(server: Server, milliseconds: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  const sweep = setInterval(() => server.closeIdleConnections(), 50);
  const cut = setTimeout(() => server.closeAllConnections(), milliseconds);
  await closed;
  clearInterval(sweep);
  clearTimeout(cut);
}
