import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';

import { UserError } from '../../base/errors.js';
import { rowToJson } from '../../server/http/vectors.js';
import { Random } from '../../base/random.js';
import { FAKE_MAX_TOKENS, FAKE_MODEL, post, startTestServer, type TestServer } from './http-support.js';

let test: TestServer;
before(async () => {
  test = await startTestServer();
});
after(() => test.server.close());
beforeEach(() => {
  test.inference.failure = undefined;
  test.inference.calls = [];
});

const length = (row: number[]): number => Math.hypot(...row);
const tooLong = Array.from({ length: FAKE_MAX_TOKENS }, () => 'word').join(' ');

describe('POST /embed', () => {
  it('gives one vector of length 1 for each text, in order', async () => {
    const one = await post(`${test.url}/embed`, { inputs: 'a' });
    const many = await post(`${test.url}/embed`, { inputs: ['b', 'a', 'a'] });
    assert.equal(one.status, 200);
    assert.equal(one.body.length, 1);
    assert.equal(one.body[0].length, 8);
    assert.ok(Math.abs(length(one.body[0]) - 1) < 1e-6);
    assert.deepEqual(many.body.slice(1), [one.body[0], one.body[0]]);
    assert.notDeepEqual(many.body[0], one.body[0]);
  });

  it('gives exactly the float32 numbers of the encoder', async () => {
    const { body } = await post(`${test.url}/embed`, { inputs: 'a' });
    assert.deepEqual(Float32Array.from(body[0]), await test.inference.encode(['a']));
  });

  it('gives bytes to those who accept nothing else, and JSON to those who take anything', async () => {
    const ask = (accept: string): Promise<Response> =>
      fetch(`${test.url}/embed`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', accept },
        body: JSON.stringify({ inputs: ['a', 'b'], dimensions: 4 }),
      });
    const bytes = await ask('application/octet-stream');
    assert.equal(bytes.headers.get('content-type'), 'application/octet-stream');
    const numbers = new Float32Array(await bytes.arrayBuffer());
    for (const accept of ['*/*', 'application/json, application/octet-stream;q=0.5', 'text/html']) {
      const rows = (await (await ask(accept)).json()) as number[][];
      assert.deepEqual(Float32Array.from(rows.flat()), numbers);
    }
  });

  it('leaves the length as it is with normalize: false', async () => {
    const { body } = await post(`${test.url}/embed`, { inputs: 'a', normalize: false });
    assert.ok(Math.abs(length(body[0]) - 2) < 1e-6);
  });

  it('cuts vectors to their first `dimensions` numbers, of length 1 again', async () => {
    const whole = (await post(`${test.url}/embed`, { inputs: 'a' })).body[0] as number[];
    const cut = (await post(`${test.url}/embed`, { inputs: 'a', dimensions: 3 })).body[0] as number[];
    const first = whole.slice(0, 3);
    assert.deepEqual(
      cut.map((x) => x.toFixed(5)),
      first.map((x) => (x / length(first)).toFixed(5)),
    );
    const raw = (await post(`${test.url}/embed`, { inputs: 'a', dimensions: 3, normalize: false })).body[0];
    assert.deepEqual(
      raw.map((x: number) => x.toFixed(5)),
      first.map((x) => (x * 2).toFixed(5)),
    );
  });

  it('cuts long texts off, or refuses them with truncate: false', async () => {
    assert.equal((await post(`${test.url}/embed`, { inputs: tooLong })).status, 200);
    assert.equal((await post(`${test.url}/embed`, { inputs: 'short', truncate: false })).status, 200);
    const refused = await post(`${test.url}/embed`, { inputs: ['short', tooLong], truncate: false });
    assert.equal(refused.status, 413);
    assert.match(refused.body.error, /inputs\[1\]: expected at most 16 tokens, came 18; .*"truncate": true/);
  });

  it('lets short requests go before long ones', async () => {
    await post(`${test.url}/embed`, { inputs: Array.from({ length: 100 }, String) });
    await post(`${test.url}/embed`, { inputs: 'a' });
    assert.deepEqual(
      test.inference.calls.map(({ priority }) => priority),
      ['bulk', 'interactive'],
    );
  });

  const refusals: [name: string, body: unknown, status: number, message: RegExp, type: string][] = [
    ['an empty string', { inputs: '' }, 400, /inputs: expected a text that is not blank, came ""/, 'empty'],
    ['a blank string', { inputs: ' \n' }, 400, /inputs: expected a text that is not blank/, 'empty'],
    ['an empty list', { inputs: [] }, 400, /inputs: expected .*at least 1.*, came an empty list/, 'empty'],
    ['an empty string in a list', { inputs: ['a', ''] }, 400, /inputs\[1\]: expected a text/, 'empty'],
    ['a list of numbers', { inputs: [1, 2] }, 422, /inputs\[0\]: expected a text.*, came 1$/, 'invalid'],
    ['null in a list', { inputs: ['a', null] }, 422, /inputs\[1\]: expected a text.*, came null$/, 'invalid'],
    ['a number', { inputs: 5 }, 422, /inputs: expected a text.* or a list.*, came 5$/, 'invalid'],
    [
      'an object',
      { inputs: { a: 1 } },
      422,
      /inputs: expected a text.*, came an object of 1 field$/,
      'invalid',
    ],
    ['no inputs', {}, 422, /inputs: expected a text.*, came nothing$/, 'invalid'],
    ['a list as the body', ['a'], 422, /the body: expected an object, came a list of 1$/, 'invalid'],
    [
      'an unknown field',
      { inputs: 'a', normalise: true },
      422,
      /expected only inputs, .*normalize.*"normalise"/,
      'invalid',
    ],
    [
      'dimensions: 0',
      { inputs: 'a', dimensions: 0 },
      422,
      /dimensions: expected an integer of at least 1, came 0/,
      'invalid',
    ],
    [
      'more dimensions than there are',
      { inputs: 'a', dimensions: 9 },
      422,
      /dimensions: expected at most 8.*came 9/,
      'invalid',
    ],
    [
      'a number that is none',
      '{"inputs":"a","dimensions":1e999}',
      422,
      /dimensions: expected an integer.*Infinity/,
      'invalid',
    ],
    ['NaN', '{"inputs":"a","dimensions":NaN}', 400, /the body: expected JSON/, 'malformed'],
    ['"NaN"', { inputs: 'a', dimensions: 'NaN' }, 422, /dimensions: expected an integer.*"NaN"/, 'invalid'],
    [
      'a boolean as text',
      { inputs: 'a', truncate: 'yes' },
      422,
      /truncate: expected true or false, came "yes"/,
      'invalid',
    ],
    [
      '10,000 texts',
      { inputs: Array(10_000).fill('a') },
      413,
      /inputs: expected at most 1024 .* came 10000; send several/,
      'too-large',
    ],
    [
      'a text of 1 MB',
      { inputs: 'a'.repeat(2 ** 20) },
      413,
      /inputs: expected at most 131072 characters, came 1048576/,
      'too-large',
    ],
    [
      'a body over the limit',
      { inputs: Array(17).fill('a'.repeat(2 ** 20)) },
      413,
      /the body: expected at most 16777216 bytes/,
      'too-large',
    ],
    ['broken JSON', '{"inputs": "a', 400, /the body: expected JSON/, 'malformed'],
    ['an empty body', '', 400, /the body: expected JSON, came nothing/, 'malformed'],
    [
      'bytes that are not UTF-8',
      Buffer.from('{"inputs":"caf\xe9"}', 'latin1'),
      400,
      /the body: expected UTF-8/,
      'malformed',
    ],
    ['half of a surrogate pair', '{"inputs":"a \\ud800 b"}', 400, /surrogate/, 'malformed'],
  ];
  for (const [name, body, status, message, type] of refusals) {
    it(`refuses ${name} with ${status}`, async () => {
      const answer = await post(`${test.url}/embed`, body);
      assert.equal(answer.status, status, answer.text);
      assert.match(answer.body.error, message);
      assert.equal(answer.body.error_type, type);
      assert.doesNotMatch(answer.text, /\bat .*\.js/);
      assert.equal(test.inference.calls.length, 0);
    });
  }

  it('takes an escaped surrogate pair, NUL and other control characters', async () => {
    await post(`${test.url}/embed`, '{"inputs":"a \\ud83d\\ude00 \\u0000\\u0007"}');
    assert.deepEqual(test.inference.calls[0].texts, ['a \u{1F600} \0\x07']);
  });

  const mediaTypes: [type: string | undefined, status: number][] = [
    ['application/json', 200],
    ['Application/JSON; charset=UTF-8', 200],
    ['application/json; charset=iso-8859-1', 415],
    ['text/plain', 415],
    ['application/x-www-form-urlencoded', 415],
    ['application/x-ndjson', 415],
  ];
  for (const [type, status] of mediaTypes) {
    it(`answers ${status} to Content-Type ${type}`, async () => {
      const answer = await post(`${test.url}/embed`, '{"inputs":"a"}', { 'Content-Type': type! });
      assert.equal(answer.status, status);
      if (status === 415)
        assert.match(answer.body.error, /expected (Content-Type application\/json|charset utf-8), came /);
    });
  }

  it('answers 429 with Retry-After when too much waits', async () => {
    test.inference.failure = new UserError('overloaded', 'the queue is full');
    const answer = await post(`${test.url}/embed`, { inputs: 'a' });
    assert.equal(answer.status, 429);
    assert.equal(answer.headers.get('retry-after'), '1');
    assert.deepEqual(answer.body, { error: 'the queue is full', error_type: 'overloaded' });
    test.inference.failure = new UserError('overloaded', 'the queue is full', { retryAfter: 7 });
    assert.equal((await post(`${test.url}/embed`, { inputs: 'a' })).headers.get('retry-after'), '7');
  });

  it('keeps what was not foreseen to itself, and gives the id under which the log has it', async () => {
    test.inference.failure = new Error('secret detail');
    const answer = await post(`${test.url}/embed`, { inputs: 'a' });
    assert.equal(answer.status, 500);
    assert.doesNotMatch(answer.text, /secret/);
    assert.ok(answer.body.error.includes(answer.headers.get('x-request-id')));
  });
});

describe('POST /v1/embeddings', () => {
  it("answers in OpenAI's form, with the tokens that were read", async () => {
    const { status, body } = await post(`${test.url}/v1/embeddings`, {
      model: FAKE_MODEL,
      input: ['one two', tooLong],
    });
    assert.equal(status, 200);
    assert.equal(body.object, 'list');
    assert.equal(body.model, FAKE_MODEL);
    assert.deepEqual(
      body.data.map(({ object, index }: { object: string; index: number }) => [object, index]),
      [
        ['embedding', 0],
        ['embedding', 1],
      ],
    );
    assert.deepEqual(body.usage, { prompt_tokens: 4 + FAKE_MAX_TOKENS, total_tokens: 4 + FAKE_MAX_TOKENS });
    assert.deepEqual(
      body.data[0].embedding,
      (await post(`${test.url}/embed`, { inputs: 'one two' })).body[0],
    );
  });

  it('does not go over its texts again to count what was read', async () => {
    const { countTokens } = test.inference;
    test.inference.countTokens = () => assert.fail('the encoder knows');
    try {
      const { status, body } = await post(`${test.url}/v1/embeddings`, { input: 'one two' });
      assert.deepEqual([status, body.usage?.prompt_tokens], [200, 4]);
    } finally {
      test.inference.countTokens = countTokens;
    }
  });

  it('gives the same numbers as base64 of little-endian float32', async () => {
    const input = { model: FAKE_MODEL, input: 'a' };
    const numbers = (await post(`${test.url}/v1/embeddings`, input)).body.data[0].embedding;
    const text = (await post(`${test.url}/v1/embeddings`, { ...input, encoding_format: 'base64' })).body
      .data[0].embedding;
    const bytes = Buffer.from(text, 'base64');
    assert.deepEqual(
      Array.from({ length: 8 }, (_, j) => bytes.readFloatLE(4 * j)),
      numbers.map(Math.fround),
    );
  });

  it('knows the model with and without the name of its publisher, and with none', async () => {
    for (const model of [FAKE_MODEL, `someone/${FAKE_MODEL}`, undefined])
      assert.equal((await post(`${test.url}/v1/embeddings`, { model, input: 'a' })).status, 200);
  });

  const refusals: [name: string, body: unknown, status: number, message: RegExp, rest: object][] = [
    [
      'an unknown model',
      { model: 'gpt-4', input: 'a' },
      404,
      /model: expected "fake-encoder".*came "gpt-4"/,
      { type: 'invalid_request_error', param: 'model', code: 'not-found' },
    ],
    [
      'token ids',
      { input: [101, 102] },
      422,
      /input\[0\]: .*token ids are not taken.*, came 101/,
      { type: 'invalid_request_error', param: 'input[0]', code: 'invalid' },
    ],
    [
      'lists of token ids',
      { input: [[101, 102]] },
      422,
      /input\[0\]: .*token ids are not taken.*, came a list of 2/,
      { type: 'invalid_request_error', param: 'input[0]', code: 'invalid' },
    ],
    [
      'an empty list',
      { input: [] },
      400,
      /input: expected .*, came an empty list/,
      { type: 'invalid_request_error', param: 'input', code: 'empty' },
    ],
    [
      'broken JSON',
      '{',
      400,
      /expected JSON/,
      { type: 'invalid_request_error', param: null, code: 'malformed' },
    ],
    [
      'an unknown encoding',
      { input: 'a', encoding_format: 'int8' },
      422,
      /encoding_format: expected one of float or base64, came "int8"/,
      { type: 'invalid_request_error', param: 'encoding_format', code: 'invalid' },
    ],
  ];
  for (const [name, body, status, message, rest] of refusals) {
    it(`refuses ${name} with ${status}, nested as OpenAI's clients expect it`, async () => {
      const answer = await post(`${test.url}/v1/embeddings`, body);
      assert.equal(answer.status, status);
      assert.match(answer.body.error.message, message);
      assert.deepEqual({ ...answer.body.error, message: undefined }, { ...rest, message: undefined });
    });
  }

  it('calls an overload a rate limit and a failure a server error', async () => {
    test.inference.failure = new UserError('overloaded', 'full');
    assert.equal(
      (await post(`${test.url}/v1/embeddings`, { input: 'a' })).body.error.type,
      'rate_limit_error',
    );
    test.inference.failure = new UserError('backend', 'broken');
    assert.equal((await post(`${test.url}/v1/embeddings`, { input: 'a' })).body.error.type, 'server_error');
  });

  it('has the form of its route, however the path is written', async () => {
    assert.equal((await post(`${test.url}/v1/rerank/`, {})).body.error_type, 'invalid');
    assert.equal((await post(`${test.url}/V1/Embeddings/`, {})).body.error.code, 'invalid');
  });

  it('answers 404 in the same form to what is not there', async () => {
    const answer = await post(`${test.url}/v1/completions`, {});
    assert.equal(answer.status, 404);
    assert.match(answer.body.error.message, /no such route: POST \/v1\/completions/);
  });
});

describe('POST /similarity', () => {
  it('gives the cosine with each sentence', async () => {
    const { body } = await post(`${test.url}/similarity`, {
      inputs: { source_sentence: 'a', sentences: ['a', 'b'] },
    });
    assert.equal(body.length, 2);
    assert.ok(Math.abs(body[0] - 1) < 1e-6);
    const [a, b] = (await post(`${test.url}/embed`, { inputs: ['a', 'b'] })).body as number[][];
    assert.ok(Math.abs(body[1] - a.reduce((sum, x, j) => sum + x * b[j], 0)) < 1e-6);
  });

  it('is 1 at most, whatever was rounded', async () => {
    for (let i = 0; ; i++) {
      const source_sentence = `text ${i}`;
      const vector = await test.inference.encode([source_sentence]);
      if (vector.reduce((sum, x) => sum + x * x, 0) <= 1) continue;
      const inputs = { source_sentence, sentences: [source_sentence] };
      assert.deepEqual((await post(`${test.url}/similarity`, { inputs })).body, [1]);
      break;
    }
  });

  it('cuts long texts off, or refuses them with truncate: false', async () => {
    const inputs = { source_sentence: 'short', sentences: ['a', tooLong] };
    const cut = await post(`${test.url}/similarity`, { inputs, parameters: { truncate: true } });
    assert.equal(cut.status, 200);
    const refused = await post(`${test.url}/similarity`, { inputs, parameters: { truncate: false } });
    assert.equal(refused.status, 413);
    assert.match(refused.body.error, /^inputs\.sentences\[1\]: expected at most 16 tokens, came 18/);
  });

  it('refuses what lacks a part', async () => {
    const answer = await post(`${test.url}/similarity`, { inputs: { source_sentence: 'a' } });
    assert.equal(answer.status, 422);
    assert.match(answer.body.error, /inputs\.sentences: expected a list of at least 1 item, came nothing/);
  });
});

describe('POST /rerank', () => {
  const texts = ['b', 'a', 'c', 'a'];

  it('orders the texts by their cosine to the query, equal ones as they came', async () => {
    const { status, body } = await post(`${test.url}/rerank`, { query: 'a', texts });
    assert.equal(status, 200);
    const similar = await post(`${test.url}/similarity`, {
      inputs: { source_sentence: 'a', sentences: texts },
    });
    const found = body as { index: number; score: number }[];
    assert.deepEqual(found.map(({ index }) => index).slice(0, 2), [1, 3]);
    for (const [i, { index, score }] of found.entries()) {
      assert.equal(score, similar.body[index]);
      assert.ok(i === 0 || score <= found[i - 1].score);
    }
    assert.deepEqual(Object.keys(found[0]), ['index', 'score']);
  });

  it('gives the texts back when asked', async () => {
    const { body } = await post(`${test.url}/rerank`, { query: 'a', texts, return_text: true });
    for (const { index, text } of body as { index: number; text: string }[]) assert.equal(text, texts[index]);
  });

  it('refuses long texts with truncate: false, and what lacks a part', async () => {
    const long = await post(`${test.url}/rerank`, { query: 'a', texts: ['b', tooLong], truncate: false });
    assert.equal(long.status, 413);
    assert.match(long.body.error, /^texts\[1\]: expected at most 16 tokens/);
    assert.equal((await post(`${test.url}/rerank`, { query: 'a', texts: [] })).status, 400);
    assert.equal((await post(`${test.url}/rerank`, { query: 'a' })).status, 422);
    assert.equal((await post(`${test.url}/rerank`, { query: ' ', texts })).status, 400);
  });

  for (const version of ['v1', 'v2'])
    it(`speaks Cohere's form at /${version}/rerank`, async () => {
      const route = `${test.url}/${version}/rerank`;
      const documents = ['b', { text: 'a', id: 7 }, 'c'];
      const { status, body } = await post(route, { model: FAKE_MODEL, query: 'a', documents, top_n: 2 });
      assert.equal(status, 200);
      assert.equal(body.results.length, 2);
      assert.equal(body.results[0].index, 1);
      assert.ok(Math.abs(body.results[0].relevance_score - 1) < 1e-6);
      assert.equal(body.results[0].document, undefined);
      const whole = await post(route, { query: 'a', documents, return_documents: true });
      assert.deepEqual(whole.body.results[0].document, { text: 'a' });
      assert.equal(whole.body.results.length, 3);
      assert.equal((await post(route, { model: 'other', query: 'a', documents })).status, 404);
      const refused = await post(route, { query: 'a', documents: [{}] });
      assert.deepEqual([refused.status, refused.body.error_type], [422, 'invalid']);
      assert.equal((await post(route, { query: 'a', documents, top_n: 0 })).status, 422);
    });
});

describe('POST /tokenize', () => {
  it('gives the tokens of each text, without those around it if asked', async () => {
    const all = await post(`${test.url}/tokenize`, { inputs: 'one two' });
    assert.deepEqual(
      all.body[0].map(({ text }: { text: string }) => text),
      ['[CLS]', 'one', 'two', '[SEP]'],
    );
    const own = await post(`${test.url}/tokenize`, {
      inputs: ['one [UNK]', 'three'],
      add_special_tokens: false,
    });
    assert.deepEqual(
      own.body.map((tokens: { text: string }[]) => tokens.map(({ text }) => text)),
      [['one', '[UNK]'], ['three']],
    );
  });

  it('gives 65,536 tokens in one answer, and refuses texts with more', async () => {
    // With [CLS] and [SEP] each half of it.
    const half = 'w '.repeat(32_766);
    const whole = await post(`${test.url}/tokenize`, { inputs: [half, half] });
    assert.equal(whole.body.flat().length, 65_536);
    const refused = await post(`${test.url}/tokenize`, { inputs: [half, half, 'a'] });
    assert.equal(refused.status, 413);
    assert.deepEqual(refused.body, {
      error:
        'inputs: expected at most 65536 tokens in one request, came 65539; send several requests, or parts of a text',
      error_type: 'too-large',
      param: 'inputs',
    });
  });
});

describe('numbers of a vector', () => {
  it('read back as the same float32, in few digits', () => {
    const random = new Random(1);
    const row = Float32Array.from({ length: 20_000 }, () => random.normal() * 0.1 ** (1 + random.below(4)));
    const text = rowToJson(row);
    assert.deepEqual(Float32Array.from(JSON.parse(text)), row);
    assert.ok(text.length < 15 * row.length);
  });

  it('keep zero, and what is very small or large', () => {
    const row = Float32Array.of(
      0,
      1,
      -1,
      0.1,
      -0.25,
      0.999999940395,
      1e-5,
      9.9e-6,
      1e-20,
      -3.4e38,
      1.4e-45,
      123.456,
    );
    assert.deepEqual(Float32Array.from(JSON.parse(rowToJson(row))), row);
    assert.equal(rowToJson(row.slice(0, 5)), '[0,1,-1,0.1,-0.25]');
  });
});
