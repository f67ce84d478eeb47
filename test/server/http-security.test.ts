import assert from 'node:assert/strict';
import type * as Crypto from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { createRequire, syncBuiltinESMExports } from 'node:module';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it, mock } from 'node:test';

import { pino } from 'pino';

import { Tokenizer } from '../../encoder/tokenizer.js';
import { wordPieceFiles } from '../../encoder/tokenizer-files.js';
import { allOperations } from '../../server/http/spec.js';
import { keyCheck } from '../../server/http/keys.js';
import { startServer, type RunningServer } from '../../server/main.js';
import type { Services } from '../../server/services.js';
import { TINY_VOCABULARY } from '../support/tiny-model.js';
import { fakeInference } from './fake-inference.js';
import {
  call,
  fakeServices,
  fakeInference as httpInference,
  post,
  send,
  startTestServer,
  testConfig,
  withServer,
  type TestServer,
} from './http-support.js';
import { isOnPostgres, openOnTestStore, openTestCollection } from './test-collection.js';

/** Sends a request as it is written, where a client would tidy it up, and gives all that comes. */
async function raw(
  url: string,
  firstLine: string,
  headers: readonly string[] = [],
  body = '',
): Promise<string> {
  const socket = net.connect(Number(new URL(url).port), '127.0.0.1');
  let text = '';
  socket.setEncoding('utf8').on('data', (part: string) => (text += part));
  socket.write([firstLine, 'Host: localhost', 'Connection: close', ...headers, '', body].join('\r\n'));
  await once(socket, 'close');
  return text;
}

/** A server over a collection on disk. */
async function startOnDisk(): Promise<{ server: RunningServer; services: Services; folder: string }> {
  const folder = await mkdtemp(path.join(tmpdir(), 'sentence-jepa-security-'));
  const inference = fakeInference();
  const collection = await openOnTestStore({ dataDir: path.join(folder, 'data'), inference });
  const services = fakeServices(inference, collection);
  const server = await startServer(testConfig, pino({ level: 'silent' }), async () => services);
  await server.ready;
  return { server, services, folder };
}

describe('a path that leads out of its folder', () => {
  let server: RunningServer;
  let folder: string;
  before(async () => ({ server, folder } = await startOnDisk()));
  after(async () => {
    await server.close();
    await rm(folder, { recursive: true });
  });

  const ways = [
    '../package.json',
    '../../package.json',
    '..%2f..%2fpackage.json',
    '%2e%2e/%2e%2e/package.json',
    '..%5c..%5cpackage.json',
    '%252e%252e%252fpackage.json',
    './/../..//package.json',
    'package.json',
    'absolute-path.js',
    'index.html',
    'swagger-ui.css%00.json',
    'swagger-ui.css/../package.json',
  ];
  for (const way of ways)
    it(`finds no file under /docs: ${way}`, async () => {
      const text = await raw(server.url, `GET /docs/${way} HTTP/1.1`);
      assert.match(text, /^HTTP\/1\.1 (400|404) /);
      assert.match(text, /"error_type":"(malformed|not-found)"/);
    });

  it('is an id like any other in /documents', async () => {
    const before = await readdir(folder, { recursive: true });
    for (const id of [
      '../../etc/passwd',
      '/etc/passwd',
      '..',
      '.',
      '..\\..\\boot.ini',
      'C:\\x',
      '%2e%2e',
      'a\0b',
      '__proto__',
      'constructor',
      '{id}',
      "'; DROP TABLE documents; --",
    ]) {
      const encoded = encodeURIComponent(id).replaceAll('.', '%2e');
      const target = `/documents/${encoded}`;
      const body = JSON.stringify({ text: `text of ${id}` });
      const headers = ['Content-Type: application/json', `Content-Length: ${Buffer.byteLength(body)}`];
      const put = await raw(server.url, `PUT ${target} HTTP/1.1`, headers, body);
      if (isOnPostgres && id.includes('\0')) {
        // Whose texts hold no U+0000.
        assert.match(put, /^HTTP\/1\.1 422 /, id);
        assert.match(await raw(server.url, `GET ${target} HTTP/1.1`), /^HTTP\/1\.1 404 /);
        continue;
      }
      assert.match(put, /^HTTP\/1\.1 201 /, id);
      const got = await raw(server.url, `GET ${target} HTTP/1.1`);
      assert.deepEqual(JSON.parse(got.split('\r\n\r\n')[1]), { id, text: `text of ${id}` });
      assert.match(await raw(server.url, `DELETE ${target} HTTP/1.1`), /^HTTP\/1\.1 204 /);
      assert.match(await raw(server.url, `GET ${target} HTTP/1.1`), /^HTTP\/1\.1 404 /);
    }
    assert.deepEqual(await readdir(folder, { recursive: true }), before);
  });

  it('is no model', async () => {
    for (const model of ['../../etc/passwd', '/etc/passwd', '..'])
      assert.equal((await post(`${server.url}/v1/embeddings`, { input: 'a', model })).status, 404);
  });
});

describe('names that every object has', () => {
  let server: RunningServer;
  let folder: string;
  before(async () => ({ server, folder } = await startOnDisk()));
  after(async () => {
    await server.close();
    await rm(folder, { recursive: true });
  });

  const names = ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty'];
  /** With `name` as a field of its own, which in a literal `__proto__` would not be. */
  const withField = (name: string, value: unknown, rest: object = {}): string =>
    JSON.stringify(rest)
      .replace(/^\{/, `{${JSON.stringify(name)}:${JSON.stringify(value)},`)
      .replace(',}', '}');

  it('are fields of metadata like any other: kept, given back, and found by a filter', async () => {
    for (const name of names) {
      const document = `{"id":${JSON.stringify(name)},"text":"a","metadata":${withField(name, ['x', 'y'])}}`;
      const stored = await post(`${server.url}/documents`, `[${document}]`);
      assert.equal(stored.status, 200, stored.text);
      assert.equal((await call(`${server.url}/documents/${name}`)).text, document);
      for (const [value, ids] of [
        ['x', [name]],
        ['z', []],
      ] as const) {
        const body = `{"query":"a","filter":${withField(name, value)}}`;
        const found = await post(`${server.url}/search`, body);
        assert.deepEqual(
          found.body.hits.map(({ id }: { id: string }) => id),
          ids,
          name,
        );
        const url = `${server.url}/search?q=a&filter=${encodeURIComponent(withField(name, value))}`;
        assert.deepEqual((await call(url)).body.hits, found.body.hits);
      }
    }
    assert.equal((await call(`${server.url}/documents?limit=10`)).body.documents.length, names.length);
  });

  it('are unknown fields of a body, of NDJSON, of a filter and of a query, and change nothing', async () => {
    const polluting = { polluted: true, k: 1, truncate: false, in: ['x'] };
    for (const name of names) {
      const refusals: [path: string, body: string, type?: string][] = [
        ['/embed', withField(name, polluting, { inputs: 'a' })],
        ['/search', withField(name, polluting, { query: 'a' })],
        [
          '/similarity',
          `{"inputs":${withField(name, polluting, { source_sentence: 'a', sentences: ['b'] })}}`,
        ],
        ['/documents', `[${withField(name, polluting, { id: 'a', text: 'b' })}]`],
        ['/documents', withField(name, polluting, { id: 'a', text: 'b' }), 'application/x-ndjson'],
        ['/documents', `[{"id":"a","text":"b","metadata":${withField(name, polluting)}}]`],
        ['/search', `{"query":"a","filter":{"f":${withField(name, 1)}}}`],
      ];
      for (const [path, body, type = 'application/json'] of refusals)
        assert.equal(
          (await post(server.url + path, body, { 'Content-Type': type })).status,
          422,
          `${path} ${body}`,
        );
      assert.equal((await call(`${server.url}/search?q=a&${name}=1&${name}[polluted]=1`)).status, 422);
      // Other fields than it knows are taken from Cohere's clients.
      const texts = { query: 'a', documents: ['a', 'b'] };
      const ranked = await post(`${server.url}/v2/rerank`, withField(name, { top_n: 1 }, texts));
      assert.equal(ranked.body.results.length, 2);
    }
    const empty = {} as Record<string, unknown>;
    for (const name of Object.keys(polluting)) assert.equal(empty[name], undefined);
  });
});

describe('API keys', () => {
  it('are compared as digests of one length, each of them whatever the others say', () => {
    const crypto = createRequire(import.meta.url)('node:crypto') as typeof Crypto;
    const compare = mock.method(crypto, 'timingSafeEqual');
    syncBuiltinESMExports();
    try {
      const keys = ['first-key', 'read:second-key', 'k'];
      const check = keyCheck(keys);
      for (const sent of ['first-key', 'second-key', 'k', 'first-kex', 'x', 'x'.repeat(4096)]) {
        compare.mock.resetCalls();
        try {
          check(`Bearer ${sent}`, 'read');
        } catch {
          // Refused; how is another test's.
        }
        assert.equal(compare.mock.callCount(), keys.length);
        for (const { arguments: digests } of compare.mock.calls)
          for (const digest of digests) assert.equal(digest.byteLength, 32);
      }
    } finally {
      compare.mock.restore();
      syncBuiltinESMExports();
    }
  });

  it('for reading alone are refused with 403 by every route that writes, before anything else', async () => {
    const writes = allOperations.filter(({ scope }) => scope !== 'read');
    assert.ok(writes.length >= 3);
    await withServer({ apiKeys: ['read:reader'] }, async ({ url }) => {
      for (const { method, path } of writes) {
        const target = url + path.replace(/\{\w+\}/g, 'x');
        const answer = await call(target, { method, headers: { Authorization: 'Bearer reader' } });
        assert.equal(answer.status, 403, `${method} ${path}`);
        assert.equal(answer.body.error_type, 'forbidden');
      }
    });
  });

  it('are asked for by every route but those that are open', async () => {
    await withServer({ apiKeys: ['key'] }, async ({ url }) => {
      for (const { method, path, open } of allOperations) {
        const target = url + path.replace(/\{\w+\}/g, 'x');
        const { status } = await call(target, { method, redirect: 'manual' });
        assert.equal(status === 401, !open, `${method} ${path} answers ${status}`);
      }
      assert.equal((await call(`${url}/info?api_key=key`)).status, 401);
    });
  });
});

describe('the log, however much it tells', () => {
  it('has no key, wherever it was sent, and nothing that was searched for', async () => {
    const secret = 'sEcReT-123';
    const lines: string[] = [];
    const log = pino({ level: 'trace' }, { write: (line) => void lines.push(line) });
    const inference = httpInference();
    const services = fakeServices(inference, await openTestCollection(inference));
    const server = await startServer({ ...testConfig, apiKeys: [secret] }, log, async () => services);
    await server.ready;
    const { url } = server;
    const authorization = `Authorization: Bearer ${secret}`;
    const withKey = { Authorization: `Bearer ${secret}`, 'Content-Type': 'application/json' };
    try {
      const statuses = [
        await call(`${url}/info`, { headers: withKey }),
        await call(`${url}/info`, { headers: { Authorization: `Basic ${secret}`, Cookie: secret } }),
        await call(`${url}/info?api_key=${secret}`, { headers: { 'X-Api-Key': secret } }),
        await call(`${url}/search?q=${secret}`, { headers: withKey }),
        await call(`${url}/nowhere?token=${secret}`, {
          headers: { ...withKey, 'X-Request-Id': `a ${secret}` },
        }),
        await post(`${url}/embed`, { inputs: 'a', api_key: secret }, withKey),
        await post(`${url}/embed`, `{"${secret}"`, withKey),
        await post(`${url}/embed`, { inputs: secret }, withKey),
        await post(`${url}/v1/embeddings`, { input: 'a', model: secret }, withKey),
        await post(`${url}/documents`, `{"${secret}"`, {
          ...withKey,
          'Content-Type': 'application/x-ndjson',
        }),
        await send('PUT', `${url}/documents/a`, { text: secret }, withKey),
      ].map(({ status }) => status);
      inference.failure = new Error('not foreseen');
      statuses.push((await post(`${url}/embed`, { inputs: secret }, withKey)).status);
      assert.deepEqual(statuses, [200, 401, 401, 200, 404, 422, 400, 200, 404, 400, 201, 500]);
      await raw(url, `GET http://user:${secret}@host/info HTTP/1.1`, [authorization]);
      await raw(url, `${secret} ${secret}`);
      await raw(url, 'GET /info HTTP/1.1', [authorization, `: ${secret}`]);
    } finally {
      await server.close();
    }
    const told = lines.join('');
    assert.ok(lines.length >= 15);
    assert.match(told, /"path":"\/search"/);
    assert.match(told, /not a request/);
    assert.match(told, /not foreseen/);
    assert.doesNotMatch(told, /sEcReT/i);
  });
});

/**
 * Texts that keep a regular expression busy for longer than anybody waits when it can go more than one way through
 * them: these tests end, or the pattern at fault has no linear way.
 */
describe('hostile text', () => {
  const length = 131_072;
  let test: TestServer;
  before(async () => (test = await startTestServer({ apiKeys: ['key'] })));
  after(() => test.server.close());
  const ask = (path: string, body: unknown): ReturnType<typeof post> =>
    post(test.url + path, body, { 'Content-Type': 'application/json', Authorization: 'Bearer key' });

  const blanks = { spaces: ' ', tabs: '\t', 'line ends': '\n', 'Unicode blanks': '\u2003' };
  for (const [name, blank] of Object.entries(blanks))
    it(`is blank or not, after many ${name}`, async () => {
      assert.equal((await ask('/embed', { inputs: blank.repeat(length) })).status, 400);
      assert.equal((await ask('/embed', { inputs: `${blank.repeat(length - 1)}a` })).status, 200);
    });

  it('in a header is a key, or none', async () => {
    const status = async (authorization: string): Promise<number> =>
      (await call(`${test.url}/info`, { headers: { Authorization: authorization } })).status;
    assert.equal(await status(`Bearer${' '.repeat(30_000)}key`), 200);
    assert.equal(await status(`Bearer${' '.repeat(30_000)}x y`), 401);
    assert.equal(await status(`Bearer ${'x'.repeat(30_000)} y`), 401);
    assert.equal(await status(`Bearer ${'x '.repeat(15_000)}`), 401);
  });

  it('in a URL is a parameter, or none', async () => {
    const headers = { Authorization: 'Bearer key' };
    const get = async (query: string): Promise<number> =>
      (await call(`${test.url}/search?${query}`, { headers })).status;
    assert.equal(await get(`q=${'='.repeat(16_000)}`), 200);
    assert.equal(await get(`q=a${'&'.repeat(16_000)}`), 200);
    assert.equal(await get(`q=a${'&exclude=b'.repeat(1_000)}`), 200);
    assert.equal(await get(`q=a${'&exclude=b'.repeat(1_001)}`), 422);
    assert.equal(await get(`q=${'%'.repeat(16_000)}`), 400);
  });

  it('in a media type is one, or none', async () => {
    const status = async (type: string): Promise<number> =>
      (
        await post(
          `${test.url}/embed`,
          { inputs: 'a' },
          { 'Content-Type': type, Authorization: 'Bearer key' },
        )
      ).status;
    assert.equal(await status(`application/json${'; a=b'.repeat(5_000)}`), 200);
    assert.equal(await status(`application/json; charset=${'"'.repeat(30_000)}`), 415);
    assert.equal(await status(`${'application/'.repeat(2_000)}json`), 415);
  });

  it('of escapes is Unicode, or not', async () => {
    const pair = '\\ud83d\\ude00';
    const body = (text: string): string => `{"inputs":"${text}"}`;
    assert.equal((await ask('/embed', body(pair.repeat(length / 2)))).status, 200);
    assert.equal((await ask('/embed', body(`${pair.repeat(length / 2 - 1)}\\ud83d`))).status, 400);
  });

  it('is split into the tokens that it has', () => {
    const files = wordPieceFiles(TINY_VOCABULARY, { lowerCase: true, maxTokens: 32 });
    const tokenizer = new Tokenizer(files, 32);
    // [CLS], [SEP] and: one word that is too long; a token each; none at all.
    assert.equal(tokenizer.count('x'.repeat(length)), 3);
    assert.equal(tokenizer.count('-'.repeat(length)), length + 2);
    assert.equal(tokenizer.count('a '.repeat(length / 2)), length / 2 + 2);
    assert.equal(tokenizer.count('\u0301'.repeat(length)), 2);
    assert.equal(tokenizer.count(' '.repeat(length)), 2);
    assert.equal(tokenizer.count('[MASK]'.repeat(length / 8)), length / 8 + 2);
    assert.equal(tokenizer.count(`${'['.repeat(length)}MASK]`), length + 2);
  });
});
