import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { pino } from 'pino';

import { startServer } from '../../server/main.js';
import { call, fakeInference, fakeServices, post, testConfig, withServer } from './http-support.js';
import { isOnPostgres, openTestCollection } from './test-collection.js';

describe('?async', { skip: isOnPostgres && 'postgres-ingest.test.ts has it' }, () => {
  it('is refused where nothing embeds behind the answer, and says what to do', () =>
    withServer({}, async ({ url, collection }) => {
      const document = { id: 'q1', text: 'a question' };
      const json = await post(`${url}/documents?async`, [document]);
      const lines = await post(`${url}/documents?async`, JSON.stringify(document), {
        'Content-Type': 'application/x-ndjson',
      });
      for (const { status, body } of [
        json,
        lines,
        await call(`${url}/ingests/1`),
        await call(`${url}/ingests`),
      ]) {
        assert.equal(status, 400);
        assert.match(body.error, /--store postgres.* leave \?async out/);
      }
      assert.equal((await collection.texts()).size, 0);
      assert.equal((await post(`${url}/documents?async=false`, [document])).status, 200);
      assert.doesNotMatch((await call(`${url}/metrics`)).text, /^sentence_jepa_ingest_jobs\{/m);
    }));
});

describe('a server of some routes', () => {
  it('has no others, and no pages', async () => {
    const inference = fakeInference();
    const server = await startServer(
      testConfig,
      pino({ level: 'silent' }),
      async () => fakeServices(inference, await openTestCollection(inference)),
      ['health', 'ready', 'metrics'],
    );
    try {
      await server.ready;
      for (const route of ['/health', '/ready', '/metrics'])
        assert.equal((await call(server.url + route)).status, 200, route);
      for (const route of ['/', '/docs', '/documents', '/assets/x.js']) {
        const { status, body } = await call(server.url + route);
        assert.equal(status, 404, route);
        assert.match(body.error, /here are \/health, \/ready, \/metrics/);
      }
    } finally {
      await server.close();
    }
  });

  it('listens on nothing without a port', async () => {
    const inference = fakeInference();
    const open = async () => fakeServices(inference, await openTestCollection(inference));
    const config = { ...testConfig, port: undefined, host: '0.0.0.0' };
    const server = await startServer(config, pino({ level: 'silent' }), open);
    await server.ready;
    assert.equal(server.url, '');
    await server.close();
  });
});
