import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { InferenceClient, InferenceClientProviderApiError } from '@huggingface/inference';

import { FAKE_MODEL } from '../server/http-support.js';
import { asFloat32, KEY, serverWithKey } from './support.js';

describe("Hugging Face's client", () => {
  const server = serverWithKey();
  const texts = ['wifi is slow', 'no sound'];
  const open = (route: string, key = KEY): ReturnType<InferenceClient['endpoint']> =>
    new InferenceClient(key).endpoint(`${server.url}${route}`);

  it('gets the vectors of /embed, of one text or several', async () => {
    const vectors = (await open('/embed').featureExtraction({ inputs: texts })) as number[][];
    assert.deepEqual(asFloat32(vectors), await server.embed(texts));
    const [vector] = (await open('/embed').featureExtraction({ inputs: texts[0] })) as number[][];
    assert.deepEqual(asFloat32([vector]), await server.embed(texts[0]));
  });

  it('may say how: normalize, truncate, truncation_direction', async () => {
    const how = { normalize: false, truncate: true, truncation_direction: 'right' } as const;
    const vectors = (await open('/embed').featureExtraction({ inputs: texts, ...how })) as number[][];
    assert.deepEqual(asFloat32(vectors), await server.embed(texts, { normalize: false }));
  });

  it("gets them as LangChain's HuggingFaceInferenceEmbeddings asks, with a model and a provider", async () => {
    const asked = { model: FAKE_MODEL, inputs: texts, provider: undefined };
    const vectors = (await open('/embed').featureExtraction(asked)) as number[][];
    assert.deepEqual(asFloat32(vectors), await server.embed(texts));
  });

  it('compares sentences at /similarity', async () => {
    const cosines = await open('/similarity').sentenceSimilarity({
      inputs: { source_sentence: texts[0], sentences: texts },
    });
    const [a, b] = await server.embed(texts);
    assert.deepEqual(
      cosines.map((cosine) => cosine.toFixed(6)),
      [a, b].map((other) => a.reduce((sum, x, j) => sum + x * other[j], 0).toFixed(6)),
    );
  });

  for (const [name, ask, status, message] of [
    ['an unknown key', () => open('/embed', 'another').featureExtraction({ inputs: 'a' }), 401, /API keys/],
    ['an empty text', () => open('/embed').featureExtraction({ inputs: ['a', ''] }), 400, /inputs\[1\]/],
    [
      'a route that is not there',
      () => open('/none').featureExtraction({ inputs: 'a' }),
      404,
      /no such route/,
    ],
  ] as const)
    it(`tells ${name}, in our words`, async () => {
      await assert.rejects(ask, (error) => {
        assert.ok(error instanceof InferenceClientProviderApiError, String(error));
        assert.equal(error.httpResponse.status, status);
        assert.match((error.httpResponse.body as { error: string }).error, message);
        return true;
      });
    });
});
