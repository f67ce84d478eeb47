import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { describe, it } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';

import { pino } from 'pino';

import { UserError } from '../../base/errors.js';
import { checkExposure } from '../../server/config.js';
import { startServer } from '../../server/main.js';
import {
  call,
  fakeInference,
  fakeServices,
  gate,
  post,
  startTestServer,
  testConfig,
  withServer,
  type Answer,
} from './http-support.js';
import { openTestCollection } from './test-collection.js';

describe('every answer', () => {
  it('has an id that the client may choose, and no word about what serves it', async () => {
    await withServer({}, async ({ url }) => {
      const given = await call(`${url}/health`, { headers: { 'X-Request-Id': 'mine-1' } });
      assert.equal(given.headers.get('x-request-id'), 'mine-1');
      const made = await call(`${url}/health`, { headers: { 'X-Request-Id': 'a b' } });
      assert.match(made.headers.get('x-request-id') ?? '', /^[0-9a-f-]{36}$/);
      assert.equal(made.headers.get('x-powered-by'), null);
      assert.match(made.headers.get('content-security-policy') ?? '', /default-src 'none'/);
      assert.equal(made.headers.get('x-content-type-options'), 'nosniff');
    });
  });

  it('is 404 for a path that is not there, and 405 with Allow for a method that is not', async () => {
    await withServer({}, async ({ url }) => {
      const unknown = await call(`${url}/nowhere`);
      assert.equal(unknown.status, 404);
      assert.deepEqual(unknown.body, {
        error: 'no such route: GET /nowhere; /docs lists them',
        error_type: 'not-found',
      });
      const cases = [
        ['/embed', 'GET', 'POST'],
        ['/search', 'DELETE', 'GET, HEAD, POST'],
        ['/documents/x', 'POST', 'GET, HEAD, PUT, DELETE'],
        ['/health', 'POST', 'GET, HEAD'],
      ];
      for (const [path, method, allow] of cases) {
        const answer = await call(url + path, { method });
        assert.equal(answer.status, 405, path);
        assert.equal(answer.headers.get('allow'), allow);
        assert.equal(answer.body.error_type, 'method-not-allowed');
      }
    });
  });
});

describe('the log', () => {
  it('says why a request was answered with 503; starting and stopping are warnings only', async () => {
    const lines: { level: number; err?: object; res?: { statusCode: number } }[] = [];
    const log = pino({}, { write: (line) => void lines.push(JSON.parse(line)) });
    const inference = fakeInference();
    const collection = await openTestCollection(inference);
    collection.upsert = async () => {
      throw new UserError('unavailable', 'collection.sqlite: the disk is full');
    };
    const { opened, open } = gate();
    const server = await startServer(testConfig, log, async () => {
      await opened;
      return fakeServices(inference, collection);
    });
    try {
      assert.equal((await post(`${server.url}/documents`, [{ id: 'a', text: 'b' }])).status, 503);
      open();
      await server.ready;
      assert.equal((await post(`${server.url}/documents`, [{ id: 'a', text: 'b' }])).status, 503);
    } finally {
      await server.close();
    }
    const answers = lines.filter(({ res }) => res?.statusCode === 503);
    assert.deepEqual(
      answers.map(({ level, err }) => ({ level, err })),
      [
        {
          level: 40,
          err: { kind: 'not-ready', message: 'the model is loading; try again in a few seconds' },
        },
        { level: 50, err: { kind: 'unavailable', message: 'collection.sqlite: the disk is full' } },
      ],
    );
  });
});

describe('operations', () => {
  it('describe what is served', async () => {
    await withServer({}, async ({ url }) => {
      const { body } = await call(`${url}/info`);
      assert.equal(body.model_id, 'fake-encoder');
      assert.equal(body.dimensions, 8);
      assert.equal(body.max_input_length, 16);
      assert.equal(body.documents, 0);
      assert.equal(body.limits.max_texts, 1024);
      assert.deepEqual((await call(`${url}/health`)).body, { status: 'ok' });
      assert.deepEqual((await call(`${url}/ready`)).body, { status: 'ready' });
    });
  });

  it('measure each route by its pattern, not by its ids', async () => {
    await withServer({}, async ({ url, collection }) => {
      await collection.upsert([{ id: 'a', text: 'x' }]);
      await call(`${url}/documents/a`);
      await call(`${url}/documents/b`);
      await call(`${url}/nowhere`);
      const { text, headers } = await call(`${url}/metrics`);
      assert.match(headers.get('content-type') ?? '', /text\/plain/);
      const count = 'http_request_duration_seconds_count';
      assert.ok(text.includes(`${count}{method="GET",route="/documents/{id}",status="200"} 1`));
      assert.ok(text.includes(`${count}{method="GET",route="/documents/{id}",status="404"} 1`));
      assert.ok(text.includes(`${count}{method="GET",route="other",status="404"} 1`));
      assert.match(text, /^sentence_jepa_documents 1$/m);
      assert.match(text, /^sentence_jepa_index_kind\{kind="exact"\} 1$/m);
      assert.match(text, /^sentence_jepa_search_recall_at_10 Nan$/m);
      assert.match(text, /^nodejs_eventloop_lag_seconds /m);
      for (const name of ['te_queue_size', 'te_batch_next_size_sum', 'te_batch_next_tokens_sum'])
        assert.match(text, new RegExp(`^${name} 0$`, 'm'));
    });
  });
});

describe('the measured recall', () => {
  it('is in the metrics and in /info', async () => {
    await withServer({}, async ({ url, collection }) => {
      const { index, ...info } = collection.info();
      collection.info = () => ({ ...info, index: { ...index, recallAt10: 0.985 } });
      const { text } = await call(`${url}/metrics`);
      assert.match(text, /^sentence_jepa_search_recall_at_10 0.985$/m);
      const { body } = await call(`${url}/info`);
      const { kind, vectors, building } = index;
      assert.deepEqual(body.index, { kind, vectors, building, recall_at_10: 0.985 });
    });
  });
});

describe('API keys', () => {
  const apiKeys = ['first-key', 'second-key'];
  const bearer = (key: string): Record<string, string> => ({ Authorization: `Bearer ${key}` });

  it('open every route, in either spelling of Bearer', async () => {
    await withServer({ apiKeys }, async ({ url }) => {
      for (const key of apiKeys)
        assert.equal((await call(`${url}/info`, { headers: bearer(key) })).status, 200);
      assert.equal(
        (await call(`${url}/info`, { headers: { Authorization: 'bearer first-key' } })).status,
        200,
      );
    });
  });

  it('may be for reading alone: what changes the collection is then refused with 403, before a body is read', async () => {
    await withServer({ apiKeys: ['read:reader', 'write:writer', 'all'] }, async ({ url }) => {
      const document = { id: 'one', text: 'a text' };
      const statuses = async (key: string): Promise<number[]> => {
        const ask = async (method: string, path: string, body?: unknown): Promise<number> => {
          const headers = { ...bearer(key), 'content-type': 'application/json' };
          return (
            await call(`${url}${path}`, {
              method,
              headers,
              ...(body !== undefined && { body: JSON.stringify(body) }),
            })
          ).status;
        };
        return [
          await ask('POST', '/documents', { documents: [document] }),
          await ask('PUT', '/documents/one', { text: 'another' }),
          await ask('GET', '/documents/one'),
          await ask('POST', '/search', { query: 'text' }),
          await ask('DELETE', '/documents/one'),
        ];
      };
      const refused = await statuses('reader');
      assert.deepEqual([refused[0], refused[1], refused[4]], [403, 403, 403]);
      assert.deepEqual([refused[2], refused[3]], [404, 200]);
      for (const key of ['writer', 'all']) assert.ok((await statuses(key)).every((status) => status < 300));
      for (const key of ['read:reader', 'write:writer'])
        assert.equal((await call(`${url}/info`, { headers: bearer(key) })).status, 401);
      const { body } = await call(`${url}/documents/one`, { method: 'DELETE', headers: bearer('reader') });
      assert.deepEqual(body, {
        error: 'expected an API key that may write, came one that may read',
        error_type: 'forbidden',
      });
    });
  });

  it('are asked for with 401, before a body is read', async () => {
    await withServer({ apiKeys }, async ({ url }) => {
      const none = await call(`${url}/info`);
      assert.equal(none.status, 401);
      assert.equal(none.headers.get('www-authenticate'), 'Bearer');
      assert.match(none.body.error, /expected the header "Authorization: Bearer KEY", came none/);
      for (const headers of [
        bearer('wrong'),
        bearer('first-ke'),
        bearer('first-key2'),
        { Authorization: 'Basic Zmlyc3Qta2V5' },
      ]) {
        const answer = await call(`${url}/info`, { headers });
        assert.equal(answer.status, 401);
        assert.doesNotMatch(answer.text, /first-key/);
      }
      assert.equal((await post(`${url}/embed`, '{')).status, 401);
      assert.equal((await post(`${url}/v1/embeddings`, {})).body.error.type, 'authentication_error');
      assert.equal((await call(`${url}/metrics`)).status, 401);
    });
  });

  it('are not asked for where the process is watched or described', async () => {
    await withServer({ apiKeys }, async ({ url }) => {
      for (const path of ['/health', '/ready', '/docs', '/openapi.yaml'])
        assert.equal((await call(url + path)).status, 200, path);
    });
  });

  it('are needed to listen where other machines reach, unless said otherwise', () => {
    const open = { port: 3000, apiKeys: [], insecure: false };
    const refused = (host: string): void =>
      assert.throws(() => checkExposure({ ...open, host }), {
        kind: 'usage',
        message: /--host .* reachable from other machines: expected an API key .*--insecure/,
      });
    for (const host of ['0.0.0.0', '::', '192.168.1.5', 'example.org', '127.example.org']) refused(host);
    for (const host of ['127.0.0.1', '127.8.0.1', '::1', 'localhost']) checkExposure({ ...open, host });
    const host = '0.0.0.0';
    for (const not of [{ apiKeys }, { insecure: true }, { port: undefined }])
      checkExposure({ ...open, host, ...not });
  });
});

describe('a server that starts', () => {
  it('is alive at once and ready when the model is loaded', async () => {
    const loading = gate();
    const test = await startTestServer({}, loading.opened);
    assert.equal((await call(`${test.url}/health`)).status, 200);
    for (const path of ['/ready', '/info', '/search?q=a']) {
      const answer = await call(test.url + path);
      assert.equal(answer.status, 503, path);
      assert.equal(answer.headers.get('retry-after'), '2');
      assert.match(answer.body.error, /the model is loading/);
    }
    assert.equal((await call(`${test.url}/metrics`)).status, 200);
    loading.open();
    await test.server.ready;
    assert.equal((await call(`${test.url}/ready`)).status, 200);
    await test.server.close();
  });

  it('says so when its port is in use', async () => {
    await withServer({}, async ({ url }) => {
      const port = Number(new URL(url).port);
      await assert.rejects(startTestServer({ port }), {
        kind: 'unavailable',
        message: /port \d+: the port is in use; .*--port/,
      });
    });
  });

  it('hands on why the model can not be loaded, and can still be closed', async () => {
    const failing = (): Promise<never> => Promise.reject(new UserError('corrupt', 'the file is cut off'));
    const server = await startServer(testConfig, pino({ level: 'silent' }), failing);
    await assert.rejects(server.ready, { message: 'the file is cut off' });
    await server.close();
  });
});

describe('a server that stops', () => {
  it('answers what is in flight, refuses what comes, then closes the collection', async () => {
    const test = await startTestServer();
    const working = gate();
    test.inference.gate = working.opened;
    const inFlight = post(`${test.url}/embed`, { inputs: 'a' });
    while (test.inference.calls.length === 0) await new Promise(setImmediate);
    let closed = false;
    const closing = test.server.close().then(() => (closed = true));
    await assert.rejects(call(`${test.url}/health`));
    assert.equal(closed, false);
    working.open();
    const answer = await inFlight;
    assert.equal(answer.status, 200);
    await closing;
    assert.equal(test.collection.closed, true);
  });

  it('answers 503 on a connection that is still open', async () => {
    const test = await startTestServer();
    const working = gate();
    test.inference.gate = working.opened;
    const { port } = new URL(test.url);
    const socket = net.connect(Number(port), '127.0.0.1');
    let received = '';
    socket.setEncoding('utf8').on('data', (text: string) => (received += text));
    const request = (path: string, body: string): string =>
      `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    socket.write(request('/embed', '{"inputs":"a"}'));
    while (test.inference.calls.length === 0) await new Promise(setImmediate);
    const closing = test.server.close();
    socket.write(request('/search', '{"query":"a"}'));
    working.open();
    await once(socket, 'close');
    await closing;
    const statuses = [...received.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status);
    assert.deepEqual(statuses, ['200', '503']);
  });

  it('cuts what takes longer than it may', async () => {
    const test = await startTestServer({ drainSeconds: 0.1 });
    test.inference.gate = new Promise(() => undefined);
    const inFlight = post(`${test.url}/embed`, { inputs: 'a' });
    inFlight.catch(() => undefined);
    while (test.inference.calls.length === 0) await new Promise(setImmediate);
    await test.server.close();
    await assert.rejects(inFlight);
    const signal = test.inference.calls[0].signal!;
    if (!signal.aborted) await once(signal, 'abort');
    assert.equal(test.collection.closed, true);
  });
});

describe('a flood of large requests', () => {
  const limits = { ...testConfig.limits, bytes: 1000 };
  const body = JSON.stringify({ inputs: 'x'.repeat(900) });
  const bodies = {
    'whose size is known': () => body,
    'whose size is not known before': () => new Blob([body]).stream(),
  };
  for (const [name, bodyOf] of Object.entries(bodies))
    it(`is refused beyond eight of the largest size (${name}), and taken again afterwards`, async () => {
      await withServer({ limits }, async ({ url, inference }) => {
        const embed = (): Promise<Answer> =>
          call(`${url}/embed`, {
            method: 'POST',
            headers: { 'Content-Type': 'application/json' },
            body: bodyOf(),
            duplex: 'half',
          } as RequestInit);
        for (let round = 0; round < 2; round++) {
          const { opened, open } = gate();
          inference.gate = opened;
          inference.calls.length = 0;
          const first = Array.from({ length: 8 }, embed);
          while (inference.calls.length < 8) await nextTurn();
          const refused = await embed();
          assert.equal(refused.status, 429);
          assert.equal(refused.headers.get('retry-after'), '1');
          assert.match(refused.body.error, /in progress have 73\d\d bytes .* limit of 8000/);
          open();
          for (const { status } of await Promise.all(first)) assert.equal(status, 200);
        }
      });
    });

  it('is not what is only announced', async () => {
    await withServer({ limits }, async ({ url }) => {
      const announced = Array.from({ length: 9 }, () => {
        const request = http.request(`${url}/embed`, {
          method: 'POST',
          headers: { 'Content-Type': 'application/json', 'Content-Length': 1000 },
        });
        request.on('error', () => undefined).flushHeaders();
        return request;
      });
      await Promise.all(announced.map((request) => once(request, 'socket')));
      for (let i = 0; i < announced.length; i++) await call(`${url}/info`);
      assert.equal((await post(`${url}/embed`, { inputs: 'a' })).status, 200);
      for (const request of announced) request.destroy();
    });
  });
});

describe('a client that goes away', () => {
  it('aborts the work that waits for it', async () => {
    await withServer({}, async ({ url, inference }) => {
      const working = gate();
      inference.gate = working.opened;
      const client = new AbortController();
      const request = post(`${url}/embed`, { inputs: 'a' });
      const aborted = fetch(`${url}/embed`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: '{"inputs":"b"}',
        signal: client.signal,
      });
      while (inference.calls.length < 2) await new Promise(setImmediate);
      client.abort();
      await assert.rejects(aborted);
      const theirs = inference.calls.find(({ texts }) => texts[0] === 'b')!.signal!;
      if (!theirs.aborted) await once(theirs, 'abort');
      working.open();
      assert.equal((await request).status, 200);
    });
  });

  it('is cut off when its body does not arrive', async () => {
    await withServer({ limits: { ...testConfig.limits, bodySeconds: 0.1 } }, async ({ url }) => {
      for (const type of ['application/json', 'application/x-ndjson']) {
        const request = http.request(`${url}/documents`, {
          method: 'POST',
          headers: { 'Content-Type': type },
        });
        request.on('error', () => undefined);
        request.write('{"id":"a",');
        const [response] = (await once(request, 'response')) as [http.IncomingMessage];
        assert.equal(response.statusCode, 408, type);
        request.destroy();
      }
    });
  });
});
