import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { call, withServer } from './http-support.js';

const preflight = (origin: string): RequestInit => ({
  method: 'OPTIONS',
  headers: {
    Origin: origin,
    'Access-Control-Request-Method': 'PUT',
    'Access-Control-Request-Headers': 'authorization,content-type',
  },
});

describe('--cors-origin', () => {
  const ours = 'https://example.org';

  it('answers the preflight of the origins in the list, before it asks for a key', async () => {
    const corsOrigins = [ours, 'http://localhost:8080'];
    await withServer({ corsOrigins, apiKeys: ['key'] }, async ({ url }) => {
      for (const origin of corsOrigins) {
        const { status, headers } = await call(`${url}/documents/x`, preflight(origin));
        assert.equal(status, 204);
        assert.equal(headers.get('access-control-allow-origin'), origin);
        assert.match(headers.get('access-control-allow-methods') ?? '', /PUT/);
        assert.equal(headers.get('access-control-allow-headers'), 'authorization,content-type');
        assert.equal(headers.get('access-control-allow-credentials'), null);
      }
      const stranger = await call(`${url}/documents/x`, preflight('https://example.org.evil'));
      assert.equal(stranger.headers.get('access-control-allow-origin'), null);
    });
  });

  it('lets them read answers and errors, and the headers that matter', async () => {
    await withServer({ corsOrigins: [ours], apiKeys: ['key'] }, async ({ url }) => {
      for (const [path, status] of [
        ['/health', 200],
        ['/info', 401],
        ['/nowhere', 404],
      ] as const) {
        const answer = await call(url + path, { headers: { Origin: ours } });
        assert.equal(answer.status, status);
        assert.equal(answer.headers.get('access-control-allow-origin'), ours);
        assert.match(answer.headers.get('vary') ?? '', /Origin/);
        assert.match(answer.headers.get('access-control-expose-headers') ?? '', /Retry-After/);
      }
    });
  });

  it('takes * for all of them', async () => {
    await withServer({ corsOrigins: ['*'] }, async ({ url }) => {
      const { headers } = await call(`${url}/health`, { headers: { Origin: 'https://any.example' } });
      assert.equal(headers.get('access-control-allow-origin'), '*');
    });
  });

  it('is none unless given', async () => {
    await withServer({}, async ({ url }) => {
      const { headers } = await call(`${url}/health`, { headers: { Origin: ours } });
      assert.equal(headers.get('access-control-allow-origin'), null);
      assert.equal((await call(`${url}/documents/x`, preflight(ours))).status, 405);
    });
  });
});
