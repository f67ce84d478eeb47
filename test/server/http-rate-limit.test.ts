import assert from 'node:assert/strict';
import { describe, it, mock } from 'node:test';

import { call, post, withServer, type Answer } from './http-support.js';

const withKey = (key: string): RequestInit => ({ headers: { Authorization: `Bearer ${key}` } });
const statuses = async (count: number, ask: () => Promise<Answer>): Promise<number[]> => {
  const answers: number[] = [];
  for (let i = 0; i < count; i++) answers.push((await ask()).status);
  return answers;
};

describe('--rate-limit', () => {
  it('refuses what is beyond with 429, says when to come again, and does nothing of it', async () => {
    await withServer({ rateLimit: { requests: 2, seconds: 60 } }, async ({ url, inference }) => {
      const first = await post(`${url}/embed`, { inputs: 'a' });
      assert.equal(first.status, 200);
      assert.match(first.headers.get('ratelimit') ?? '', /^"2-in-1min"; r=1; t=\d+$/);
      assert.match(first.headers.get('ratelimit-policy') ?? '', /^"2-in-1min"; q=2; w=60; pk=:\S+:$/);
      assert.equal((await call(`${url}/info`)).status, 200);
      const refused = await post(`${url}/embed`, { inputs: 'a' });
      assert.equal(refused.status, 429);
      const wait = Number(refused.headers.get('retry-after'));
      assert.ok(wait > 1 && wait <= 60, String(wait));
      assert.deepEqual(refused.body, {
        error: `expected at most 2 requests a minute (--rate-limit), came more; send it again in ${wait} s`,
        error_type: 'rate-limited',
      });
      assert.match(refused.headers.get('ratelimit') ?? '', /^"2-in-1min"; r=0; t=\d+$/);
      const openAi = await post(`${url}/v1/embeddings`, { input: 'a' });
      assert.deepEqual(
        [openAi.body.error.type, openAi.body.error.code],
        ['rate_limit_error', 'rate-limited'],
      );
      assert.equal(inference.calls.length, 1);
    });
  });

  it('counts each key apart, however its header is written, and no request without a key', async () => {
    const rateLimit = { requests: 2, seconds: 60 } as const;
    await withServer({ rateLimit, apiKeys: ['one', 'read:two'] }, async ({ url }) => {
      assert.deepEqual(await statuses(3, () => call(`${url}/info`)), [401, 401, 401]);
      assert.deepEqual(await statuses(3, () => call(`${url}/info`, withKey('other'))), [401, 401, 401]);
      assert.deepEqual(await statuses(3, () => call(`${url}/info`, withKey('one'))), [200, 200, 429]);
      const otherSpelling = { headers: { Authorization: 'bearer   one' } };
      assert.equal((await call(`${url}/info`, otherSpelling)).status, 429);
      assert.deepEqual(await statuses(3, () => call(`${url}/info`, withKey('two'))), [200, 200, 429]);
    });
  });

  it('leaves alone what needs no key', async () => {
    await withServer({ rateLimit: { requests: 1, seconds: 60 } }, async ({ url }) => {
      await call(`${url}/info`);
      for (const path of ['/health', '/ready', '/docs', '/openapi.yaml'])
        assert.deepEqual(await statuses(2, () => call(url + path)), [200, 200], path);
      assert.equal((await call(`${url}/info`)).status, 429);
    });
  });

  it('begins anew when the time is over', async () => {
    await withServer({ rateLimit: { requests: 1, seconds: 60 } }, async ({ url }) => {
      assert.deepEqual(await statuses(2, () => call(`${url}/info`)), [200, 429]);
      const later = Date.now() + 60_001;
      const clock = mock.method(Date, 'now', () => later);
      assert.equal((await call(`${url}/info`)).status, 200);
      clock.mock.restore();
    });
  });
});
