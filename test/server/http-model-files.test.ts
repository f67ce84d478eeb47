import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { env, pipeline } from '@xenova/transformers';

import { openEncoder } from '../../encoder/open-encoder.js';
import { makeTinyModel } from '../support/tiny-model.js';
import { call, FAKE_MODEL, startTestServer, withServer, type TestServer } from './http-support.js';

const NAMES = [
  'config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'vocab.txt',
  'onnx/model.onnx',
  'onnx/model_quantized.onnx',
];

/** As it is written: fetch would resolve dots before it asks. */
function statusOf(base: string, rawPath: string): Promise<number> {
  const { hostname, port } = new URL(base);
  return new Promise((resolve, reject) => {
    request({ hostname, port, path: rawPath }, (response) => {
      response.resume();
      resolve(response.statusCode!);
    })
      .on('error', reject)
      .end();
  });
}

describe("the files of a model's folder", () => {
  let home: string;
  let model: string;
  let test: TestServer;
  let files: string;
  before(async () => {
    home = await mkdtemp(path.join(tmpdir(), 'model-files-'));
    // As ~/.cache, where compact folders are unpacked.
    model = path.join(home, '.cache', 'tiny');
    await makeTinyModel(model);
    test = await startTestServer();
    Object.assign(test.inference, { folder: model });
    files = `${test.url}/models/${FAKE_MODEL}/files`;
  });
  after(async () => {
    await test.server.close();
    await rm(home, { recursive: true, force: true });
  });

  it('come byte for byte, each with its digest, to be asked for again', async () => {
    for (const name of NAMES) {
      const response = await fetch(`${files}/${name}`);
      assert.equal(response.status, 200, name);
      const bytes = Buffer.from(await response.arrayBuffer());
      assert.ok(bytes.equals(await readFile(path.join(model, name))), name);
      const etag = `"${createHash('sha256').update(bytes).digest('hex')}"`;
      assert.equal(response.headers.get('etag'), etag);
      assert.equal(response.headers.get('cache-control'), 'private, no-cache');
      assert.equal(response.headers.get('content-length'), String(bytes.length));
      // As browsers do; without the latter fetch would ask for a copy whatever it has.
      const asking = (known: string): RequestInit => ({
        headers: { 'If-None-Match': known, 'Cache-Control': 'max-age=0' },
      });
      const again = await call(`${files}/${name}`, asking(etag));
      assert.deepEqual([again.status, again.text], [304, '']);
      const other = await call(`${files}/${name}`, asking('"other"'));
      assert.equal(other.status, 200);
      const head = await fetch(`${files}/${name}`, { method: 'HEAD' });
      assert.deepEqual([head.status, head.headers.get('etag'), await head.text()], [200, etag, '']);
    }
  });

  it('load in transformers.js, from this address', async () => {
    const remote = { allowLocalModels: false, cacheDir: path.join(home, 'cache'), remoteHost: test.url };
    const before = { ...env };
    Object.assign(env, { ...remote, remotePathTemplate: 'models/{model}/files' });
    const encoder = await openEncoder(model);
    try {
      const embed = await pipeline('feature-extraction', FAKE_MODEL, { dtype: 'fp32' });
      const { data } = await embed('usb disk', { pooling: 'mean', normalize: true });
      const expected = await encoder.encode(['usb disk']);
      expected.forEach((x, i) => assert.ok(Math.abs(x - data[i]) < 1e-5));
    } finally {
      Object.assign(env, before);
      await encoder.close();
    }
  });

  it('are these alone, and none of another folder', async () => {
    for (const name of [
      'README.md',
      'model.safetensors',
      'config',
      'onnx',
      'Config.json',
      '..',
      '%2e%2e',
      '%00',
    ]) {
      const { status, body } = await call(`${files}/${name === '..' ? '%2e%2e%2f..' : name}`);
      assert.equal(status, 404, name);
      assert.match(body.error, /^(file: expected one of config\.json, .*, came |no such route)/);
    }
    const tail = 'secret/config.json';
    for (const raw of [
      `../../${tail}`,
      `..%2f..%2f${tail}`,
      `%2e%2e/%2e%2e/${tail}`,
      `onnx/../../${tail}`,
      `onnx/..%2f..%2f${tail}`,
      `onnx%2f..%2fconfig.json`,
      `..%5c..%5cconfig.json`,
      `/etc/passwd`,
      `%2fetc%2fpasswd`,
    ])
      assert.equal(await statusOf(test.url, `/models/${FAKE_MODEL}/files/${raw}`), 404, raw);
  });

  it('are those of a model that is served', async () => {
    const { status, body } = await call(`${test.url}/models/another/files/config.json`);
    assert.equal(status, 404);
    assert.match(body.error, /^model: expected "fake-encoder", the model that is served, came "another"/);
    const up = await statusOf(test.url, `/models/..%2f${FAKE_MODEL}%2f../files/config.json`);
    assert.equal(up, 404);
  });

  it('want a key where the server has keys, of which the smallest will do', async () => {
    await withServer({ apiKeys: ['read:look'] }, async ({ url, inference }) => {
      Object.assign(inference, { folder: model });
      const file = `${url}/models/${FAKE_MODEL}/files/config.json`;
      assert.equal((await call(file)).status, 401);
      assert.equal((await call(file, { headers: { Authorization: 'Bearer look' } })).status, 200);
    });
  });

  it('have a graph that is built of the weights, where the folder has none', async () => {
    const bare = path.join(home, 'bare');
    await makeTinyModel(bare);
    await rm(path.join(bare, 'onnx'), { recursive: true });
    await withServer({}, async ({ url, inference }) => {
      Object.assign(inference, { folder: bare });
      const built = await fetch(`${url}/models/${FAKE_MODEL}/files/onnx/model.onnx`);
      const own = await readFile(path.join(model, 'onnx/model.onnx'));
      assert.ok(Buffer.from(await built.arrayBuffer()).equals(own));
      const { status, body } = await call(`${url}/models/${FAKE_MODEL}/files/onnx/model_quantized.onnx`);
      assert.equal(status, 404);
      assert.match(body.error, /"sentence-jepa model export" writes a complete folder/);
    });
  });

  it('have no graph that would leave Dense modules out', async () => {
    const dense = path.join(home, 'dense');
    await makeTinyModel(dense, { dense: [16] });
    await rm(path.join(dense, 'onnx'), { recursive: true });
    await withServer({}, async ({ url, inference }) => {
      Object.assign(inference, { folder: dense });
      const graph = await call(`${url}/models/${FAKE_MODEL}/files/onnx/model.onnx`);
      assert.equal(graph.status, 404);
      assert.equal((await call(`${url}/models/${FAKE_MODEL}/files/config.json`)).status, 200);
    });
  });

  it('say so when the folder is gone', async () => {
    const gone = path.join(home, 'gone');
    await makeTinyModel(gone);
    await withServer({}, async ({ url, inference }) => {
      Object.assign(inference, { folder: gone });
      const file = `${url}/models/${FAKE_MODEL}/files/vocab.txt`;
      assert.equal((await call(file)).status, 200);
      await rm(gone, { recursive: true });
      const { status, body } = await call(file);
      assert.equal(status, 503);
      assert.match(body.error, /vocab.txt of the model's folder can't be read any more/);
    });
  });
});
