import { deflateSync, gzipSync } from 'node:zlib';

import type { Random } from '../../base/random.js';
import type { FuzzRequest } from './valid-requests.js';

/** A value, or JSON as it is to be sent where no value says it: escapes, and numbers that JavaScript has not. */
class Raw {
  constructor(readonly json: string) {}
}

const texts: ((random: Random) => string)[] = [
  () => '',
  () => ' \t\n',
  () => 'a',
  () => 'q17',
  () => 'null',
  () => '😀👩‍👩‍👧‍👦 مرحبا שלום 漢字 e\u0301\u0327',
  () => '\u0000\u0001\u001f\u007f\ufeff\u202e\u2028',
  () => '../../etc/passwd',
  () => '"; DROP TABLE documents; --',
  () => '" AND text:* OR NEAR(a b)',
  () => '%00%ff%zz{{7*7}}',
  (random) => 'x'.repeat(random.below(30_000)),
  (random) => 'wi fi '.repeat(random.below(3_000)),
  (random) => String.fromCodePoint(...Array.from({ length: 20 }, () => random.below(0xd800))),
];

const values: ((random: Random) => unknown)[] = [
  () => null,
  () => true,
  () => 0,
  () => -1,
  () => 1.5,
  (random) => random.below(2 ** 32),
  () => new Raw('1e999'),
  () => new Raw('-0'),
  () => new Raw('123456789012345678901234567890'),
  () => new Raw('"\\ud800"'),
  () => [],
  () => ({}),
  () => [[[]]],
  () => new Raw('['.repeat(5_000) + ']'.repeat(5_000)),
  () => new Raw('{"a":'.repeat(5_000) + '1' + '}'.repeat(5_000)),
  () => new Raw('{"__proto__":{"k":1},"constructor":{"prototype":{}}}'),
  (random) => Array.from({ length: random.below(200) }, (_, i) => `text ${i}`),
  (random) => Array.from({ length: random.below(20) }, (_, i) => ({ id: `f${i % 7}`, text: 'usb drive' })),
  (random) => Object.fromEntries(Array.from({ length: random.below(200) }, (_, i) => [`field${i}`, i])),
  (random) => pick(random, texts)(random),
];

const LONGEST_PARSED = 4000;

function pick<T>(random: Random, items: readonly T[]): T {
  return items[random.below(items.length)];
}

function stringify(value: unknown): string {
  if (value instanceof Raw) return value.json;
  if (Array.isArray(value)) return `[${value.map(stringify).join()}]`;
  if (value !== null && typeof value === 'object')
    return `{${Object.entries(value)
      .map(([key, inner]) => `${JSON.stringify(key)}:${stringify(inner)}`)
      .join()}}`;
  return JSON.stringify(value) ?? 'null';
}

/** The value with something in it replaced, removed or added. */
function mutateValue(value: unknown, random: Random): unknown {
  const isInner = value !== null && typeof value === 'object' && !(value instanceof Raw);
  const entries = isInner ? Object.entries(value) : [];
  if (entries.length === 0 || random.below(4) === 0) return pick(random, values)(random);
  const at = random.below(entries.length);
  const [key, inner] = entries[at];
  switch (random.below(5)) {
    case 0:
      entries.splice(at, 1);
      break;
    case 1:
      entries.push([pick(random, texts)(random), pick(random, values)(random)]);
      break;
    case 2:
      entries.push([`${key}2`, inner]);
      break;
    default:
      entries[at] = [key, mutateValue(inner, random)];
  }
  return Array.isArray(value) ? entries.map(([, each]) => each) : Object.fromEntries(entries);
}

function mutateBytes(bytes: Buffer, random: Random): Buffer {
  const at = random.below(bytes.length + 1);
  const noise = Buffer.from(Array.from({ length: 1 + random.below(8) }, () => random.below(256)));
  switch (random.below(5)) {
    case 0:
      return bytes.subarray(0, at);
    case 1:
      return Buffer.concat([bytes.subarray(0, at), noise, bytes.subarray(at)]);
    case 2:
      return Buffer.concat([Buffer.from('\ufeff'), bytes]);
    case 3:
      return Buffer.concat([bytes, Buffer.from('\n'), bytes]);
    default:
      return noise;
  }
}

/** Nothing for what an earlier mutation has broken, or made so deep that it can't be walked through. */
function parsed(json: string): unknown {
  if (json.length > LONGEST_PARSED) return undefined;
  try {
    return JSON.parse(json) as unknown;
  } catch {
    return undefined;
  }
}

function mutateLines(lines: Buffer, random: Random): Buffer {
  const all = lines.toString().trim().split('\n');
  const made = Array.from({ length: random.below(40) }, () => {
    const line = pick(random, all);
    switch (random.below(6)) {
      case 0:
        return stringify(mutateValue(parsed(line), random));
      case 1:
        return line.slice(0, random.below(line.length + 1));
      case 2:
        return '';
      default:
        return JSON.stringify({ id: `f${random.below(50)}`, text: `usb drive ${random.below(1000)}` });
    }
  });
  return Buffer.from(made.join(pick(random, ['\n', '\r\n', '\n\n'])));
}

function mutateBody(request: FuzzRequest, random: Random): FuzzRequest {
  const { body, headers } = request;
  if (!body) return { ...request, body: Buffer.from(stringify(pick(random, values)(random))) };
  if (headers['content-type'] === 'application/x-ndjson')
    return { ...request, body: mutateLines(body, random) };
  let value = parsed(body.toString());
  if (value === undefined || random.below(3) === 0) return { ...request, body: mutateBytes(body, random) };
  for (let n = 1 + random.below(3); n > 0; n--) value = mutateValue(value, random);
  return { ...request, body: Buffer.from(stringify(value)) };
}

function mutateEncoding(request: FuzzRequest, random: Random): FuzzRequest {
  const { body = Buffer.from('{}'), headers } = request;
  const gzip = gzipSync(body);
  const [encoding, made] = pick(random, [
    ['gzip', gzip],
    ['gzip', gzip.subarray(0, random.below(gzip.length))],
    ['gzip', mutateBytes(gzip, random)],
    ['gzip', body],
    ['GZIP', gzip],
    ['deflate', deflateSync(body)],
    ['br', body],
    ['zstd', body],
    ['gzip, gzip', gzipSync(gzip)],
    // 4 MiB of nothing in 4 KiB.
    ['gzip', gzipSync(Buffer.alloc(1 << 22, ' '))],
  ] as [string, Buffer][]);
  return { ...request, body: made, headers: { ...headers, 'content-encoding': encoding } };
}

const headers: readonly [string, string][] = [
  ['content-type', 'text/plain'],
  ['content-type', 'application/json; charset=latin1'],
  ['content-type', 'application/json;;;charset="utf-8'],
  ['content-type', 'application/x-ndjson'],
  ['content-type', 'application/json'],
  ['content-type', 'multipart/form-data; boundary=x'],
  ['content-type', '\u00ff/\u00ff'],
  ['accept', 'application/octet-stream'],
  ['accept', 'application/x-ndjson'],
  ['accept', 'text/html;q=2, */*;q=-1, ,;;'],
  ['accept-encoding', 'gzip;q=x, identity;q=0'],
  ['authorization', 'Bearer '],
  ['x-request-id', 'a'.repeat(2000)],
  ['x-request-id', 'ok-1'],
  ['traceparent', '00-zz-zz-zz'],
  ['expect', '100-continue'],
  ['range', 'bytes=0-0,5-'],
  ['if-none-match', '*'],
  ['x-http-method-override', 'DELETE'],
  ['host', 'example.invalid:99999'],
  ['cookie', '__proto__=1'.repeat(100)],
  ['x-long', 'y'.repeat(20_000)],
];

function mutateHeaders(request: FuzzRequest, random: Random): FuzzRequest {
  if (random.below(6) === 0) return { ...request, headers: {} };
  const [name, value] = pick(random, headers);
  return { ...request, headers: { ...request.headers, [name]: value } };
}

const urlParts = [
  '%',
  '%zz',
  '%ff',
  '%00',
  '%2F..%2F',
  '1e9',
  '-1',
  'NaN',
  '[1]',
  '{"a":{"in":[]}}',
  '%7B%22a%22%3A%7B%22gt%22%3A1%7D%7D',
  'dense',
  '😀',
  'x'.repeat(600),
];

function mutateUrl(request: FuzzRequest, random: Random): FuzzRequest {
  const [path, query = ''] = request.path.split('?');
  const parts = query.split('&').filter(Boolean);
  const part = pick(random, urlParts);
  const url = (newPath: string, newParts: string[]): FuzzRequest => ({
    ...request,
    // What http.request would not send is left to the raw requests.
    path: encodeNonAscii(newParts.length > 0 ? `${newPath}?${newParts.join('&')}` : newPath),
  });
  switch (random.below(6)) {
    case 0:
      return url(path, [
        ...parts,
        `${pick(random, ['q', 'k', 'limit', 'after', 'zz', '__proto__'])}=${part}`,
      ]);
    case 1:
      return url(path, parts.slice(1));
    case 2:
      return url(path, [...parts, ...parts]);
    case 3:
      return url(path.replace(/[^/]+$/, part), parts);
    case 4:
      return url(`${path}/`, parts);
    default:
      return url(
        path,
        parts.map((each) => each.replace(/=.*/s, `=${part}`)),
      );
  }
}

function encodeNonAscii(url: string): string {
  return url.replace(/[^\x21-\x7e]/gu, encodeURIComponent);
}

function mutateMethod(request: FuzzRequest, random: Random): FuzzRequest {
  return { ...request, method: pick(random, ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH']) };
}

/** One to three changes of a valid request; now and then none. */
export function mutate(request: FuzzRequest, random: Random): FuzzRequest {
  const mutations = [
    mutateBody,
    mutateBody,
    mutateBody,
    mutateUrl,
    mutateHeaders,
    mutateEncoding,
    mutateMethod,
  ];
  let made = request;
  for (let n = random.below(4); n > 0; n--) made = pick(random, mutations)(made, random);
  return made;
}

/** What no HTTP client would send, as bytes. */
export function brokenHttp(random: Random): Buffer {
  const post = (headers: string, body: string): string =>
    `POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n${headers}\r\n\r\n${body}`;
  return Buffer.from(
    pick(random, [
      post('Content-Length: 100', '{"inputs":"a"}'),
      post('Content-Length: -1', '{"inputs":"a"}'),
      post('Content-Length: 5\r\nContent-Length: 9', '{"inputs":"a"}'),
      post('Content-Length: 99999999999', '{"inputs":"a"}'),
      post('Transfer-Encoding: chunked', 'zz\r\n{}\r\n0\r\n\r\n'),
      post('Transfer-Encoding: chunked', 'ffff\r\n{"inputs":"a"}'),
      post('Transfer-Encoding: chunked\r\nContent-Length: 4', '0\r\n\r\n'),
      post('Transfer-Encoding: gzip, identity', '{"inputs":"a"}'),
      post('Expect: 200-ok\r\nContent-Length: 2', '{}'),
      post('X\0Y: a\r\nContent-Length: 2', '{}'),
      post(`X-Long: ${'z'.repeat(70_000)}`, ''),
      'GET / HTTP/9.9\r\n\r\n',
      'GET /health HTTP/1.1\r\n\r\n',
      'GET http://[::1/search?q=a HTTP/1.1\r\nHost: localhost\r\n\r\n',
      'GET /search?q=\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n',
      'GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(20),
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
      '\x16\x03\x01\x02\x00\x01\x00',
      'CONNECT x:1 HTTP/1.1\r\nHost: localhost\r\n\r\n',
      'GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
    ]),
    'latin1',
  );
}
