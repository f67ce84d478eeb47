import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { pino } from 'pino';

import { InferencePool, type ModelWorker } from '../../server/batching/pool.js';
import { startServer } from '../../server/main.js';
import type { Observer } from '../../server/observer.js';
import type { Services } from '../../server/services.js';
import { wordVector } from './fake-inference.js';
import { call, fakeServices, post, testConfig } from './http-support.js';
import { openOnTestStore } from './test-collection.js';

interface ExportedSpan {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  name: string;
  kind: number;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  attributes: { key: string; value: object }[];
  status: { code: number };
}

/** Keeps what is exported to it. */
async function startCollector() {
  const spans: ExportedSpan[] = [];
  const paths = new Set<string>();
  const server = http.createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => (body += chunk));
    request.on('end', () => {
      paths.add(request.url!);
      for (const resource of JSON.parse(body).resourceSpans)
        for (const scope of resource.scopeSpans) spans.push(...scope.spans);
      response.setHeader('Content-Type', 'application/json').end('{}');
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  return { spans, paths, url, close: () => server.close() };
}

const worker: ModelWorker = {
  model: {
    name: 'fake',
    dimensions: 16,
    maxTokens: 64,
    fingerprint: 'f',
    folder: '/nowhere',
    pooling: 'mean',
    normalizes: true,
    backend: 'onnxruntime',
  },
  ended: new Promise(() => undefined),
  async run(texts) {
    await sleep(2);
    const vectors = Float32Array.from(texts.flatMap((text) => [...wordVector(text, 16)]));
    return { vectors, lengths: texts.map(() => 1), tokenizeMs: 1, totalMs: 2 };
  },
  tokenize: async () => [],
  countTokens: async (texts) => texts.map(() => 1),
  close: async () => undefined,
};

describe('traces', () => {
  let dataDir: string;
  before(async () => {
    dataDir = await mkdtemp(path.join(tmpdir(), 'sentence-jepa-tracing-'));
  });
  after(() => rm(dataDir, { recursive: true, force: true }));

  async function openServices(observer: Observer): Promise<Services> {
    const inference = new InferencePool(worker, async () => worker, {
      ...{ workers: 1, threadsPerWorker: 1, precision: 'fp32', batchTokens: 100 },
      ...{ queue: { tokens: 1000, seconds: 60 }, batchSeconds: 60, observer },
    });
    return fakeServices(inference, await openOnTestStore({ dataDir, inference, observer }));
  }

  it("follow a search from the client's span to the index", async () => {
    const collector = await startCollector();
    const log = pino({ level: 'silent' });
    const server = await startServer({ ...testConfig, otlpUrl: collector.url }, log, openServices);
    try {
      await server.ready;
      await post(`${server.url}/documents`, [{ id: 'a', text: 'wifi is slow' }]);
      const traceId = '4bf92f3577b34da6a3ce929d0e0e4736';
      const traceparent = `00-${traceId}-00f067aa0ba902b7-01`;
      assert.equal((await call(`${server.url}/search?q=wifi`, { headers: { traceparent } })).status, 200);
      await call(`${server.url}/health`);
      await server.close();

      assert.deepEqual([...collector.paths], ['/v1/traces']);
      const ofSearch = collector.spans.filter((span) => span.traceId === traceId);
      const named = new Map(ofSearch.map((span) => [span.name, span]));
      assert.deepEqual([...named.keys()].sort(), ['GET /search', 'compute', 'encode', 'queue', 'search']);
      const parentOf = (name: string): string | undefined => named.get(name)!.parentSpanId;
      const request = named.get('GET /search')!;
      assert.equal(request.parentSpanId, '00f067aa0ba902b7');
      assert.equal(parentOf('encode'), request.spanId);
      assert.equal(parentOf('search'), request.spanId);
      for (const part of ['queue', 'compute']) assert.equal(parentOf(part), named.get('encode')!.spanId);
      const attributes = Object.fromEntries(request.attributes.map(({ key, value }) => [key, value]));
      assert.deepEqual(attributes['http.response.status_code'], { intValue: 200 });
      for (const { name, startTimeUnixNano, endTimeUnixNano } of ofSearch) {
        assert.ok(BigInt(startTimeUnixNano) <= BigInt(endTimeUnixNano), name);
        assert.ok(Math.abs(Number(endTimeUnixNano) / 1e6 - Date.now()) < 60_000, name);
      }
      const roots = collector.spans.filter(({ parentSpanId }) => !parentSpanId).map(({ name }) => name);
      assert.deepEqual(roots, ['POST /documents'], 'a request of its own is a trace of its own');
    } finally {
      await server.close();
      collector.close();
    }
  });

  it('say which packages they need where those are not installed', async () => {
    const without = new URL('./no-opentelemetry.js', import.meta.url).href;
    const cli = fileURLToPath(new URL('../../cli/main.js', import.meta.url));
    const args = ['serve', '--port', '0', '--data-dir', dataDir, '--otlp-url', 'http://127.0.0.1:9'];
    const child = spawn(process.execPath, ['--import', without, cli, ...args]);
    let stderr = '';
    child.stderr.on('data', (chunk) => (stderr += chunk));
    const [code] = await once(child, 'close');
    assert.equal(code, 1);
    assert.match(
      stderr,
      /^error: --otlp-url: expected OpenTelemetry's packages.*npm install @opentelemetry\/api .*\n$/,
    );
  });

  it('do not stop the server when nobody takes them, and the log says so', async () => {
    const lines: string[] = [];
    const log = pino({}, { write: (line) => void lines.push(line) });
    const collector = await startCollector();
    collector.close();
    const server = await startServer({ ...testConfig, otlpUrl: collector.url }, log, openServices);
    await server.ready;
    assert.equal((await call(`${server.url}/search?q=wifi`)).status, 200);
    await server.close();
    assert.ok(lines.some((line) => line.includes('"msg":"tracing"') && line.includes('ECONNREFUSED')));
  });
});
