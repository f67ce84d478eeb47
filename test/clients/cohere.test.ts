import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { Cohere, CohereClient, CohereClientV2 } from 'cohere-ai';

import { FAKE_MODEL } from '../server/http-support.js';
import { KEY, serverWithKey } from './support.js';

describe("Cohere's client", () => {
  const server = serverWithKey();
  const texts = ['no sound', 'wifi is slow', 'slow wireless'];
  const query = 'wifi is slow';
  const options = (token: string): { token: string; environment: string; maxRetries: number } => ({
    token,
    environment: server.url,
    maxRetries: 0,
  });
  const v1 = (token = KEY): CohereClient => new CohereClient(options(token));
  const v2 = (token = KEY): CohereClientV2 => new CohereClientV2(options(token));

  /** Places of the texts and their cosines to the query by the vectors of /embed, the nearest first. */
  async function expected(): Promise<[index: number, score: string][]> {
    const [of, ...others] = await server.embed([query, ...texts]);
    const scores = others.map((other) => of.reduce((sum, x, j) => sum + x * other[j], 0));
    return scores
      .map((score, index) => ({ score, index }))
      .sort((a, b) => b.score - a.score)
      .map(({ index, score }) => [index, score.toFixed(6)]);
  }
  const found = (results: { index: number; relevanceScore: number }[]): [number, string][] =>
    results.map(({ index, relevanceScore }) => [index, relevanceScore.toFixed(6)]);

  it('reranks at /v2/rerank by the cosines of the vectors of /embed', async () => {
    const all = await v2().rerank({ model: FAKE_MODEL, query, documents: texts });
    assert.deepEqual(found(all.results), await expected());
    assert.equal(all.results[0].index, 1);
    const one = await v2().rerank({
      model: FAKE_MODEL,
      query,
      documents: texts,
      topN: 1,
      maxTokensPerDoc: 64,
    });
    assert.deepEqual(found(one.results), (await expected()).slice(0, 1));
  });

  it('reranks at /v1/rerank, texts or objects that have one, and gets them back', async () => {
    const documents = texts.map((text) => ({ text }));
    const { results } = await v1().rerank({ model: FAKE_MODEL, query, documents, returnDocuments: true });
    assert.deepEqual(found(results), await expected());
    for (const { index, document } of results) assert.equal(document?.text, texts[index]);
    const plain = await v1().rerank({ query, documents: texts });
    assert.deepEqual(found(plain.results), await expected());
  });

  it('tells each mistake by its own class of error, with our words in its body', async () => {
    const refused = async (ask: Promise<unknown>, type: new (...args: never[]) => Error, words: RegExp) =>
      assert.rejects(ask, (error) => {
        assert.ok(error instanceof type, String(error));
        assert.match((error as unknown as { body: { error: string } }).body.error, words);
        return true;
      });
    const request = { model: FAKE_MODEL, query, documents: texts };
    await refused(v2('another').rerank(request), Cohere.UnauthorizedError, /one of the server's API keys/);
    await refused(v1('another').rerank(request), Cohere.UnauthorizedError, /one of the server's API keys/);
    await refused(v2().rerank({ ...request, query: ' ' }), Cohere.BadRequestError, /^query: expected a text/);
    await refused(v2().rerank({ ...request, model: 'other' }), Cohere.NotFoundError, /^model: expected/);
    await refused(v2().rerank({ ...request, topN: 0 }), Cohere.UnprocessableEntityError, /^top_n: expected/);
  });
});
