import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';

import { projectRoot } from '../../base/paths.js';
import { readCandidateLists, scoreBm25Column } from '../../evaluation/askubuntu.js';
import { openEvaluation } from '../../evaluation/open-evaluation.js';
import { at, closeTo, encoderOf, folderWith } from './support.js';

// test: query 1 has both kinds of candidate, 2 only similar ones, 3 none similar. dev: query 4 has both.
const files = {
  'test.txt': '1\t11 13\t11 12 13\t3.5 2.5 1.5\n' + '2\t11 12\t11 12\t2.0 1.0\n' + '3\t\t11 12\t2.0 1.0\n',
  'dev.txt': '4\t12\t11 12 13\t1.0 2.0 2.0\n',
};
const titles: Record<string, number> = { 1: 0, 2: 0, 3: 0, 4: 10, 11: 30, 12: 10, 13: 20 };
const texts = Object.keys(titles)
  .map((id) => `${id}\ttitle ${id}\tbody of ${id}\n`)
  .join('');
const encoder = encoderOf(
  Object.fromEntries(Object.entries(titles).map(([id, angle]) => [`title ${id}`, at(angle)])),
);

describe("the Ask Ubuntu benchmark's BM25 column", () => {
  it('is measured as by hand in all three protocols', async () => {
    const { metrics, counts, perQuery } = await scoreBm25Column('askubuntu:x', await folderWith(files));
    const first = (1 + 2 / 3) / 2; // query 1: similar at ranks 1 and 3
    assert.deepEqual(counts, { queries: 2, 'queries:with-negative': 1, 'queries:mteb': 2 });
    closeTo(metrics.map, (first + 1) / 2);
    closeTo(metrics.mrr, 1);
    closeTo(metrics['p@1'], 1);
    closeTo(metrics['p@5'], (2 / 5 + 2 / 5) / 2);
    closeTo(metrics['map:with-negative'], first);
    // query 4: 12 and 13 tie, and the earlier one is similar.
    closeTo(metrics['map:mteb'], (first + 1) / 2);
    closeTo(metrics['p@5:mteb'], (2 / 5 + 1 / 5) / 2);
    assert.deepEqual(perQuery, { metric: 'map', ids: ['1', '2'], values: Float64Array.of(first, 1) });
  });

  it('needs no test.txt for split dev, and knows no other split', async () => {
    const folder = await folderWith({ 'dev.txt': files['dev.txt'] });
    const { metrics, counts } = await scoreBm25Column('askubuntu:x', folder, 'dev');
    assert.deepEqual(counts, { queries: 1, 'queries:with-negative': 1 });
    closeTo(metrics.map, 1);
    await assert.rejects(scoreBm25Column('askubuntu:x', folder, 'train'), {
      kind: 'usage',
      message: /dev or test/,
    });
  });

  const benchmark = path.join(projectRoot, '../shared/data/askubuntu-lei');
  if (existsSync(benchmark))
    it('has the published figures where the benchmark is at hand', async () => {
      const percent = (fraction: number): string => (100 * fraction).toFixed(2);
      const test = await scoreBm25Column('askubuntu', benchmark, 'test');
      assert.deepEqual(test.counts, { queries: 186, 'queries:with-negative': 179, 'queries:mteb': 361 });
      assert.deepEqual(
        ['map', 'mrr', 'p@1', 'p@5', 'map:with-negative'].map((name) => percent(test.metrics[name])),
        ['55.99', '68.03', '53.76', '42.47', '54.27'],
      );
      const dev = await scoreBm25Column('askubuntu', benchmark, 'dev');
      assert.equal(percent(dev.metrics.map), '52.03');
      assert.equal(percent(dev.metrics['map:with-negative']), '50.19');
    });
});

describe('the Ask Ubuntu benchmark', () => {
  for (const [name, content] of [
    ['text_tokenized.txt', texts],
    ['text_tokenized.txt.gz', gzipSync(texts)],
  ] as const)
    it(`ranks candidates by the cosine of the titles in ${name}`, async () => {
      const evaluation = await openEvaluation(`askubuntu:${await folderWith({ ...files, [name]: content })}`);
      const { metrics, counts } = await evaluation.run(encoder);
      // Candidates by angle: 12, 13, 11. Query 1 finds its two at ranks 2 and 3.
      closeTo(metrics['map:with-negative'], (1 / 2 + 2 / 3) / 2);
      closeTo(metrics['mrr:with-negative'], 1 / 2);
      closeTo(metrics['p@1:with-negative'], 0);
      closeTo(metrics.map, ((1 / 2 + 2 / 3) / 2 + 1) / 2);
      closeTo(metrics['map:mteb'], ((1 / 2 + 2 / 3) / 2 + 1) / 2);
      assert.equal(counts.titles, 7);
      assert.equal(evaluation.primary, 'map');
    });

  it('never reads the test for split dev', async () => {
    const folder = await folderWith({ 'dev.txt': files['dev.txt'], 'text_tokenized.txt': texts });
    const { metrics } = await (await openEvaluation(`askubuntu:${folder}`, { split: 'dev' })).run(encoder);
    closeTo(metrics.map, 1);
    assert.ok(!('map:mteb' in metrics));
  });

  it('says which file is expected where when the texts are missing, and that BM25 needs none', async () => {
    await assert.rejects(openEvaluation(`askubuntu:${await folderWith(files)}`), {
      kind: 'not-found',
      message: /text_tokenized\.txt\.gz: no such file.*id TAB title TAB body.*--method bm25/s,
    });
    await assert.rejects(openEvaluation(`askubuntu:${await folderWith({})}`), {
      kind: 'not-found',
      message: /dev\.txt: no such file; expected the benchmark's dev\.txt and test\.txt/,
    });
  });

  it('names the line of a question that has no text or no title', async () => {
    const without = texts.replace(/^13\t.*\n/m, '');
    await assert.rejects(
      openEvaluation(`askubuntu:${await folderWith({ ...files, 'text_tokenized.txt': without })}`),
      {
        message: /dev\.txt:1: question 13 is not in .*text_tokenized\.txt/,
      },
    );
    const untitled = texts.replace('title 13', '');
    await assert.rejects(
      openEvaluation(`askubuntu:${await folderWith({ ...files, 'text_tokenized.txt': untitled })}`),
      {
        message: /text_tokenized\.txt:7: expected id TAB title TAB body, found no title/,
      },
    );
  });

  const broken: [what: string, line: string, message: RegExp][] = [
    ['too few fields', '1\t11\t11 12\n', /dev\.txt:1: expected query TAB similar ids/],
    ['fewer scores than candidates', '1\t11\t11 12\t1.0\n', /dev\.txt:1: .*found 2 candidates and 1 scores/],
    ['a score that is no number', '1\t11\t11 12\t1.0 x\n', /dev\.txt:1: expected query TAB/],
    ['no candidates', '1\t11\t\t\n', /dev\.txt:1: .*found 0 candidates/],
    ['nothing', '', /dev\.txt: expected queries with similar candidates, found none/],
  ];
  for (const [what, line, message] of broken)
    it(`is refused with file and line: ${what}`, async () => {
      const folder = await folderWith({ 'dev.txt': line });
      await assert.rejects(readCandidateLists(path.join(folder, 'dev.txt')), { message });
    });
});
