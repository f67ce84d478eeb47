import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import { Readable } from 'node:stream';
import { describe, it } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { constants, createBrotliCompress, createDeflate, createGzip, gzipSync } from 'node:zlib';

import { pino } from 'pino';

import { InferencePool, type ModelWorker, type WorkerBatch } from '../../server/batching/pool.js';
import { startServer } from '../../server/main.js';
import { call, fakeServices, gate, post, send, testConfig, withServer, type Answer } from './http-support.js';
import { openTestCollection } from './test-collection.js';
import { WORKER_MODEL } from './worker-model.js';

const limits = { ...testConfig.limits, bytes: 1000 };
const ndjson = 'application/x-ndjson';

/** A body of JSON that is filled up with blanks. */
const padded = (value: unknown, bytes: number): string => JSON.stringify(value).padEnd(bytes);

function* forever(text: string): Generator<Buffer> {
  const chunk = Buffer.from(text.repeat(16_384));
  for (;;) yield chunk;
}

/** The answer to a request whose body never ends: it is there only when nobody waits for that. */
async function answerToEndless(
  url: string,
  headers: http.OutgoingHttpHeaders,
  body: Readable,
): Promise<{ status: number; body: { error: string; error_type: string } }> {
  const request = http.request(url, { method: 'POST', headers });
  request.on('error', () => undefined);
  request.flushHeaders();
  body.pipe(request);
  try {
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    let text = '';
    for await (const part of response.setEncoding('utf8')) text += part;
    return { status: response.statusCode!, body: JSON.parse(text) };
  } finally {
    body.destroy();
    request.destroy();
  }
}

describe('the size of a body', () => {
  it('is counted as it is inflated', async () => {
    await withServer({ limits }, async ({ url }) => {
      const embed = (body: string): Promise<Answer> =>
        post(`${url}/embed`, gzipSync(body), {
          'Content-Type': 'application/json',
          'Content-Encoding': 'gzip',
        });
      assert.equal((await embed(padded({ inputs: 'a' }, 1000))).status, 200);
      const refused = await embed(padded({ inputs: 'a' }, 1001));
      assert.equal(refused.status, 413);
      assert.deepEqual(refused.body, {
        error: 'the body: expected at most 1000 bytes, came more; send less at a time',
        error_type: 'too-large',
      });
    });
  });

  const compressions = {
    gzip: createGzip,
    deflate: createDeflate,
    br: () => createBrotliCompress({ params: { [constants.BROTLI_PARAM_QUALITY]: 1 } }),
  };
  for (const [encoding, compress] of Object.entries(compressions))
    it(`refuses a bomb before it is whole (${encoding})`, async () => {
      await withServer({}, async ({ url }) => {
        for (const [type, what] of [
          ['application/json', 'the body'],
          [ndjson, 'line 1'],
        ]) {
          const headers = { 'Content-Type': type, 'Content-Encoding': encoding };
          const bomb = Readable.from(forever('0')).pipe(compress());
          const { status, body } = await answerToEndless(`${url}/documents`, headers, bomb);
          assert.equal(status, 413);
          assert.match(body.error, new RegExp(`^${what}: expected at most 16777216 bytes, came more`));
        }
      });
    });

  it('refuses a body without an end, and one that is said to be too large before it comes', async () => {
    await withServer({ limits }, async ({ url }) => {
      const headers = { 'Content-Type': 'application/json' };
      const { status } = await answerToEndless(`${url}/embed`, headers, Readable.from(forever(' ')));
      assert.equal(status, 413);
      const announced = { ...headers, 'Content-Length': 1001 };
      const nothing = new Readable({ read() {} });
      assert.equal((await answerToEndless(`${url}/embed`, announced, nothing)).status, 413);
    });
  });

  it('refuses a line of NDJSON above the limit, and blank ones without an end', async () => {
    await withServer({ limits }, async ({ url, collection }) => {
      const line = (bytes: number): string => padded({ id: String(bytes), text: 'a' }, bytes);
      const headers = { 'Content-Type': ndjson };
      const answer = await post(
        `${url}/documents`,
        `${line(999)}\n${line(1000)}\n\n${line(1001)}\n`,
        headers,
      );
      assert.equal(answer.status, 413);
      assert.match(answer.body.error, /^line 4: expected at most 1000 bytes, came more \(2 documents/);
      assert.deepEqual([...(await collection.texts()).keys()], ['1000', '999']);
      const blank = Readable.from(forever('\n'));
      const endless = await answerToEndless(`${url}/documents`, headers, blank);
      assert.equal(endless.status, 413);
      assert.match(endless.body.error, /^line 1002: expected at most 1000 bytes, came more/);
      const some = '\n'.repeat(900);
      const spread = await post(
        `${url}/documents`,
        `${some}${line(50)}\n${some}${line(60)}\n${some}`,
        headers,
      );
      assert.equal(spread.body.stored, 2);
    });
  });

  it('is smaller where a request takes one text, whatever a text may be', async () => {
    const characters = 100;
    // Each character may be written with six; 256 KiB are for the rest.
    const most = 6 * characters + 256 * 1024;
    await withServer({ limits: { ...testConfig.limits, characters } }, async ({ url }) => {
      const routes: [method: string, path: string, body: object][] = [
        ['POST', '/search', { query: 'a' }],
        ['POST', '/duplicates', { text: 'a' }],
        ['PUT', '/documents/a', { text: 'a' }],
      ];
      for (const [method, path, body] of routes) {
        assert.ok((await send(method, url + path, padded(body, most))).status < 300, path);
        const refused = await send(method, url + path, padded(body, most + 1));
        assert.equal(refused.status, 413, path);
        assert.match(refused.body.error, new RegExp(`at most ${most} bytes`));
      }
      assert.equal((await post(`${url}/embed`, padded({ inputs: 'a' }, most + 1))).status, 200);
      assert.equal((await call(`${url}/info`)).body.limits.max_one_text_body_bytes, most);
    });
    await withServer({ limits }, async ({ url }) => {
      assert.equal((await post(`${url}/search`, padded({ query: 'a' }, 1001))).status, 413);
    });
  });
});

describe('what requests in flight hold', () => {
  const one = { id: 'a', text: 'a' };

  it('is bounded for all together, unfinished lines of NDJSON among it, until they are gone', async () => {
    // Eight of the largest bodies. Where nothing is refused, all of them are told after these seconds that they are late.
    await withServer({ limits: { ...limits, bodySeconds: 5 } }, async ({ url }) => {
      const streams = Array.from({ length: 12 }, (_, i) => {
        const headers = { 'Content-Type': ndjson };
        const path = i % 2 === 0 ? '/documents' : '/feedback';
        const request = http.request(url + path, { method: 'POST', headers });
        request.on('error', () => undefined);
        request.write('x'.repeat(900));
        return request;
      });
      const [response] = (await Promise.race(streams.map((each) => once(each, 'response')))) as [
        http.IncomingMessage,
      ];
      let text = '';
      for await (const part of response.setEncoding('utf8')) text += part;
      assert.equal(response.statusCode, 429, text);
      assert.match(text, /the bodies of requests in progress have 7\d\d\d bytes.*the limit of 8000/);
      for (const each of streams) each.destroy();
      let answer: Answer;
      do answer = await post(`${url}/documents`, padded([one], 1000));
      while (answer.status === 429);
      assert.equal(answer.status, 200);
    });
  });

  it('is of a stream no more than it has not stored, however long it is', async () => {
    const bytes = 2 ** 16;
    await withServer({ limits: { ...testConfig.limits, bytes } }, async ({ url, collection }) => {
      const { opened, open } = gate();
      collection.gate = opened;
      const other = post(`${url}/documents`, [{ id: 'other', text: 'a' }]);
      while (collection.upserts.length === 0) await nextTurn();
      collection.gate = undefined;
      // Four times what all together may hold, blank lines among it.
      const lines = Array.from({ length: 4096 }, (_, i) => `${padded({ id: String(i), text: 'a' }, 400)}\n`);
      const answer = await post(`${url}/documents`, lines.join(' '.repeat(111) + '\n'), {
        'Content-Type': ndjson,
      });
      assert.deepEqual(answer.body, { stored: 4096, inserted: 4096, replaced: 0 });
      open();
      assert.equal((await other).status, 200);
    });
  });

  it('is cut into pieces by all that a line has, not by its text alone', async () => {
    await withServer({}, async ({ url, collection }) => {
      const metadata = { much: 'x'.repeat(600_000) };
      const lines = Array.from(
        { length: 5 },
        (_, i) => `${JSON.stringify({ id: String(i), text: 'a', metadata })}\n`,
      );
      const answer = await post(`${url}/documents`, lines.join(''), { 'Content-Type': ndjson });
      assert.equal(answer.body.stored, 5);
      assert.deepEqual(collection.upserts, [2, 2, 1]);
    });
  });
});

describe('--max-requests', () => {
  it('refuses what is beyond with 429, but not what costs nothing, until there is room again', async () => {
    await withServer({ maxRequests: 2 }, async ({ url, inference }) => {
      const { opened, open } = gate();
      inference.gate = opened;
      const embed = (): Promise<Answer> => post(`${url}/embed`, { inputs: 'a' });
      const first = [embed(), embed()];
      while (inference.calls.length < 2) await nextTurn();
      const refused = await embed();
      assert.equal(refused.status, 429);
      assert.equal(refused.headers.get('retry-after'), '1');
      assert.deepEqual(refused.body, {
        error: '2 requests are in progress, which is the limit (--max-requests); send it again in a second',
        error_type: 'overloaded',
      });
      for (const path of ['/info', '/metrics', '/ready', '/documents'])
        assert.equal((await call(url + path)).status, 200, path);
      open();
      for (const { status } of await Promise.all(first)) assert.equal(status, 200);
      assert.equal((await embed()).status, 200);
    });
  });

  it('gives the place of a client that went away to another', async () => {
    await withServer({ maxRequests: 1 }, async ({ url, inference }) => {
      inference.gate = new Promise(() => undefined);
      const client = new AbortController();
      const body = '{"inputs":"a"}';
      const headers = { 'Content-Type': 'application/json' };
      const gone = fetch(`${url}/embed`, { method: 'POST', headers, body, signal: client.signal });
      while (inference.calls.length === 0) await nextTurn();
      client.abort();
      await assert.rejects(gone);
      const { signal } = inference.calls[0];
      if (!signal!.aborted) await once(signal!, 'abort');
      inference.gate = undefined;
      assert.equal((await post(`${url}/embed`, { inputs: 'a' })).status, 200);
    });
  });
});

describe('a client that goes away while its texts wait', () => {
  /** Holds its first batch until it is let go. */
  class HeldWorker implements ModelWorker {
    readonly model = WORKER_MODEL;
    readonly ended = new Promise<never>(() => undefined);
    readonly batches: string[][] = [];
    readonly held = gate();

    async run(texts: readonly string[]): Promise<WorkerBatch> {
      this.batches.push([...texts]);
      await this.held.opened;
      return {
        vectors: Float32Array.from(texts.flatMap(() => [3, 4])),
        lengths: texts.map(() => 1),
        tokenizeMs: 0,
        totalMs: 1,
      };
    }
    tokenize = async (): Promise<[]> => [];
    countTokens = async (texts: readonly string[]): Promise<number[]> => texts.map(() => 1);
    close = async (): Promise<void> => undefined;
  }

  it('takes them out of the queue: they are never computed', async () => {
    const worker = new HeldWorker();
    const inference = new InferencePool(worker, async () => worker, {
      workers: 1,
      threadsPerWorker: 1,
      precision: 'fp32',
      batchTokens: 6,
      queue: { tokens: 100, seconds: 60 },
      batchSeconds: 60,
    });
    const log = pino({ level: 'silent' });
    const services = fakeServices(inference, await openTestCollection(inference));
    const server = await startServer(testConfig, log, async () => services);
    await server.ready;
    const ask = (route: string, body: object, signal?: AbortSignal): Promise<Response> =>
      fetch(`${server.url}${route}`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify(body),
        signal,
      });
    const queued = async (texts: number): Promise<void> => {
      while (inference.stats().queuedTexts !== texts) await nextTurn();
    };
    try {
      const first = ask('/embed', { inputs: ['first'] });
      while (worker.batches.length === 0) await nextTurn();
      for (const [route, options] of [
        ['/embed', {}],
        ['/embed', { truncate: false }],
        ['/tokenize', {}],
      ] as const) {
        const client = new AbortController();
        const gone = ask(route, { inputs: ['gone', 'too'], ...options }, client.signal);
        await queued(2);
        client.abort();
        await assert.rejects(gone);
        await queued(0);
      }
      const last = ask('/embed', { inputs: ['last'] });
      await queued(1);
      worker.held.open();
      assert.deepEqual([(await first).status, (await last).status], [200, 200]);
      assert.deepEqual(worker.batches, [['first'], ['last']]);
    } finally {
      worker.held.open();
      await server.close();
    }
  });
});
