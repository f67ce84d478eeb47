import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { OpenAIEmbeddings } from '@langchain/openai';

import { FAKE_MODEL } from '../server/http-support.js';
import { asFloat32, KEY, MAX_TEXTS, serverWithKey } from './support.js';

describe("LangChain's OpenAIEmbeddings", () => {
  const server = serverWithKey();
  const open = (options: Partial<ConstructorParameters<typeof OpenAIEmbeddings>[0]> = {}): OpenAIEmbeddings =>
    new OpenAIEmbeddings({
      apiKey: KEY,
      model: FAKE_MODEL,
      maxRetries: 0,
      configuration: { baseURL: `${server.url}/v1` },
      ...options,
    });

  it('embeds a query, and documents in batches, as /embed does', async () => {
    const documents = Array.from({ length: 2 * MAX_TEXTS + 1 }, (_, i) => `document ${i}`);
    const vectors = await open({ batchSize: MAX_TEXTS }).embedDocuments(documents);
    const expected: number[][] = [];
    for (let i = 0; i < documents.length; i += MAX_TEXTS)
      expected.push(...(await server.embed(documents.slice(i, i + MAX_TEXTS))));
    assert.deepEqual(asFloat32(vectors), expected);
    assert.deepEqual(asFloat32([await open().embedQuery('wifi')]), await server.embed('wifi'));
  });

  it('may say the encoding and the dimensions', async () => {
    const vector = await open({ encodingFormat: 'float', dimensions: 3 }).embedQuery('wifi');
    assert.deepEqual(asFloat32([vector]), await server.embed('wifi', { dimensions: 3 }));
  });

  it('tells an unknown key and an unknown model', async () => {
    await assert.rejects(open({ apiKey: 'another' }).embedQuery('a'), { status: 401, code: 'unauthorized' });
    await assert.rejects(open({ model: 'gpt-4' }).embedQuery('a'), { status: 404, param: 'model' });
  });
});
