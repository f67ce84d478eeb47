import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { projectRoot } from '../../base/paths.js';
import { call, startTestServer, type TestServer } from './http-support.js';

const built = existsSync(path.join(projectRoot, 'dist/web/index.html'));

describe('the pages', { skip: !built && 'not built: npm run build:web' }, () => {
  let test: TestServer;
  before(async () => {
    test = await startTestServer({ apiKeys: ['secret'] });
  });
  after(() => test.server.close());

  it('come without a key, under a policy that allows nothing inline and nothing from elsewhere', async () => {
    const page = await call(`${test.url}/`);
    assert.equal(page.status, 200);
    assert.match(page.headers.get('content-type')!, /^text\/html/);
    const policy = page.headers.get('content-security-policy')!;
    assert.match(policy, /default-src 'none'/);
    assert.doesNotMatch(policy, /'unsafe-inline'|'unsafe-eval'|https?:|\*/);
    assert.doesNotMatch(page.text, /<style|<script(?![^>]* src=)|(src|href)="(https?:)?\/\//);
  });

  it('are asked for each time, what they load is kept for good', async () => {
    const page = await call(`${test.url}/`);
    assert.equal(page.headers.get('cache-control'), 'no-cache');
    const again = await call(`${test.url}/`, {
      headers: { 'If-Modified-Since': page.headers.get('last-modified')!, 'Cache-Control': 'max-age=0' },
    });
    assert.equal(again.status, 304);
    const assets = [...page.text.matchAll(/(?:src|href)="(\/assets\/[^"]+)"/g)].map(([, asset]) => asset);
    assert.ok(assets.length >= 3);
    for (const asset of assets) {
      const file = await call(test.url + asset);
      assert.equal(file.status, 200, asset);
      assert.match(file.headers.get('cache-control')!, /max-age=31536000, immutable/);
    }
  });

  it('leave the routes as they are', async () => {
    assert.equal((await call(`${test.url}/duplicates`)).status, 401);
    assert.equal((await call(`${test.url}/assets/none.js`)).status, 404);
    assert.equal((await call(`${test.url}/docs`)).status, 200);
  });
});
