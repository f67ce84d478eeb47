import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { readBeirFolder } from '../../evaluation/beir.js';
import { openEvaluation } from '../../evaluation/open-evaluation.js';
import { at, closeTo, encoderOf, folderWith } from './support.js';

const jsonl = (...records: object[]): string =>
  records.map((record) => JSON.stringify(record) + '\n').join('');

const files = {
  'corpus.jsonl': jsonl(
    { _id: 'd1', title: 'zero', text: 'degrees' },
    { _id: 'd2', title: '', text: 'ten' },
    { _id: 'd3', text: 'twenty-five' },
    { _id: 'd4', title: 'forty-five', text: '' },
    { _id: 'q1', text: 'twelve' },
  ),
  'queries.jsonl': jsonl(
    { _id: 'q1', text: 'twelve' },
    { _id: 'q2', text: 'forty-four' },
    { _id: 'q3', text: 'lost' },
    { _id: 'q4', text: 'without links' },
  ),
  'qrels/test.tsv':
    'query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td4\t1\nq1\td3\t0\nq1\tq1\t1\nq2\td4\t1\nq3\tgone\t1\nq4\td1\t0\n',
};
const encoder = encoderOf({
  'zero degrees': at(0),
  ten: at(10),
  'twenty-five': at(25),
  'forty-five': at(45),
  twelve: at(12),
  'forty-four': at(44),
  lost: at(90),
});

describe('a BEIR folder', () => {
  it('is measured as by hand', async () => {
    const evaluation = await openEvaluation(`beir:${await folderWith(files)}`);
    const { metrics, perQuery, counts } = await evaluation.run(encoder);
    // q1, without itself: d2 (2 degrees off), d1 (12), d3 (13), d4 (33): gains 0, 2, 0, 1.
    // q2: d4 first. q3: its only document is not in the corpus.
    const ndcg1 = (2 / Math.log2(3) + 1 / Math.log2(5)) / (2 + 1 / Math.log2(3));
    closeTo(metrics['map@100'], ((1 / 2 + 2 / 4) / 2 + 1 + 0) / 3);
    closeTo(metrics['mrr@10'], (1 / 2 + 1 + 0) / 3);
    closeTo(metrics['ndcg@10'], (ndcg1 + 1 + 0) / 3);
    closeTo(metrics['recall@10'], (1 + 1 + 0) / 3);
    closeTo(metrics['recall@100'], (1 + 1 + 0) / 3);
    assert.deepEqual(perQuery!.ids, ['q1', 'q2', 'q3']);
    assert.deepEqual([...perQuery!.values], [0.5, 1, 0]);
    assert.deepEqual(counts, { documents: 5, queries: 3, links: 4 });
    assert.match(evaluation.notes.join(), /1 links name documents that are not in the corpus/);
  });

  it('cuts recall@10 and mrr@10 at 10, map and recall at 100', async () => {
    const documents = Array.from({ length: 130 }, (_, i) => ({ _id: `d${i}`, text: `${i / 2} degrees` }));
    const folder = await folderWith({
      'corpus.jsonl': jsonl(...documents),
      'queries.jsonl': jsonl({ _id: 'q', text: 'zero' }),
      'qrels/test.tsv': 'q\td10\t1\nq\td99\t1\nq\td100\t1\n',
    });
    const vectors = Object.fromEntries(documents.map(({ text }, i) => [text, at(i / 2)]));
    const { metrics } = await (
      await openEvaluation(`beir:${folder}`)
    ).run(encoderOf({ ...vectors, zero: at(0) }));
    closeTo(metrics['recall@10'], 0);
    closeTo(metrics['mrr@10'], 0);
    closeTo(metrics['ndcg@10'], 0);
    closeTo(metrics['recall@100'], 2 / 3);
    closeTo(metrics['map@100'], (1 / 11 + 2 / 100) / 3);
  });

  it('ranks by direction, whatever the length of the vectors', async () => {
    const folder = await folderWith({
      'corpus.jsonl': jsonl({ _id: 'near', text: 'near' }, { _id: 'far', text: 'far but long' }),
      'queries.jsonl': jsonl({ _id: 'q', text: 'query' }),
      'qrels/test.tsv': 'q\tnear\t1\n',
    });
    const { metrics } = await (
      await openEvaluation(`beir:${folder}`)
    ).run(encoderOf({ near: [1, 0.1], 'far but long': [50, 50], query: [1, 0] }));
    closeTo(metrics['mrr@10'], 1);
  });

  it('encodes a text that occurs twice once, and runs again without reading again', async () => {
    const evaluation = await openEvaluation(`beir:${await folderWith(files)}`);
    const once = encoderOf(Object.fromEntries([...encoder.encoded].map((text) => [text, at(text.length)])));
    const first = await evaluation.run(once);
    assert.deepEqual([...once.encoded].sort(), [...new Set(once.encoded)].sort());
    assert.deepEqual((await evaluation.run(once)).metrics, first.metrics);
  });

  it('refuses vectors with NaN, which a diverged training gives', async () => {
    const evaluation = await openEvaluation(`beir:${await folderWith(files)}`);
    const broken = {
      ...encoder,
      encode: async (texts: readonly string[]) => new Float32Array(2 * texts.length).fill(NaN),
    };
    await assert.rejects(evaluation.run(broken), { kind: 'backend', message: /NaN/ });
  });
});

describe('the split of a BEIR folder', () => {
  const links = 'query-id\tcorpus-id\tscore\nq2\td4\t1\n';
  const two = { ...files, 'qrels/dev.tsv': links };

  it('is test, or what was asked for', async () => {
    const folder = await folderWith(two);
    assert.equal((await readBeirFolder(folder, 'test')).queries.ids.length, 3);
    assert.deepEqual((await readBeirFolder(folder, 'dev')).queries.ids, ['q2']);
    const dev = await openEvaluation(`beir:${folder}`, { split: 'dev' });
    assert.equal((await dev.run(encoder)).counts.queries, 1);
  });

  it('is the only one there, with a note, when it is not the one asked for', async () => {
    const evaluation = await openEvaluation(`beir:${await folderWith(files)}`, { split: 'dev' });
    assert.match(evaluation.notes[0], /dev\.tsv is not there: using .*test\.tsv, the only split/);
  });

  it('is refused with those that there are', async () => {
    await assert.rejects(readBeirFolder(await folderWith(two), 'train'), {
      kind: 'not-found',
      message: /train\.tsv: no such file; --split can be dev, test/,
    });
  });
});

describe('a BEIR folder that is not one', () => {
  const cases: [what: string, change: Record<string, string>, message: RegExp][] = [
    ['a line that is not JSON', { 'corpus.jsonl': '{"_id": "d1", "text": "a"}\nnot json\n' }, /corpus\.jsonl:2: expected a JSON object/],
    ['a number where an id belongs', { 'corpus.jsonl': '{"_id": 1, "text": "a"}\n' }, /corpus\.jsonl:1: expected \{"_id": string/],
    ['null', { 'corpus.jsonl': 'null\n' }, /corpus\.jsonl:1: expected \{"_id": string/],
    ['no text', { 'queries.jsonl': '{"_id": "q1"}\n' }, /queries\.jsonl:1: expected .* found \{"_id": "q1"\}/],
    ['an id twice', { 'corpus.jsonl': jsonl({ _id: 'a', text: 'x' }, { _id: 'a', text: 'y' }) }, /corpus\.jsonl:2: the id "a" is already taken by line 1/],
    ['an empty corpus', { 'corpus.jsonl': '' }, /corpus\.jsonl: expected a JSON object a line, found none/],
    ['a link without score', { 'qrels/test.tsv': 'q1\td1\n' }, /test\.tsv:1: expected query-id TAB corpus-id TAB score/],
    ['a score that is no number', { 'qrels/test.tsv': 'q1\td1\tyes\n' }, /test\.tsv:1: expected query-id/],
    ['a link from an unknown query', { 'qrels/test.tsv': 'query-id\tcorpus-id\tscore\nq9\td1\t1\n' }, /test\.tsv:2: query "q9" is not in/],
    ['links to unknown documents only', { 'qrels/test.tsv': 'q1\tx\t1\n' }, /none of its documents is in/],
    ['no link', { 'qrels/test.tsv': 'query-id\tcorpus-id\tscore\n' }, /test\.tsv: expected links/],
  ]; // prettier-ignore
  for (const [what, change, message] of cases)
    it(`is refused with file and line: ${what}`, async () => {
      await assert.rejects(readBeirFolder(await folderWith({ ...files, ...change }), 'test'), { message });
    });

  it('is refused when a file or the folder is missing', async () => {
    await assert.rejects(
      readBeirFolder(await folderWith({ 'qrels/test.tsv': files['qrels/test.tsv'] }), 'test'),
      {
        kind: 'not-found',
        message: /corpus\.jsonl/,
      },
    );
    await assert.rejects(readBeirFolder(await folderWith({}), 'test'), {
      kind: 'not-found',
      message: /expected a BEIR folder with corpus\.jsonl, queries\.jsonl and qrels\/test\.tsv/,
    });
    await assert.rejects(readBeirFolder('/no/such/folder', 'test'), {
      kind: 'not-found',
      message: /no such folder/,
    });
  });
});

describe('the spec of an evaluation', () => {
  it('is beir:DIR, sts:FILE or askubuntu:DIR', async () => {
    for (const spec of ['mteb:x', 'beir', 'beir:', '', ':x'])
      await assert.rejects(openEvaluation(spec), {
        kind: 'usage',
        message: /expected beir:DIR, sts:FILE or askubuntu:DIR/,
      });
  });
});
