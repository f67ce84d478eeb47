import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { benchSearchHttp, searchHttpTable } from '../../bench/search-http.js';
import { makeTinyModel } from '../support/tiny-model.js';

describe('the benchmark of search over HTTP', () => {
  let scratch: string;
  let model: string;
  before(async () => {
    scratch = await mkdtemp(path.join(tmpdir(), 'bench-search-'));
    model = path.join(scratch, 'tiny');
    await makeTinyModel(model);
  });
  after(() => rm(scratch, { recursive: true }));

  const words = [
    'disk',
    'sound',
    'boot',
    'network',
    'usb',
    'drive',
    'error',
    'slow',
    'screen',
    'python',
    'linux',
  ];
  const texts = Array.from({ length: 1100 }, (_, i) =>
    [i % 11, Math.floor(i / 11) % 10, Math.floor(i / 110)].map((w) => words[w]).join(' '),
  );
  const options = { texts, seconds: 0.2, rounds: 1, say: () => undefined };

  it('fills a server, asks it, and finds the folder filled the second time', async () => {
    const dataDir = path.join(scratch, 'data');
    const first = await benchSearchHttp({ ...options, model, dataDir });
    assert.deepEqual([first.documents, first.index.kind, first.index.vectors], [600, 'exact', 600]);
    assert.ok(first.fill!.documentsPerSecond > 0);
    assert.equal(first.recallAt10, 1, 'exact search finds all');
    assert.equal(first.bareLoop, undefined);
    assert.deepEqual(
      first.loads.map(({ concurrency }) => concurrency),
      [1, 8],
    );
    for (const { queriesPerSecond, p50, p99 } of first.loads) assert.ok(queriesPerSecond > 0 && p50 <= p99);
    const second = await benchSearchHttp({ ...options, model, dataDir });
    assert.equal(second.fill, undefined);
    assert.match(searchHttpTable(second), /^600 documents, index exact\.\n\n\| {2}\| measured \|/);
    await assert.rejects(benchSearchHttp({ ...options, texts: texts.slice(0, 1050), model, dataDir }), {
      kind: 'exists',
      message: /holds 600 documents, not these 550/,
    });
  });

  it('refuses too few texts', async () => {
    await assert.rejects(benchSearchHttp({ ...options, texts: texts.slice(0, 999), model }), {
      kind: 'invalid',
      message: 'expected at least 1000 different texts, found 999',
    });
  });
});
