import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { benchWeb, webTable } from '../../bench/web.js';
import { makeTinyModel } from '../support/tiny-model.js';
import { executablePath, noBrowser } from '../web/support.js';

describe('the benchmark of the page Search', { skip: noBrowser }, () => {
  let scratch: string;
  let corpus: string;
  let model: string;
  before(async () => {
    scratch = await mkdtemp(path.join(tmpdir(), 'bench-web-test-'));
    model = path.join(scratch, 'tiny');
    await makeTinyModel(model);
    corpus = path.join(scratch, 'corpus.jsonl');
    const texts = ['usb disk is black', 'no sound', 'boot error'];
    await writeFile(corpus, texts.map((text, i) => `${JSON.stringify({ _id: `d${i}`, text })}\n`).join(''));
  });
  after(() => rm(scratch, { recursive: true }));

  const options = { queries: ['no disk', 'usb'], browser: executablePath, say: () => undefined };

  it('types each query, and says when the page asked and when the results were there', async () => {
    const result = await benchWeb({ ...options, model, corpus });
    assert.deepEqual([result.documents, result.queries], [3, 2]);
    const { asked, shown } = result;
    assert.ok(0 < asked.median && asked.median <= asked.worst);
    assert.ok(asked.median < shown.median && shown.median <= shown.worst);
    assert.match(webTable(result), /^2 queries over 3 documents/);
  });

  it('says what is wrong with a corpus, and where there is no browser', async () => {
    const broken = path.join(scratch, 'broken.jsonl');
    await writeFile(broken, '{"_id": 7}\n');
    await assert.rejects(benchWeb({ ...options, model, corpus: broken }), {
      kind: 'invalid',
      message: /broken\.jsonl: .*line 1/,
    });
    const browser = path.join(scratch, 'none');
    await assert.rejects(benchWeb({ ...options, browser, model, corpus }), { kind: 'not-found' });
  });
});
