import assert from 'node:assert/strict';
import { request } from 'node:http';
import { describe, it } from 'node:test';

import { withServer } from './http-support.js';

interface Told {
  status: number;
  body: string;
}

/** A request that says what it takes the server for, as a browser does; fetch would say where it went. */
function ask(url: string, host: string, path = '/info', method = 'GET'): Promise<Told> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    request({ hostname, port, path, method, headers: { Host: host } }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (part: string) => (body += part));
      response.on('end', () => resolve({ status: response.statusCode!, body }));
    })
      .on('error', reject)
      .end();
  });
}

describe('a server without keys on a loopback address', () => {
  it('goes by localhost and by addresses, whatever the port', async () => {
    await withServer({}, async ({ url }) => {
      for (const host of [
        new URL(url).host,
        'localhost',
        'LOCALHOST:3000',
        'localhost.:80',
        '127.0.0.2:1',
        '[::1]:3000',
        '192.168.1.5',
      ])
        assert.equal((await ask(url, host)).status, 200, host);
    });
  });

  it('refuses a page whose name leads here, whatever it asks for, and says what to do', async () => {
    await withServer({ corsOrigins: ['*'] }, async ({ url }) => {
      for (const host of [
        'rebound.example',
        'rebound.example:3000',
        'localhost.rebound.example',
        '127.0.0.1.rebound.example',
        'localhost@rebound.example',
        'rebound.example/localhost',
        '[rebound.example]',
        '[::1].rebound.example',
        '127.0.0.1, rebound.example',
      ])
        assert.equal((await ask(url, host)).status, 403, host);
      for (const [path, method] of [
        ['/', 'GET'],
        ['/assets/index.js', 'GET'],
        ['/docs/', 'GET'],
        ['/health', 'GET'],
        ['/documents/x', 'DELETE'],
        ['/documents/x', 'OPTIONS'],
        ['/nowhere', 'GET'],
      ])
        assert.equal((await ask(url, 'rebound.example', path, method)).status, 403, `${method} ${path}`);
      const { body } = await ask(url, 'rebound.example');
      const { error, error_type } = JSON.parse(body);
      assert.equal(error_type, 'forbidden');
      assert.match(
        error,
        /expected localhost, 127\.0\.0\.1 or an address, came "rebound\.example"; .*--allow-host NAME/,
      );
    });
  });

  it('goes by the names that it was given', async () => {
    await withServer({ allowedHosts: ['Search.example'] }, async ({ url }) => {
      assert.equal((await ask(url, 'search.example:8080')).status, 200);
      assert.equal((await ask(url, 'other.example')).status, 403);
    });
  });
});

describe('any other server', () => {
  it('goes by any name: a page of somebody else has no key', async () => {
    await withServer({ apiKeys: ['key'] }, async ({ url }) => {
      assert.equal((await ask(url, 'search.example')).status, 401);
      assert.equal((await ask(url, 'search.example', '/health')).status, 200);
    });
  });

  it('goes by any name when everybody may ask it', async () => {
    await withServer({ host: '0.0.0.0', insecure: true }, async ({ url }) => {
      assert.equal((await ask(url, 'search.example')).status, 200);
    });
  });
});
