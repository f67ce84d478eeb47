import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import {
  chmod,
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

import { filesIn } from '../../base/files.js';
import { fingerprintsOf } from '../../encoder/fingerprints.js';
import { openModelFolder } from '../../encoder/model-folder.js';
import { obtain, publish } from '../../server/model-store/model-store.js';
import { CREDENTIALS, startS3, type S3Server } from '../support/s3-server.js';
import { makeTinyModel } from '../support/tiny-model.js';
import { isUserError } from './collection-suite.js';

const cli = fileURLToPath(new URL('../../cli/main.js', import.meta.url));
const VARIABLES = {
  AWS_ACCESS_KEY_ID: CREDENTIALS.accessKeyId,
  AWS_SECRET_ACCESS_KEY: CREDENTIALS.secretAccessKey,
  AWS_MAX_ATTEMPTS: '1',
};

let folder: string;
let model: string;
let s3: S3Server;
const environment = { ...process.env };
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'sentence-jepa-model-store-'));
  process.env.SENTENCE_JEPA_CACHE = path.join(folder, 'cache');
  model = path.join(folder, 'my-encoder');
  await makeTinyModel(model);
});
after(() => rm(folder, { recursive: true, force: true }));
beforeEach(async () => {
  s3 = await startS3('models');
  Object.assign(process.env, VARIABLES, { AWS_ENDPOINT_URL_S3: s3.url });
});
afterEach(() => s3.close());
after(() => (process.env = environment));

/** A store with the model, and how its objects are damaged. */
const stores = {
  async folder() {
    const store = await mkdtemp(path.join(folder, 'store-'));
    const fileOf = (key: string): string => path.join(store, key);
    return {
      store,
      keys: async () => filesIn(store),
      change: async (key: string, change: (content: Buffer) => Buffer) =>
        writeFile(fileOf(key), change(await readFile(fileOf(key)))),
      remove: (key: string) => rm(fileOf(key)),
    };
  },
  async s3() {
    const at = (key: string): string => `shared/${key}`;
    return {
      store: 's3://models/shared/',
      keys: async () => [...s3.objects.keys()].map((key) => key.slice('shared/'.length)).sort(),
      change: async (key: string, change: (content: Buffer) => Buffer) =>
        void s3.objects.set(at(key), change(s3.objects.get(at(key))!)),
      remove: async (key: string) => void s3.objects.delete(at(key)),
    };
  },
};

for (const [kind, make] of Object.entries(stores))
  describe(`a model store (${kind})`, () => {
    let place: Awaited<ReturnType<typeof make>>;
    let cacheDir: string;
    beforeEach(async () => {
      place = await make();
      cacheDir = await mkdtemp(path.join(folder, 'obtained-'));
    });

    it('gives a model by each of its fingerprints, byte for byte', async () => {
      const fingerprints = await publish(model, place.store);
      assert.deepEqual(fingerprints, await fingerprintsOf(await openModelFolder(model)));
      assert.ok(fingerprints.fp32 && fingerprints.int8);
      for (const fingerprint of Object.values(fingerprints)) {
        const got = await obtain(fingerprint, place.store, { cacheDir });
        assert.equal(path.basename(got), 'my-encoder');
        assert.deepEqual(await filesIn(got), await filesIn(model));
        for (const file of await filesIn(got))
          assert.deepEqual(await readFile(path.join(got, file)), await readFile(path.join(model, file)));
        await rm(path.dirname(got), { recursive: true });
      }
      const keys = await place.keys();
      await publish(model, place.store);
      assert.deepEqual(await place.keys(), keys, 'each file is kept once');
    });

    it('is not asked for what is there, and may be asked twice at once', async () => {
      const { fp32 } = await publish(model, place.store);
      const got = await Promise.all([1, 2].map(() => obtain(fp32!, place.store, { cacheDir })));
      assert.equal(got[0], got[1]);
      for (const key of await place.keys()) await place.remove(key);
      assert.equal(await obtain(fp32!, place.store, { cacheDir }), got[0]);
    });

    it('says what to do where it has no such model', async () => {
      await assert.rejects(
        obtain('0'.repeat(64), place.store, { cacheDir }),
        isUserError('not-found', 'no model of fingerprint 000000000000; .* sentence-jepa model publish'),
      );
    });

    it('never leaves a folder of what is missing, cut off, or not what was published', async () => {
      const { int8 } = await publish(model, place.store);
      const files = (await place.keys()).filter((key) => key.startsWith('files/'));
      const manifest = `models/${int8}.json`;
      const json = (change: (found: { files: { path: string }[]; name: string }) => void) => {
        return (content: Buffer): Buffer => {
          const found = JSON.parse(content.toString()) as Parameters<typeof change>[0];
          change(found);
          return Buffer.from(JSON.stringify(found));
        };
      };
      const flip = (content: Buffer): Buffer => {
        const other = Buffer.from(content);
        other[other.length >> 1] ^= 1;
        return other;
      };
      const damages: [string, () => Promise<unknown>, string][] = [
        ['a flipped bit', () => place.change(files[0], flip), 'expected its SHA-256, found'],
        [
          'a cut file',
          () => place.change(files[1], (all) => all.subarray(1)),
          'expected \\d+ bytes, found \\d',
        ],
        ['a longer file', () => place.change(files[1], (all) => Buffer.concat([all, all])), 'found more'],
        ['a missing file', () => place.remove(files[2]), 'is not there'],
        ['a cut manifest', () => place.change(manifest, (all) => all.subarray(0, 99)), 'JSON'],
        [
          'a manifest that leads out of the folder',
          () =>
            place.change(
              manifest,
              json((found) => (found.files[0].path = '../../../outside')),
            ),
          'no list of the files',
        ],
        [
          'a name that does',
          () =>
            place.change(
              manifest,
              json((found) => (found.name = '..')),
            ),
          'no list',
        ],
      ];
      for (const [what, damage, message] of damages) {
        await damage();
        await assert.rejects(
          obtain(int8!, place.store, { cacheDir }),
          isUserError('corrupt', `${message}.*sentence-jepa model publish`),
          what,
        );
        assert.deepEqual(await readdir(cacheDir), [], what);
        await publish(model, place.store);
        await obtain(int8!, place.store, { cacheDir });
        await rm(path.join(cacheDir, int8!), { recursive: true });
      }
    });
  });

describe('a model store in a bucket', () => {
  it('says that it may not be read or written, or is not there', async () => {
    const store = 's3://models/shared';
    const { fp32 } = await publish(model, store);
    const cacheDir = path.join(folder, 'never');
    const get = (): Promise<string> => obtain(fp32!, store, { cacheDir });
    s3.fail = () => ({ status: 403, code: 'AccessDenied' });
    const denied = isUserError('forbidden', 'no access \\(AccessDenied\\); check the credentials');
    await assert.rejects(get(), denied);
    await assert.rejects(publish(model, store), denied);
    s3.fail = (request) => (request.includes('/files/') ? { status: 503, code: 'SlowDown' } : undefined);
    await assert.rejects(get(), isUserError('unavailable', 'SlowDown'));
    s3.fail = (request) => (request.includes('/files/') ? { cutAt: 10 } : undefined);
    await assert.rejects(get(), isUserError('unavailable'));
    s3.fail = undefined;
    await assert.rejects(publish(model, 's3://other'), isUserError('not-found', 'no such bucket'));
    await assert.rejects(
      obtain(fp32!, 's3://other', { cacheDir }),
      isUserError('not-found', 'no such bucket'),
    );
    await assert.rejects(publish(model, 's3://'), isUserError('usage', 's3://BUCKET/PREFIX'));
    await assert.rejects(publish(model, 'gs://models'), isUserError('usage', 's3://BUCKET/PREFIX'));
    process.env.AWS_SECRET_ACCESS_KEY = 'another';
    await assert.rejects(get(), isUserError('forbidden', 'SignatureDoesNotMatch'));
    process.env.AWS_ENDPOINT_URL_S3 = 'http://127.0.0.1:1';
    await assert.rejects(get(), isUserError('unavailable', 'ECONNREFUSED'));
    assert.ok(!existsSync(path.join(cacheDir, fp32!)));
  });

  it('is told of files before the list of them', async () => {
    await publish(model, 's3://models');
    const lists = s3.requests.findIndex((request) => request.startsWith('PUT models/'));
    assert.ok(lists > 5);
    assert.ok(s3.requests.slice(lists).every((request) => request.startsWith('PUT models/')));
  });
});

describe('a model store in a folder', () => {
  it('is not made where it is not there', async () => {
    const store = path.join(folder, 'not-mounted');
    await assert.rejects(publish(model, store), isUserError('not-found', 'see that it is mounted'));
    await assert.rejects(obtain('0', store), isUserError('not-found', 'see that it is mounted'));
    assert.ok(!existsSync(store));
  });

  it('has the files that links in a model folder lead to, and no hidden ones', async () => {
    const linked = path.join(folder, 'linked');
    await cp(model, linked, { recursive: true });
    await rename(path.join(linked, 'model.safetensors'), path.join(folder, 'blob'));
    await symlink(path.join(folder, 'blob'), path.join(linked, 'model.safetensors'));
    await mkdir(path.join(linked, '.git'));
    await writeFile(path.join(linked, '.git', 'config'), 'secret');
    const store = await mkdtemp(path.join(folder, 'store-'));
    const { fp32 } = await publish(linked, store);
    const got = await obtain(fp32!, store, { cacheDir: path.join(folder, 'from-linked') });
    assert.deepEqual(await filesIn(got), await filesIn(model));
  });

  it('says that it may not be written', { skip: process.getuid?.() === 0 && 'root may' }, async () => {
    const store = await mkdtemp(path.join(folder, 'store-'));
    await chmod(store, 0o500);
    await assert.rejects(publish(model, store), isUserError('unavailable', 'no permission to write'));
  });
});

describe('sentence-jepa model publish', () => {
  it('prints the fingerprints', async () => {
    const store = await mkdtemp(path.join(folder, 'store-'));
    const child = spawn(process.execPath, [cli, 'model', 'publish', model], {
      env: { ...process.env, SENTENCE_JEPA_MODEL_STORE: store },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let stdout = '';
    child.stdout.on('data', (chunk) => (stdout += chunk));
    assert.deepEqual((await once(child, 'close'))[0], 0);
    for (const [precision, fingerprint] of Object.entries(await fingerprintsOf(await openModelFolder(model))))
      assert.match(stdout, new RegExp(`^${precision} +${fingerprint}$`, 'm'));
  });
});
