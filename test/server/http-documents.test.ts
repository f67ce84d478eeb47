import assert from 'node:assert/strict';
import http from 'node:http';
import { once } from 'node:events';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';

import { UserError } from '../../base/errors.js';
import {
  call,
  FAKE_MODEL,
  gate,
  post,
  send,
  startTestServer,
  type Answer,
  type TestServer,
} from './http-support.js';

let test: TestServer;
before(async () => {
  test = await startTestServer();
});
after(() => test.server.close());
beforeEach(async () => {
  await test.collection.clear();
  test.collection.upserts.length = 0;
  test.collection.gate = undefined;
});

const ids = async (): Promise<string[]> => [...(await test.collection.texts()).keys()];
const documents = (...names: string[]): { id: string; text: string }[] =>
  names.map((id) => ({ id, text: `text of ${id}` }));

const numbers = (n: number): string[] => Array.from({ length: n }, (_, i) => String(i));

function assertRefused(answer: Answer, status: number, message: RegExp): void {
  assert.equal(answer.status, status, answer.text);
  assert.match(answer.body.error, message);
}

describe('POST /documents with JSON', () => {
  it('stores a list, or a list under `documents`, and counts what was there', async () => {
    const first = await post(`${test.url}/documents`, documents('a', 'b'));
    assert.deepEqual(first.body, { stored: 2, inserted: 2, replaced: 0 });
    const second = await post(`${test.url}/documents`, { documents: documents('b', 'c') });
    assert.deepEqual(second.body, { stored: 2, inserted: 1, replaced: 1 });
    assert.deepEqual(await ids(), ['a', 'b', 'c']);
  });

  it('keeps metadata of every kind', async () => {
    const metadata = { s: 'x', n: 1.5, b: true, nothing: null, tags: ['p', 'q'] };
    await post(`${test.url}/documents`, [{ id: 'a', text: 'x', metadata }]);
    assert.deepEqual((await call(`${test.url}/documents/a`)).body, { id: 'a', text: 'x', metadata });
  });

  const refusals: [name: string, body: unknown, status: number, message: RegExp][] = [
    [
      'an id that is given twice',
      documents('a', 'b', 'a'),
      422,
      /documents\[2\]\.id: expected each id once, came "a" again, which documents\[0\] has/,
    ],
    [
      'a document without an id',
      [{ text: 'x' }],
      422,
      /\[0\]\.id: expected a string of 1 to 512 characters, came nothing/,
    ],
    [
      'an empty id',
      { documents: [{ id: '', text: 'x' }] },
      400,
      /documents\[0\]\.id: expected a string of 1 to 512/,
    ],
    [
      'a blank text',
      { documents: [{ id: 'a', text: ' ' }] },
      400,
      /documents\[0\]\.text: expected a text that is not blank/,
    ],
    [
      'a number as text',
      { documents: [{ id: 'a', text: 5 }] },
      422,
      /documents\[0\]\.text: expected a text.*, came 5/,
    ],
    [
      'nested metadata',
      { documents: [{ id: 'a', text: 'x', metadata: { m: { n: 1 } } }] },
      422,
      /documents\[0\]\.metadata\.m: expected a string, a number.*, came an object/,
    ],
    [
      'much metadata',
      [{ id: 'a', text: 'x', metadata: Object.fromEntries(numbers(101).map((n) => [n, 1])) }],
      422,
      /^\[0\]\.metadata: expected an object of at most 100 fields, came an object of 101 fields$/,
    ],
    [
      'an infinite number',
      '[{"id":"a","text":"x","metadata":{"m":1e999}}]',
      422,
      /\[0\]\.metadata\.m: expected .*, came Infinity/,
    ],
    [
      'an unknown field',
      { documents: [{ id: 'a', text: 'x', title: 'y' }] },
      422,
      /documents\[0\]: expected only id, text and metadata, came the unknown field "title"/,
    ],
    ['no documents', { documents: [] }, 400, /documents: expected a list.*, came an empty list/],
    [
      '10,000 documents',
      Array.from({ length: 10_000 }, (_, i) => ({ id: String(i), text: 'x' })),
      413,
      /documents: expected at most 1024 .*came 10000.*x-ndjson/,
    ],
    [
      'a text of 1 MB',
      [{ id: 'a', text: 'x'.repeat(2 ** 20) }],
      413,
      /documents\[0\]\.text: expected at most 131072 characters/,
    ],
  ];
  for (const [name, body, status, message] of refusals) {
    it(`refuses ${name} with ${status}, and stores nothing`, async () => {
      assertRefused(await post(`${test.url}/documents`, body), status, message);
      assert.deepEqual(await ids(), []);
    });
  }
});

describe('POST /documents with NDJSON', () => {
  const ndjson = { 'Content-Type': 'application/x-ndjson' };
  const lines = (...values: unknown[]): string =>
    values.map((value) => (typeof value === 'string' ? value : JSON.stringify(value)) + '\n').join('');

  it('stores a line each, ours or of a BEIR corpus', async () => {
    const body = lines(
      { id: 'a', text: 'one', metadata: { n: 1 } },
      { _id: 'b', title: 'two', text: 'three', metadata: {} },
      { _id: 'c', title: '', text: 'four' },
    );
    const answer = await post(`${test.url}/documents`, body, ndjson);
    assert.deepEqual(answer.body, { stored: 3, inserted: 3, replaced: 0 });
    assert.deepEqual([...(await test.collection.texts()).values()], ['one', 'two three', 'four']);
  });

  it('takes \\r\\n, blank lines, a byte order mark, and a last line without an end', async () => {
    const body = `\ufeff${JSON.stringify({ id: 'a', text: 'one' })}\r\n\r\n  \n${JSON.stringify({ id: 'b', text: 'two' })}`;
    assert.equal((await post(`${test.url}/documents`, body, ndjson)).body.stored, 2);
  });

  it('takes gzip', async () => {
    const body = gzipSync(lines(...documents('a', 'b')));
    const answer = await post(`${test.url}/documents`, body, { ...ndjson, 'Content-Encoding': 'gzip' });
    assert.equal(answer.body.stored, 2);
    for (const type of ['application/x-ndjson', 'application/json']) {
      const headers = { 'Content-Type': type, 'Content-Encoding': 'gzip' };
      assertRefused(
        await post(`${test.url}/documents`, '{}', headers),
        400,
        /compressed as Content-Encoding says/,
      );
      const cut = await post(`${test.url}/documents`, body.subarray(0, 30), headers);
      assertRefused(cut, 400, /compressed as Content-Encoding says: unexpected end of file/);
      const other = await post(`${test.url}/documents`, body, { ...headers, 'Content-Encoding': 'lzma' });
      assertRefused(other, 415, /expected Content-Encoding gzip.*, came lzma/);
    }
  });

  it('is refused, not failed at, however deep it is nested', async () => {
    const deep = `{"documents":${'['.repeat(100_000)}"\\ud83d\\ude00"${']'.repeat(100_000)}}`;
    assertRefused(await post(`${test.url}/documents`, deep), 422, /documents\[0\]: expected an object/);
  });

  it('says what is wrong with Brotli that is none', async () => {
    const headers = { 'Content-Type': 'application/json', 'Content-Encoding': 'br' };
    const answer = await post(`${test.url}/documents`, '[{"id":"a","text":"b"}]', headers);
    assertRefused(answer, 400, /compressed as Content-Encoding says/);
  });

  it('waits for its turn where too much waits already', async () => {
    const upsert = test.collection.upsert;
    let refusals = 2;
    test.collection.upsert = async (...args) => {
      if (refusals-- > 0) throw new UserError('overloaded', 'the queue is full', { retryAfter: 0.001 });
      return upsert(...args);
    };
    const answer = await post(`${test.url}/documents`, lines(...documents('a', 'b')), ndjson);
    test.collection.upsert = upsert;
    assert.deepEqual([answer.status, answer.body.stored, await ids()], [200, 2, ['a', 'b']]);
  });

  it('takes more documents than a JSON request may hold, in groups', async () => {
    const many = Array.from({ length: 3000 }, (_, i) => ({ id: String(i), text: `text ${i}` }));
    const answer = await post(`${test.url}/documents`, lines(...many), ndjson);
    assert.deepEqual(answer.body, { stored: 3000, inserted: 3000, replaced: 0 });
    assert.ok(test.collection.upserts.length > 5);
  });

  it('lets the later of two lines with the same id win', async () => {
    const many = [...documents(...numbers(300)), { id: '7', text: 'later' }, { id: '7', text: 'last' }];
    const answer = await post(`${test.url}/documents`, lines(...many), ndjson);
    assert.deepEqual(answer.body, { stored: 302, inserted: 300, replaced: 2 });
    assert.equal((await test.collection.texts()).get('7'), 'last');
  });

  const wrong: [name: string, line: string | Buffer, status: number, message: RegExp][] = [
    ['broken JSON', '{"id":"x"', 400, /line 301: the line: expected JSON/],
    [
      'bytes that are not UTF-8',
      Buffer.from('{"id":"x","text":"\xe9"}', 'latin1'),
      400,
      /line 301: the line: expected UTF-8/,
    ],
    ['no text', '{"id":"x"}', 422, /line 301: text: expected a text that is not blank, came nothing/],
    [
      'neither title nor text',
      '{"_id":"x","title":"","text":" "}',
      400,
      /line 301: text: expected a title or a text that is not blank, came neither/,
    ],
    ['a list', '[1]', 422, /line 301: the document: expected an object, came a list of 1/],
    [
      'a long text',
      `{"id":"x","text":"${'x'.repeat(131_073)}"}`,
      413,
      /line 301: text: expected at most 131072 characters, came 131073/,
    ],
  ];
  for (const [name, line, status, message] of wrong) {
    it(`stops at a line with ${name}: those before it are stored, those after it are not`, async () => {
      const body = Buffer.concat([
        Buffer.from(lines(...documents(...Array.from({ length: 300 }, (_, i) => `before ${i}`)))),
        Buffer.from(line as string),
        Buffer.from('\n' + lines(...documents('after'))),
      ]);
      const answer = await post(`${test.url}/documents`, body, ndjson);
      assertRefused(answer, status, message);
      assert.match(answer.body.error, /\(300 documents before it are stored\)/);
      assert.deepEqual([answer.body.line, answer.body.stored, answer.body.inserted], [301, 300, 300]);
      const stored = await ids();
      assert.equal(stored.length, 300);
      assert.ok(!stored.includes('after'));
    });
  }

  it('says as it goes what is durable, when asked for progress', async () => {
    const body = lines(...documents(...numbers(600)));
    const answer = await post(`${test.url}/documents`, body, { ...ndjson, Accept: 'application/x-ndjson' });
    assert.equal(answer.status, 200);
    const progress = answer.text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    assert.deepEqual(
      progress.map(({ stored }) => stored),
      [256, 512, 600, 600],
    );
    assert.deepEqual(progress[3], { stored: 600, inserted: 600, replaced: 0, done: true });
  });

  it('ends the progress with the error, when lines were stored before it', async () => {
    const body = lines(...documents(...numbers(300)), '{');
    const answer = await post(`${test.url}/documents`, body, { ...ndjson, Accept: 'application/x-ndjson' });
    const last = JSON.parse(answer.text.trim().split('\n').at(-1)!);
    assert.deepEqual([last.error_type, last.line, last.stored], ['malformed', 301, 300]);
  });

  it('acknowledges a line only when it is stored, and reads no faster than it stores', async () => {
    let open = (): void => undefined;
    test.collection.gate = new Promise((resolve) => (open = resolve));
    const request = http.request(`${test.url}/documents`, { method: 'POST', headers: ndjson });
    const answered = once(request, 'response');
    request.on('error', () => undefined);
    let sent = 0;
    let full = false;
    while (!full && sent < 400) {
      full = !request.write(lines({ id: String(sent++), text: 'x'.repeat(100_000) }));
      if (full)
        full = !(await Promise.race([once(request, 'drain').then(() => true), pause(300).then(() => false)]));
    }
    assert.ok(full, 'the connection never pushed back');
    assert.deepEqual(await ids(), []);
    open();
    request.end();
    const [response] = (await answered) as [http.IncomingMessage];
    response.resume();
    assert.equal(response.statusCode, 200);
    assert.equal((await ids()).length, sent);
  });

  describe('of which a chunk fails', () => {
    let upsert: typeof test.collection.upsert;
    beforeEach(() => (upsert = test.collection.upsert));
    afterEach(() => (test.collection.upsert = upsert));

    /** Sends 600 documents, of whose chunks the first fails as soon as the second has come to `store`. */
    async function sendFailing(store: typeof upsert): Promise<{ answer: Answer; chunks: number }> {
      const second = gate();
      let chunks = 0;
      test.collection.upsert = async (...args) => {
        if (++chunks === 1) {
          await second.opened;
          throw new Error('the disk is full');
        }
        second.open();
        return store(...args);
      };
      const answer = await post(`${test.url}/documents`, lines(...documents(...numbers(600))), ndjson);
      test.collection.upsert = upsert;
      return { answer, chunks };
    }

    it('writes nothing behind its answer', async () => {
      const { opened, open } = gate();
      let waiting: Promise<unknown> = opened;
      const { answer, chunks } = await sendFailing((sent, signal) => {
        // As inference waits: until it has its turn, or nobody wants it any more.
        const given = new Promise((_, reject) =>
          signal!.addEventListener('abort', () => reject(new Error('given up'))),
        );
        const stored = Promise.race([opened, given]).then(() => upsert(sent, signal));
        waiting = stored.catch(() => undefined);
        return stored;
      });
      assertRefused(answer, 500, /\(0 documents before it are stored\)$/);
      assert.deepEqual([answer.body.error_type, answer.body.stored, chunks], ['backend', 0, 2]);
      assert.equal((await send('PUT', `${test.url}/documents/300`, { text: 'later' })).status, 201);
      open();
      await waiting;
      assert.deepEqual([...(await test.collection.texts())], [['300', 'later']]);
    });

    it('says what was stored behind the one that failed, and answers when it is', async () => {
      const { answer } = await sendFailing(async (sent) => upsert(sent));
      assertRefused(answer, 500, /\(0 documents before it are stored, and 256 behind it\)$/);
      assert.equal(answer.body.stored, 0);
      assert.equal((await ids()).length, 256);
    });

    it('stores those before it', async () => {
      const { opened, open } = gate();
      let chunks = 0;
      test.collection.upsert = async (...args) => {
        if (++chunks === 1) {
          await opened;
          return upsert(...args);
        }
        open();
        throw new UserError('invalid', 'not this one');
      };
      const answer = await post(`${test.url}/documents`, lines(...documents(...numbers(600))), ndjson);
      assertRefused(answer, 422, /^not this one \(256 documents before it are stored\)$/);
      assert.deepEqual([answer.body.stored, chunks, (await ids()).length], [256, 2, 256]);
    });
  });

  it('gives up what is not stored when the client goes away', async () => {
    let open = (): void => undefined;
    test.collection.gate = new Promise((resolve) => (open = resolve));
    const request = http.request(`${test.url}/documents`, { method: 'POST', headers: ndjson });
    request.on('error', () => undefined);
    request.write(lines(...documents(...numbers(257))));
    while (test.collection.upserts.length === 0) await pause(5);
    request.destroy();
    await pause(50);
    open();
    await pause(20);
    assert.deepEqual(await ids(), []);
    assert.equal((await call(`${test.url}/health`)).status, 200);
  });
});

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

describe('/documents/{id}', () => {
  it('adds with 201, replaces with 200, reads, and deletes with 204', async () => {
    const url = `${test.url}/documents/${encodeURIComponent('a/b ü')}`;
    const added = await send('PUT', url, { text: 'one' });
    assert.deepEqual([added.status, added.body], [201, { id: 'a/b ü', text: 'one' }]);
    const replaced = await send('PUT', url, { text: 'two', metadata: { n: 1 } });
    assert.equal(replaced.status, 200);
    assert.deepEqual((await call(url)).body, { id: 'a/b ü', text: 'two', metadata: { n: 1 } });
    assert.equal((await call(url, { method: 'DELETE' })).status, 204);
    assertRefused(await call(url), 404, /no document has the id "a\/b ü"/);
  });

  it('answers 404 to reading or deleting an unknown id', async () => {
    for (const method of ['GET', 'DELETE'])
      assertRefused(
        await call(`${test.url}/documents/none`, { method }),
        404,
        /no document has the id "none"/,
      );
  });

  it('refuses a blank text, an id in the body, an id that is too long or not UTF-8', async () => {
    assertRefused(await send('PUT', `${test.url}/documents/a`, { text: '' }), 400, /text: expected/);
    assertRefused(
      await send('PUT', `${test.url}/documents/a`, { id: 'a', text: 'x' }),
      422,
      /unknown field "id"/,
    );
    assertRefused(
      await call(`${test.url}/documents/${'x'.repeat(513)}`),
      422,
      /id: expected a string of 1 to 512/,
    );
    assertRefused(await call(`${test.url}/documents/%ff`), 400, /the URL: expected percent-encoded UTF-8/);
  });
});

describe('GET /documents', () => {
  it('gives pages in the order of the ids', async () => {
    await post(`${test.url}/documents`, documents('c', 'a', 'b'));
    const first = await call(`${test.url}/documents?limit=2`);
    assert.deepEqual(first.body, { documents: documents('a', 'b'), next: 'b' });
    const last = await call(`${test.url}/documents?limit=2&after=b`);
    assert.deepEqual(last.body, { documents: documents('c'), next: null });
  });

  it('refuses limits out of range and parameters that it does not know', async () => {
    assertRefused(
      await call(`${test.url}/documents?limit=0`),
      422,
      /limit: expected an integer from 1 to 1000, came 0/,
    );
    assertRefused(
      await call(`${test.url}/documents?limit=many`),
      422,
      /limit: expected an integer.*came "many"/,
    );
    assertRefused(
      await call(`${test.url}/documents?offset=5`),
      422,
      /the query: expected only after and limit, .*"offset"/,
    );
  });
});

describe('/search', () => {
  beforeEach(() =>
    post(`${test.url}/documents`, [
      { id: 'usb', text: 'usb stick', metadata: { answered: true } },
      { id: 'wifi', text: 'wifi' },
    ]),
  );

  it('answers POST and GET alike', async () => {
    const posted = await post(`${test.url}/search`, { query: 'usb stick', k: 1 });
    assert.deepEqual(posted.body, {
      model: FAKE_MODEL,
      generation: 1,
      mode: 'dense',
      hits: [{ id: 'usb', text: 'usb stick', metadata: { answered: true }, score: 1 }],
    });
    assert.deepEqual((await call(`${test.url}/search?q=usb+stick&k=1`)).body, posted.body);
  });

  it('filters and excludes, also by URL', async () => {
    const filter = encodeURIComponent('{"answered":true}');
    const filtered = await call(`${test.url}/search?q=wifi&filter=${filter}`);
    assert.deepEqual(
      filtered.body.hits.map(({ id }: { id: string }) => id),
      ['usb'],
    );
    for (const exclude of ['exclude=usb', 'exclude=usb&exclude=wifi'])
      assert.ok(!(await call(`${test.url}/search?q=usb&${exclude}`)).text.includes('"usb"'));
  });

  it('passes on what words weigh', async () => {
    const weights: unknown[] = [];
    const search = test.collection.search.bind(test.collection);
    test.collection.search = (request) => (weights.push(request.lexicalWeight), search(request));
    await post(`${test.url}/search`, { query: 'a', mode: 'hybrid', lexical_weight: 0.4 });
    await call(`${test.url}/search?q=a&mode=hybrid&lexical_weight=0.7`);
    await call(`${test.url}/search?q=a&mode=hybrid`);
    assert.deepEqual(weights, [0.4, 0.7, undefined]);
  });

  it('gives all there are when k is more', async () => {
    assert.equal((await post(`${test.url}/search`, { query: 'x', k: 1000 })).body.hits.length, 2);
  });

  const refusals: [name: string, body: unknown, status: number, message: RegExp][] = [
    ['k = 0', { query: 'a', k: 0 }, 422, /k: expected an integer from 1 to 1000, came 0/],
    ['k = 1001', { query: 'a', k: 1001 }, 422, /k: expected an integer from 1 to 1000, came 1001/],
    ['k = 1.5', { query: 'a', k: 1.5 }, 422, /k: expected an integer/],
    ['k = "10"', { query: 'a', k: '10' }, 422, /k: expected an integer from 1 to 1000, came "10"/],
    ['no query', { k: 1 }, 422, /query: expected a text/],
    ['an empty query', { query: '' }, 400, /query: expected a text/],
    ['a query of 512 KB', { query: 'x'.repeat(2 ** 19) }, 413, /query: expected at most 131072 characters/],
    [
      'an unknown mode',
      { query: 'a', mode: 'fuzzy' },
      422,
      /mode: expected one of dense, lexical or hybrid, came "fuzzy"/,
    ],
    [
      'too much weight',
      { query: 'a', lexical_weight: 1.5 },
      422,
      /lexical_weight: expected a number from 0 to 1, came 1.5/,
    ],
    ['an unknown model', { query: 'a', model: 'x' }, 404, /model: expected "fake-encoder"/],
    [
      'an unknown comparison',
      { query: 'a', filter: { n: { above: 1 } } },
      422,
      /filter\.n: expected only eq, .*"above"/,
    ],
    [
      'a condition of no values',
      { query: 'a', filter: { a: { in: [] } } },
      400,
      /^filter\.a\.in: expected a list of 1 to 1000 items, came an empty list$/,
    ],
    [
      'a comparison with nothing',
      { query: 'a', filter: { a: { gt: null } } },
      422,
      /^filter\.a\.gt: expected a string, a number or true or false, came null$/,
    ],
    [
      'no condition',
      { query: 'a', filter: { a: {} } },
      422,
      /^filter\.a: expected conditions \(eq, ne, gt, gte, lt, lte; or in\), came an empty object$/,
    ],
    [
      'a list as a condition',
      { query: 'a', filter: { a: ['b'] } },
      422,
      /^filter\.a: expected a string, a number, true or false, null or conditions \(.*\), came a list of 1$/,
    ],
    ['a filter that is none', { query: 'a', filter: 'x' }, 422, /filter: expected an object, came "x"/],
  ];
  for (const [name, body, status, message] of refusals) {
    it(`refuses ${name} with ${status}`, async () =>
      assertRefused(await post(`${test.url}/search`, body), status, message));
  }

  const urls: [query: string, status: number, message: RegExp][] = [
    ['', 422, /q: expected a text that is not blank, came nothing/],
    ['?q=', 400, /q: expected a text that is not blank, came ""/],
    ['?q=a&k=0', 422, /k: expected an integer from 1 to 1000, came 0/],
    ['?q=a&k=NaN', 422, /k: expected an integer from 1 to 1000, came "NaN"/],
    ['?q=a&k=1e999', 422, /k: expected an integer from 1 to 1000/],
    ['?q=a&k=1&k=2', 422, /k: expected an integer/],
    ['?q=%ff', 400, /the URL: expected percent-encoded UTF-8/],
    ['?q=100%', 400, /write % as %25/],
    ['?q=a&filter={', 400, /filter: expected JSON/],
    ['?q=a&filter={"n":{"above":1}}', 422, /^filter\.n: expected only eq, .*"above"/],
    ['?q=a&filter={"0":{"in":[]}}', 400, /^filter\[0\]\.in: expected a list/],
    ['?q=a&filter=[]', 422, /^filter: expected an object, came an empty list/],
    ['?query=a', 422, /expected/],
  ];
  for (const [query, status, message] of urls) {
    it(`answers ${status} to GET /search${query}`, async () =>
      assertRefused(await call(`${test.url}/search${query}`), status, message));
  }
});

describe('/duplicates', () => {
  beforeEach(() =>
    post(`${test.url}/documents`, [
      { id: 'a', text: 'same' },
      { id: 'b', text: 'same' },
      { id: 'c', text: 'other' },
    ]),
  );

  it('finds the likely duplicates of a new text', async () => {
    const { body } = await post(`${test.url}/duplicates`, { text: 'same', threshold: 0.99 });
    assert.equal(body.threshold, 0.99);
    assert.deepEqual(
      body.hits.map(({ id }: { id: string }) => id),
      ['a', 'b'],
    );
  });

  it('finds the pairs that are there', async () => {
    const { body } = await call(`${test.url}/duplicates?threshold=0.99`);
    assert.deepEqual(body.pairs, [{ a: { id: 'a', text: 'same' }, b: { id: 'b', text: 'same' }, score: 1 }]);
  });

  it('refuses thresholds that no cosine reaches, and NaN', async () => {
    assertRefused(
      await post(`${test.url}/duplicates`, { text: 'a', threshold: 2 }),
      422,
      /threshold: expected a number from -1 to 1, came 2/,
    );
    assertRefused(
      await post(`${test.url}/duplicates`, { text: 'a', threshold: 'NaN' }),
      422,
      /threshold: .*came "NaN"/,
    );
    assertRefused(await call(`${test.url}/duplicates?threshold=NaN`), 422, /threshold: .*came "NaN"/);
  });
});
