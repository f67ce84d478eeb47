import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import OpenAI from 'openai';

import { FAKE_MODEL } from '../server/http-support.js';
import { asFloat32, KEY, MAX_TEXTS, serverWithKey } from './support.js';

describe("OpenAI's client", () => {
  const server = serverWithKey();
  const open = (apiKey = KEY): OpenAI =>
    new OpenAI({ baseURL: `${server.url}/v1`, apiKey, maxRetries: 0, logLevel: 'off' });
  const texts = ['wifi is slow', 'no sound'];

  for (const encoding_format of [undefined, 'base64', 'float'] as const)
    it(`gets the vectors of /embed (encoding ${encoding_format ?? 'as it likes'})`, async () => {
      const { data, model, usage } = await open().embeddings.create({
        model: FAKE_MODEL,
        input: texts,
        ...(encoding_format && { encoding_format }),
      });
      assert.equal(model, FAKE_MODEL);
      assert.deepEqual(usage, { prompt_tokens: 9, total_tokens: 9 });
      assert.deepEqual(
        data.map(({ index }) => index),
        [0, 1],
      );
      const vectors =
        encoding_format === 'base64'
          ? data.map(({ embedding }) => vectorOf(embedding as unknown as string))
          : data.map(({ embedding }) => embedding);
      assert.deepEqual(asFloat32(vectors), await server.embed(texts));
    });

  it('asks for base64 unless told otherwise', async () => {
    let asked = '';
    const client = open().withOptions({
      fetch(url, init) {
        asked = init!.body as string;
        return fetch(url, init);
      },
    });
    await client.embeddings.create({ model: FAKE_MODEL, input: 'a' });
    assert.equal((JSON.parse(asked) as { encoding_format: string }).encoding_format, 'base64');
  });

  it('gets one text, and fewer dimensions', async () => {
    const { data } = await open().embeddings.create({ model: FAKE_MODEL, input: texts[0], dimensions: 3 });
    assert.deepEqual(asFloat32([data[0].embedding]), await server.embed(texts[0], { dimensions: 3 }));
  });

  const mistakes: [
    name: string,
    ask: () => Promise<unknown>,
    type: new (...args: never[]) => Error,
    expected: { status: number; code: string; param: string | null; message: RegExp },
  ][] = [
    [
      'an unknown key',
      () => open('another').embeddings.create({ model: FAKE_MODEL, input: 'a' }),
      OpenAI.AuthenticationError,
      { status: 401, code: 'unauthorized', param: null, message: /one of the server's API keys/ },
    ],
    [
      'an empty text',
      () => open().embeddings.create({ model: FAKE_MODEL, input: ['a', ''] }),
      OpenAI.BadRequestError,
      { status: 400, code: 'empty', param: 'input[1]', message: /expected a text that is not blank/ },
    ],
    [
      'an unknown model',
      () => open().embeddings.create({ model: 'text-embedding-3-small', input: 'a' }),
      OpenAI.NotFoundError,
      { status: 404, code: 'not-found', param: 'model', message: /expected "fake-encoder"/ },
    ],
    [
      'a route that is not there',
      () => open().completions.create({ model: FAKE_MODEL, prompt: 'a' }),
      OpenAI.NotFoundError,
      { status: 404, code: 'not-found', param: null, message: /no such route: POST \/v1\/completions/ },
    ],
    [
      'too many texts',
      () => open().embeddings.create({ model: FAKE_MODEL, input: Array<string>(MAX_TEXTS + 1).fill('a') }),
      OpenAI.APIError,
      { status: 413, code: 'too-large', param: 'input', message: /expected at most 8 in one request/ },
    ],
    [
      'token ids',
      () => open().embeddings.create({ model: FAKE_MODEL, input: [101, 102] }),
      OpenAI.UnprocessableEntityError,
      { status: 422, code: 'invalid', param: 'input[0]', message: /token ids are not taken/ },
    ],
  ];
  for (const [name, ask, type, expected] of mistakes)
    it(`tells ${name} by its own class of error`, async () => {
      await assert.rejects(ask, (error) => {
        assert.ok(error instanceof type, String(error));
        assert.ok(error instanceof OpenAI.APIError);
        const { status, code, param, message } = error;
        assert.deepEqual([status, code, param], [expected.status, expected.code, expected.param]);
        assert.match(message, expected.message);
        return true;
      });
    });
});

/** OpenAI's base64 form: little-endian float32. */
function vectorOf(base64: string): number[] {
  const bytes = Buffer.from(base64, 'base64');
  return Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i));
}
