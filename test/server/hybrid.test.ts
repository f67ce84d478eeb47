import assert from 'node:assert/strict';
import { appendFile, cp, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { projectRoot } from '../../base/paths.js';
import { openEncoder } from '../../encoder/open-encoder.js';
import { readBeirFolder, scoreRankings } from '../../evaluation/beir.js';
import { evaluateHybrid, type HybridScores, type Method } from '../../server/search/evaluate-hybrid.js';
import { ftsQuery } from '../../server/search/lexical.js';
import { openCollection } from '../../server/search/open-collection.js';
import { fakeInference } from './fake-inference.js';

const IDENTIFIERS = path.join(projectRoot, 'examples', 'identifiers');

function of(scores: HybridScores, wanted: Method) {
  return scores.methods.find(({ method }) => method === wanted)!;
}

describe('a lexical query', () => {
  it('is words, and names as phrases beside them', () => {
    assert.equal(ftsQuery('Wifi is slow'), '"wifi" OR "is" OR "slow"');
    assert.equal(ftsQuery('libssl1.0.0!'), '"libssl1" OR "0" OR "libssl1.0.0"');
    assert.equal(ftsQuery('(id 0BDA:8179)'), '"id" OR "0bda" OR "8179" OR "0bda:8179"');
    assert.equal(ftsQuery('set vm.dirty_ratio'), '"set" OR "vm" OR "dirty" OR "ratio" OR "vm.dirty_ratio"');
  });

  it('takes no version number and no hyphenated word for a name', () => {
    assert.equal(ftsQuery('dual-boot 14.04'), '"dual" OR "boot" OR "14" OR "04"');
  });

  it('has no word of a text without any', () => assert.equal(ftsQuery('?! -- "'), undefined));
});

describe('identifiers', () => {
  let scores: HybridScores;
  before(async () => {
    const encoder = await openEncoder('default');
    scores = await evaluateHybrid(IDENTIFIERS, undefined, encoder);
    await encoder.close();
  });

  it('are where words beat meaning, beyond chance, and so does a hybrid that lets them weigh', () => {
    for (const method of ['lexical', 1] as const) {
      const { comparison } = of(scores, method);
      assert.equal(comparison.metric, 'map@100');
      assert.ok(comparison.low > 0.2, `${method}: ${comparison.low}`);
    }
    assert.ok(scores.best! >= 0.4);
  });

  it('lead the lexical ranking when a query has the whole name', () => {
    assert.ok(of(scores, 'lexical').metrics['mrr@10'] > 0.85);
  });
});

describe('the evaluation of hybrid search', () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'sentence-jepa-hybrid-'));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  it('ranks as the server does', async () => {
    const inference = fakeInference({ dimensions: 32 });
    const scores = await evaluateHybrid(IDENTIFIERS, undefined, inference);
    const data = await readBeirFolder(IDENTIFIERS, 'test');
    const collection = await openCollection({ dataDir: folder, inference, lexicalWeight: 0.2 });
    const { ids, texts } = data.documents;
    await collection.upsert(ids.map((id, i) => ({ id, text: texts[i] })));
    for (const [method, options] of [
      ['dense', { mode: 'dense' }],
      ['lexical', { mode: 'lexical' }],
      [0.2, { mode: 'hybrid' }],
      [0.7, { mode: 'hybrid', lexicalWeight: 0.7 }],
    ] as const) {
      const rankings: string[][] = [];
      for (const query of data.queries.texts)
        rankings.push((await collection.search({ query, k: 100, ...options })).map(({ id }) => id));
      const { metrics, perQuery } = scoreRankings(data, rankings);
      assert.deepEqual(of(scores, method).metrics, metrics, String(method));
      assert.deepEqual(of(scores, method).perQuery, perQuery);
    }
    await assert.rejects(collection.search({ query: 'a', k: 1, mode: 'hybrid', lexicalWeight: 2 }), {
      kind: 'invalid',
      message: 'lexical_weight: expected a number from 0 to 1, found 2',
    });
    await collection.close();
  });

  it('leaves a query that is itself a document out, as the server does when it is told to', async () => {
    const inference = fakeInference({ dimensions: 32 });
    const beir = path.join(folder, 'queries-in-corpus');
    await cp(IDENTIFIERS, beir, { recursive: true });
    await appendFile(path.join(beir, 'corpus.jsonl'), await readFile(path.join(beir, 'queries.jsonl')));
    const scores = await evaluateHybrid(beir, undefined, inference);
    const data = await readBeirFolder(beir, 'test');
    const collection = await openCollection({ dataDir: path.join(folder, 'own'), inference });
    const { ids, texts } = data.documents;
    await collection.upsert(ids.map((id, i) => ({ id, text: texts[i] })));
    for (const lexicalWeight of [0.2, 1]) {
      const rankings: string[][] = [];
      for (const [q, query] of data.queries.texts.entries()) {
        const exclude = [data.queries.ids[q]];
        const hits = await collection.search({ query, k: 100, mode: 'hybrid', lexicalWeight, exclude });
        rankings.push(hits.map(({ id }) => id));
      }
      const { perQuery } = scoreRankings(data, rankings);
      assert.deepEqual(of(scores, lexicalWeight).perQuery, perQuery);
    }
    await collection.close();
  });

  it('names no weight where none is better than dense beyond chance', async () => {
    const folder = path.join(projectRoot, 'examples', 'askubuntu-style');
    const encoder = await openEncoder('default');
    const scores = await evaluateHybrid(folder, undefined, encoder);
    await encoder.close();
    assert.equal(scores.best, undefined);
    assert.equal(of(scores, 'dense').comparison.difference, 0);
  });
});
