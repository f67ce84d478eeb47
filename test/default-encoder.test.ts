import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { projectRoot } from '../base/paths.js';
import { openModelFolder } from '../encoder/model-folder.js';
import { openEncoder } from '../encoder/open-encoder.js';
import { DEFAULT_MODEL, resolveModel } from '../encoder/resolve.js';
import { verifyModel } from '../encoder/verify.js';
import { openEvaluation } from '../evaluation/open-evaluation.js';
import { finetune } from '../trainer/finetune.js';
import { loadTensorFlow } from '../trainer/tensorflow/load.js';
import { call } from './server/http-support.js';
import { keepEnvironment } from './support/environment.js';

const STORED = path.join(projectRoot, 'models', DEFAULT_MODEL);
const EXAMPLE = path.join(projectRoot, 'examples/askubuntu-style');

/** An address at which nobody answers: what would be fetched fails at once. */
const NO_NETWORK = Object.fromEntries(
  ['http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'].map((name) => [name, 'http://127.0.0.1:9']),
);

describe('the default encoder', () => {
  let scratch: string;
  const putBack = keepEnvironment('SENTENCE_JEPA_CACHE');
  before(async () => {
    // What setup built lies in the real cache folder.
    await loadTensorFlow();
    scratch = await mkdtemp(path.join(tmpdir(), 'default-'));
    process.env.SENTENCE_JEPA_CACHE = path.join(scratch, 'cache');
  });
  after(async () => {
    putBack();
    await rm(scratch, { recursive: true });
  });

  it('takes at most 16 MB of the repository', async () => {
    let bytes = 0;
    for (const entry of await readdir(STORED, { recursive: true, withFileTypes: true }))
      if (entry.isFile()) bytes += (await stat(path.join(entry.parentPath, entry.name))).size;
    assert.ok(bytes <= 16_000_000, `${bytes} bytes`);
  });

  it('has a card that says what it was made from and how, the licence, and what it scores', async () => {
    const card = await readFile(path.join(STORED, 'README.md'), 'utf8');
    for (const what of [
      /license: apache-2\.0/i,
      /distilled from `all-MiniLM-L6-v2`/,
      /train\.titles\.txt/,
      /map@100/,
      /spearman/,
      /CC BY-SA/,
    ])
      assert.match(card, what);
  });

  it('unpacks into a model folder that is whole', async () => {
    const { dir } = await resolveModel(DEFAULT_MODEL);
    const { problems, missing, quantizedCosine } = await verifyModel(await openModelFolder(dir));
    assert.deepEqual({ problems, missing }, { problems: [], missing: [] });
    assert.ok(quantizedCosine!.mean > 0.98, JSON.stringify(quantizedCosine));
  });

  it('finds the duplicates among the example questions that matching words does not', async () => {
    const evaluation = await openEvaluation(`beir:${EXAMPLE}`, {});
    const encoder = await openEncoder(DEFAULT_MODEL);
    const { metrics } = await evaluation.run(encoder, {});
    await encoder.close();
    assert.ok(metrics['map@100'] > 0.7 && metrics['recall@10'] > 0.9, JSON.stringify(metrics));
  });

  it('serves and searches from a fresh clone without a network', async () => {
    const main = path.join(projectRoot, 'dist/cli/main.js');
    const args = ['serve', '--example', '--data-dir', path.join(scratch, 'data'), '--port', '0'];
    const env = { ...process.env, ...NO_NETWORK, SENTENCE_JEPA_CACHE: path.join(scratch, 'fresh') };
    const server = spawn(process.execPath, [main, ...args], { env, stdio: ['ignore', 'ignore', 'pipe'] });
    const closed = once(server, 'close');
    let said = '';
    const url = await new Promise<string>((resolve, reject) => {
      server.stderr.on('data', (chunk: Buffer) => {
        said += chunk.toString();
        const found = /listening on (http:\S+)/.exec(said);
        if (found) resolve(found[1]);
      });
      void closed.then(() => reject(new Error(`serve ended: ${said}`)));
    });
    try {
      const { body } = await call(`${url}/search?q=my+usb+stick+does+not+show+up&k=3`);
      assert.equal(body.model, DEFAULT_MODEL);
      assert.match(body.hits[0].text, /USB/);
      assert.equal((await call(`${url}/info`)).body.model_id, DEFAULT_MODEL);
    } finally {
      server.kill('SIGTERM');
      await closed;
    }
  });

  it('can be fine-tuned: its trainable copy is fp32', async () => {
    const { dir, name } = await resolveModel(DEFAULT_MODEL);
    const out = path.join(scratch, 'tuned');
    const { status, run } = await finetune({
      base: { dir, name },
      out,
      data: [path.join(EXAMPLE, 'corpus.jsonl')],
      pairs: [],
      preset: 'vicreg',
      settings: ['maxSteps=4', 'batch=16'],
      evaluations: [],
      resume: false,
      onNote() {},
    });
    assert.equal(status, 'finished');
    assert.equal(run.start.base.name, DEFAULT_MODEL);
    const [before, after] = [await openEncoder(DEFAULT_MODEL), await openEncoder(out)];
    const texts = ['how do i mount a usb stick'];
    const [a, b] = [await before.encode(texts), await after.encode(texts)];
    await Promise.all([before.close(), after.close()]);
    const cosine = a.reduce((sum, value, i) => sum + value * b[i], 0);
    assert.ok(cosine > 0.9 && cosine < 1 - 1e-9, String(cosine));
  });
});
