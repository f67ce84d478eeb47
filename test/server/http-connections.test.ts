import assert from 'node:assert/strict';
import net from 'node:net';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { gate, post, testConfig, withServer, type TestServer } from './http-support.js';

/** The one or the other is as short as nobody should have to wait for. */
const hurry = { connectionTimes: { ...testConfig.connectionTimes, headers: 0.1 } };
const noLinger = { connectionTimes: { ...testConfig.connectionTimes, linger: 0.1 } };
const noPatience = { connectionTimes: { ...testConfig.connectionTimes, unread: 0.1 } };

function connect({ url }: Pick<TestServer, 'url'>): net.Socket {
  const socket = net.connect(Number(new URL(url).port), '127.0.0.1');
  // Cut while something is still on its way.
  socket.on('error', () => undefined);
  return socket;
}

/** Everything that comes until the connection is closed. */
async function received(socket: net.Socket): Promise<string> {
  let text = '';
  socket.setEncoding('latin1').on('data', (part: string) => (text += part));
  // Not `once`, which fails when a connection is cut.
  await new Promise((resolve) => socket.once('close', resolve));
  return text;
}

/** What is answered to `request`, and whether the connection is closed behind it. */
async function answerTo(test: TestServer, request: string | Buffer): Promise<string> {
  const socket = connect(test);
  socket.write(request);
  return received(socket);
}

const statusesOf = (text: string): number[] =>
  Array.from(text.matchAll(/HTTP\/1\.1 (\d+)/g), ([, status]) => Number(status));

/** One answer in our form. */
function assertAnswer(text: string, status: number, kind: string, message: RegExp): void {
  assert.deepEqual(statusesOf(text), [status], text);
  const [head, body] = text.split('\r\n\r\n');
  assert.match(head, /^Content-Type: application\/json; charset=utf-8$/im);
  assert.match(head, /^X-Content-Type-Options: nosniff$/im);
  assert.match(head, /^Connection: close$/im);
  assert.equal(Number(/^Content-Length: (\d+)$/im.exec(head)?.[1]), body.length);
  const { error, error_type, ...rest } = JSON.parse(body);
  assert.deepEqual([error_type, rest], [kind, {}]);
  assert.match(error, message);
}

const head = (...lines: string[]): string => [...lines, '', ''].join('\r\n');

describe('what is no request', () => {
  const noHttp = /^expected HTTP\/1\.1, came something else: \w/;
  const broken: [name: string, bytes: string | Buffer, status: number, kind: string, message: RegExp][] = [
    ['words', 'hello\r\n\r\n', 400, 'malformed', noHttp],
    ['a TLS handshake', Buffer.from('160301020001', 'hex'), 400, 'malformed', noHttp],
    ['a header without a name', head('GET / HTTP/1.1', 'Host: localhost', ': b'), 400, 'malformed', noHttp],
    ['a NUL in a header', head('GET / HTTP/1.1', 'Host: localhost\0b'), 400, 'malformed', noHttp],
    [
      'a length beside chunks, by which requests are smuggled',
      head('POST /embed HTTP/1.1', 'Host: localhost', 'Content-Length: 3', 'Transfer-Encoding: chunked'),
      400,
      'malformed',
      noHttp,
    ],
    [
      'two lengths',
      head('POST /embed HTTP/1.1', 'Host: localhost', 'Content-Length: 3', 'Content-Length: 4'),
      400,
      'malformed',
      noHttp,
    ],
    [
      'large headers',
      head('GET /info HTTP/1.1', 'Host: localhost', `X-A: ${'x'.repeat(33_000)}`),
      431,
      'headers-too-large',
      /^expected a URL and headers of at most 32768 bytes, came more$/,
    ],
    [
      'a very long URL',
      head(`GET /search?q=${'x'.repeat(33_000)} HTTP/1.1`, 'Host: localhost'),
      431,
      'headers-too-large',
      /^expected a URL and headers/,
    ],
    [
      'a body of no chunks',
      head(
        'POST /embed HTTP/1.1',
        'Host: localhost',
        'Content-Type: application/json',
        'Transfer-Encoding: chunked',
      ) + 'zz\r\n',
      400,
      'malformed',
      noHttp,
    ],
    [
      'a chunk with a long extension',
      head(
        'POST /embed HTTP/1.1',
        'Host: localhost',
        'Content-Type: application/json',
        'Transfer-Encoding: chunked',
      ) + `1;${'x'.repeat(20_000)}`,
      413,
      'too-large',
      /^the body: expected chunks with short extensions/,
    ],
  ];
  for (const [name, bytes, status, kind, message] of broken)
    it(`is answered with ${status} in our form: ${name}`, async () => {
      await withServer({}, async (test) => {
        assertAnswer(await answerTo(test, bytes), status, kind, message);
        assert.equal(test.inference.calls.length, 0);
      });
    });

  it('ends a connection behind the answers to the requests before it', async () => {
    await withServer({}, async (test) => {
      const socket = connect(test);
      socket.write(head('GET /health HTTP/1.1', 'Host: localhost'));
      socket.once('data', () => socket.write('hello\r\n\r\n'));
      assert.deepEqual(statusesOf(await received(socket)), [200, 400]);
    });
  });

  it('cuts a connection whose answer has begun, and adds nothing to it', async () => {
    await withServer({}, async (test) => {
      const socket = connect(test);
      socket.write(
        head(
          'POST /documents HTTP/1.1',
          'Host: localhost',
          'Content-Type: application/x-ndjson',
          'Accept: application/x-ndjson',
          'Transfer-Encoding: chunked',
        ),
      );
      // Twice as many as are stored together: the first of them are told of.
      const lines = Array.from({ length: 512 }, (_, i) => `{"id":"${i}","text":"a"}\n`).join('');
      socket.write(`${lines.length.toString(16)}\r\n${lines}\r\n`);
      socket.once('data', () => socket.write('zz\r\n'));
      const text = await received(socket);
      assert.deepEqual(statusesOf(text), [200]);
      assert.match(text, /"stored":256/);
      assert.doesNotMatch(text, /error/);
    });
  });
});

describe('a request that node:http lets through', () => {
  it('is 414 when its URL is too long', async () => {
    await withServer({}, async (test) => {
      const get = (length: number): string =>
        head(
          `GET /search?q=${'x'.repeat(length - '/search?q='.length)} HTTP/1.1`,
          'Host: localhost',
          'Connection: close',
        );
      assert.deepEqual(statusesOf(await answerTo(test, get(16_384))), [200]);
      const long = await answerTo(test, get(16_385));
      assertAnswer(
        long,
        414,
        'uri-too-long',
        /^the URL: expected at most 16384 bytes, came 16385; send a POST/,
      );
    });
  });

  it('is 400 without a Host, unless it is of HTTP/1.0', async () => {
    await withServer({}, async (test) => {
      const without = await answerTo(test, head('GET /health HTTP/1.1', 'Connection: close'));
      assertAnswer(without, 400, 'malformed', /^expected the header Host/);
      assert.deepEqual(statusesOf(await answerTo(test, head('GET /health HTTP/1.0'))), [200]);
    });
  });
});

describe('an expectation', () => {
  it('that is not known is passed over', async () => {
    await withServer({}, async (test) => {
      const text = await answerTo(
        test,
        head('GET /health HTTP/1.1', 'Host: localhost', 'Expect: more', 'Connection: close'),
      );
      assert.deepEqual(statusesOf(text), [200]);
    });
  });
});

describe('a slow client', () => {
  /** Sends a byte again and again, until the connection is closed. */
  function trickle(socket: net.Socket, byte: string): void {
    const timer = setInterval(() => socket.writable && socket.write(byte), 10);
    socket.once('close', () => clearInterval(timer));
  }

  it('has so long for its headers, however it sends them, or whether it sends any', async () => {
    await withServer(hurry, async (test) => {
      const silent = connect(test);
      const stops = connect(test);
      stops.write('GET /health HTTP/1.1\r\nHost: localhost\r\nX-A: ');
      const goesOn = connect(test);
      goesOn.write('GET /health HTTP/1.1\r\nHost: localhost\r\nX-A: ');
      trickle(goesOn, 'x');
      for (const text of await Promise.all([silent, stops, goesOn].map(received)))
        assertAnswer(text, 408, 'timeout', /^the request did not arrive in time$/);
    });
  });

  it('has so long for its body, however it sends it, and is cut behind the answer', async () => {
    const limits = { ...testConfig.limits, bodySeconds: 0.1 };
    await withServer({ ...noLinger, limits }, async (test) => {
      const socket = connect(test);
      const lines = ['Host: localhost', 'Content-Type: application/json', 'Content-Length: 1000000'];
      socket.write(head('POST /embed HTTP/1.1', ...lines));
      trickle(socket, ' ');
      const text = await received(socket);
      assert.deepEqual(statusesOf(text), [408]);
      assert.match(text, /the request's body did not arrive within 0\.1 s/);
    });
  });

  it('is cut when it goes on with a body that nobody reads', async () => {
    await withServer(noLinger, async (test) => {
      for (const [request, status] of [
        ['GET /health HTTP/1.1', 200],
        ['POST /nowhere HTTP/1.1', 404],
      ] as const) {
        const socket = connect(test);
        socket.write(head(request, 'Host: localhost', 'Content-Length: 1000000'));
        trickle(socket, ' ');
        assert.deepEqual(statusesOf(await received(socket)), [status]);
      }
    });
  });
});

describe('a client that does not take its answer', () => {
  const much = head('GET /search?q=a&k=300 HTTP/1.1', 'Host: localhost');
  for (const [name, requests] of [
    ['', much],
    [' who asks for more behind it as well', much + much + 'GET'],
  ])
    it(`is cut${name}, and its place goes to another one`, { timeout: 60_000 }, async ({ signal }) => {
      await withServer({ ...noPatience, maxRequests: 1 }, async ({ url, collection }) => {
        // More than the system's buffers of both sides take.
        const metadata = { much: 'x'.repeat(100_000) };
        await collection.upsert(
          Array.from({ length: 300 }, (_, i) => ({ id: String(i), text: 'a', metadata })),
        );
        const { search } = collection;
        const searching = gate();
        collection.search = (request) => (searching.open(), search.call(collection, request));
        const socket = connect({ url }).pause();
        socket.write(requests);
        await searching.opened;
        let status = 429;
        while (status === 429 && !signal.aborted) ({ status } = await post(`${url}/embed`, { inputs: 'a' }));
        assert.equal(status, 200);
        const { length } = await received(socket.resume());
        assert.ok(length < 300 * 100_000, `${length} bytes`);
      });
    });

  it('is not one that waits for it', async () => {
    await withServer(noPatience, async (test) => {
      const { opened, open } = gate();
      test.inference.gate = opened;
      const answer = post(`${test.url}/embed`, { inputs: 'a' });
      await sleep(500);
      open();
      assert.equal((await answer).status, 200);
    });
  });
});
