import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { Ajv2020 } from 'ajv/dist/2020.js';
import openapiTS, { astToString } from 'openapi-typescript';
import { format, resolveConfig } from 'prettier';
import { pino } from 'pino';
import { load } from 'js-yaml';

import { projectRoot } from '../../base/paths.js';
import { createApp } from '../../server/http/app.js';
import { statusOf } from '../../server/http/errors.js';
import { allOperations, specText } from '../../server/http/spec.js';
import { call, startTestServer, testConfig, type TestServer } from './http-support.js';

const spec = load(specText) as {
  paths: Record<string, Record<string, { responses: Record<string, unknown>; requestBody?: unknown }>>;
};

interface Media {
  example?: unknown;
  examples?: Record<string, { value: unknown }>;
}

/** Every body that is described, with its place as a JSON pointer; what is served as a file is its own example. */
function* bodies(node: unknown, pointer: string): Generator<{ pointer: string; type: string; media: Media }> {
  if (node === null || typeof node !== 'object') return;
  for (const [key, value] of Object.entries(node)) {
    const at = `${pointer}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`;
    if (pointer.endsWith('/content')) {
      if (key !== 'text/html' && key !== 'application/yaml')
        yield { pointer: at, type: key, media: value as Media };
    } else yield* bodies(value, at);
  }
}

describe('openapi.yaml', () => {
  let test: TestServer;
  before(async () => {
    test = await startTestServer();
  });
  after(() => test.server.close());

  it('has types that are up to date (npm run types)', async () => {
    const file = path.join(projectRoot, 'server/http/openapi.ts');
    const made = astToString(await openapiTS(new URL(`file://${path.join(projectRoot, 'openapi.yaml')}`)));
    const config = await resolveConfig(file);
    const formatted = (text: string): Promise<string> => format(text, { ...config, parser: 'typescript' });
    const withoutHeader = (text: string): string => text.slice(text.indexOf('export interface paths'));
    assert.equal(
      withoutHeader(await formatted(readFileSync(file, 'utf8'))),
      withoutHeader(await formatted(made)),
    );
  });

  it('names every route that the server has', () => {
    const app = createApp({
      config: testConfig,
      log: pino({ level: 'silent' }),
      metrics: {} as never,
      health: () => assert.fail(),
      admit: () => undefined,
      services: () => assert.fail(),
      draining: new AbortController().signal,
    });
    const layers = (app as unknown as { router: { stack: { route?: { path: string } }[] } }).router.stack;
    const registered = new Set(layers.flatMap(({ route }) => (route ? [route.path] : [])));
    const described = new Set(Object.keys(spec.paths).map((path) => path.replace(/\{(\w+)\}/g, ':$1')));
    assert.deepEqual(registered, described);
  });

  it('describes only routes that answer', async () => {
    assert.ok(allOperations.length >= 20);
    for (const { method, path } of allOperations) {
      const answer = await call(test.url + path.replace('{id}', 'x'), { method, redirect: 'manual' });
      assert.doesNotMatch(answer.text, /no such route/, `${method} ${path}`);
      assert.notEqual(answer.status, 405, `${method} ${path}`);
      assert.ok(
        String(answer.status) in spec.paths[path][method].responses || answer.status === 301,
        `${method} ${path} answers ${answer.status}, which is not described`,
      );
    }
  });

  it('lists for each operation the errors that it can end with', () => {
    for (const { method, path, open, scope, needsServices, checkBody } of allOperations) {
      const has = Object.keys(spec.paths[path][method].responses);
      const wanted = [
        // 400: a URL that is not percent-encoded UTF-8.
        ...(open ? [] : ['400', '401', '429', '500']),
        ...(scope === 'read' ? [] : ['403']),
        ...(needsServices ? ['503'] : []),
        ...(checkBody ? ['400', '408', '413', '415', '422'] : []),
      ];
      for (const status of wanted) assert.ok(has.includes(status), `${method} ${path} lacks ${status}`);
    }
  });

  it('answers with no status that no operation lists', () => {
    const listed = new Set(
      Object.values(spec.paths).flatMap((item) =>
        Object.values(item).flatMap((operation) => Object.keys(operation.responses ?? {})),
      ),
    );
    // 405: by definition not an operation's.
    const elsewhere = ['405'];
    for (const status of Object.values(statusOf))
      assert.ok(listed.has(String(status)) || elsewhere.includes(String(status)), String(status));
  });

  it('has an example of every body, and each is what its schema says', () => {
    const ajv = new Ajv2020({ strict: false, validateFormats: false });
    ajv.addSchema(spec, 'openapi');
    let examples = 0;
    for (const { pointer, type, media } of bodies(spec, '')) {
      const values = media.examples
        ? Object.values(media.examples).map(({ value }) => value)
        : [media.example];
      for (const value of values) {
        assert.notEqual(value, undefined, `${pointer} has no example`);
        const lines = type === 'application/x-ndjson' ? (value as string).trim().split('\n') : [];
        for (const body of lines.length > 0 ? lines.map((line) => JSON.parse(line) as unknown) : [value]) {
          const check = ajv.getSchema(`openapi#${pointer}/schema`)!;
          assert.ok(check(body), `${pointer}: ${ajv.errorsText(check.errors)} in ${JSON.stringify(body)}`);
          examples++;
        }
      }
    }
    assert.ok(examples >= 40);
  });

  it('is served as it is', async () => {
    const { text, headers } = await call(`${test.url}/openapi.yaml`);
    assert.equal(text, specText);
    assert.match(headers.get('content-type') ?? '', /yaml/);
  });

  it('is shown at /docs, under a policy that allows no inline script', async () => {
    const page = await call(`${test.url}/docs`);
    assert.equal(page.status, 200);
    assert.match(page.text, /swagger-ui-bundle\.js/);
    const policy = page.headers.get('content-security-policy') ?? '';
    assert.match(policy, /script-src 'self'(;|$)/);
    for (const [, tag] of page.text.matchAll(/<script([^>]*)>/g)) assert.match(tag, /src=/);
    for (const asset of ['swagger-ui-bundle.js', 'swagger-ui.css', 'swagger-ui-init.js'])
      assert.equal((await call(`${test.url}/docs/${asset}`)).status, 200, asset);
    assert.match((await call(`${test.url}/docs/swagger-ui-init.js`)).text, /"\/openapi\.yaml"/);
  });
});
