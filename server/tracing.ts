import type { Attributes, Context, Span } from '@opentelemetry/api';
import type express from 'express';
import type { Logger } from 'pino';

import { messageOf, UserError } from '../base/errors.js';
import { version } from '../base/paths.js';
import type { Observer } from './observer.js';

/** OpenTelemetry's traces of requests, where they are asked for. */
export interface Tracing {
  /** A span for each request, child of the client's when it sends a traceparent. */
  trace: express.RequestHandler;
  /** Spans for what is done for a request. */
  observer: Partial<Observer>;
  /** Sends what is not sent yet. */
  close(): Promise<void>;
}

const PACKAGES = [
  '@opentelemetry/api',
  '@opentelemetry/sdk-trace-node',
  '@opentelemetry/exporter-trace-otlp-http',
  '@opentelemetry/resources',
];
/** Asked for all the time by machines, and of no interest. */
const UNTRACED = new Set(['/health', '/ready', '/metrics']);
const EXPORT_TIMEOUT_MS = 3_000;

/**
 * Sends traces to a collector by OTLP over HTTP. The packages for it are optional, and loaded here alone.
 *
 * @param url the collector's: http://localhost:4318, or with the path when it is not /v1/traces
 * @param log where failures to send are told
 * @throws UserError `unavailable` where the packages are not installed
 */
export async function openTracing(url: URL, log: Logger): Promise<Tracing> {
  const { api, node, otlp, resources } = await loadPackages();
  const endpoint = url.pathname === '/' ? new URL('/v1/traces', url) : url;
  const exporter = new otlp.OTLPTraceExporter({ url: endpoint.href, timeoutMillis: EXPORT_TIMEOUT_MS });
  const provider = new node.NodeTracerProvider({
    resource: resources.resourceFromAttributes({
      'service.name': 'sentence-jepa',
      'service.version': version,
    }),
    spanProcessors: [new node.BatchSpanProcessor(exporter)],
  });
  // The propagator and the context that it registers are W3C's traceparent and AsyncLocalStorage.
  provider.register();
  // An error comes as JSON, stack and all.
  const warn = (text: string): void =>
    log.warn({ reason: /"message":"(.*?)"/.exec(text)?.[1] ?? text }, 'tracing');
  api.diag.setLogger(
    { error: warn, warn, info() {}, debug() {}, verbose() {} },
    { logLevel: api.DiagLogLevel.WARN, suppressOverrideMessage: true },
  );
  const tracer = provider.getTracer('sentence-jepa', version);

  /** A span of what is over already; undefined where no request is traced. */
  const record = (
    parent: Context,
    name: string,
    { start, end }: { start: number; end: number },
    attributes: Attributes,
  ): Span | undefined => {
    if (!api.trace.getSpan(parent)) return undefined;
    const span = tracer.startSpan(name, { startTime: performance.timeOrigin + start, attributes }, parent);
    span.end(performance.timeOrigin + end);
    return span;
  };

  return {
    trace(request, response, next) {
      if (UNTRACED.has(request.path)) return next();
      const parent = api.propagation.extract(api.context.active(), request.headers);
      const { method } = request;
      const span = tracer.startSpan(
        method,
        {
          kind: api.SpanKind.SERVER,
          attributes: { 'http.request.method': method, 'url.path': request.path },
        },
        parent,
      );
      response.once('close', () => {
        const route = response.locals.route as string | undefined;
        if (route !== undefined) span.updateName(`${method} ${route}`).setAttribute('http.route', route);
        span.setAttribute('http.response.status_code', response.statusCode);
        if (response.statusCode >= 500) span.setStatus({ code: api.SpanStatusCode.ERROR });
        span.end();
      });
      api.context.with(api.trace.setSpan(parent, span), next);
    },
    observer: {
      encoded({ texts, priority, start, end, dispatched = end, tokenize, inference, error }) {
        const active = api.context.active();
        const encode = record(active, 'encode', { start, end }, { texts, priority });
        if (!encode) return;
        const inside = api.trace.setSpan(active, encode);
        record(inside, 'queue', { start, end: dispatched }, {});
        if (error !== undefined || dispatched === end) return;
        const means = { 'tokenize.mean_ms': tokenize, 'inference.mean_ms': inference };
        record(inside, 'compute', { start: dispatched, end }, means);
      },
      searched({ mode, start, end }) {
        record(api.context.active(), 'search', { start, end }, { mode });
      },
    },
    async close() {
      await provider.shutdown().catch((error: unknown) => warn(messageOf(error)));
      api.trace.disable();
      api.context.disable();
      api.propagation.disable();
      api.diag.disable();
    },
  };
}

async function loadPackages() {
  try {
    const [api, node, otlp, resources] = await Promise.all([
      import('@opentelemetry/api'),
      import('@opentelemetry/sdk-trace-node'),
      import('@opentelemetry/exporter-trace-otlp-http'),
      import('@opentelemetry/resources'),
    ]);
    return { api, node, otlp, resources };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error;
    throw new UserError(
      'unavailable',
      `--otlp-url: expected OpenTelemetry's packages, which are not installed; install them with: npm install ${PACKAGES.join(' ')}`,
      { cause: error },
    );
  }
}
