import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';

import { openEvaluation } from '../../evaluation/open-evaluation.js';
import { readSentencePairs } from '../../evaluation/sts.js';
import { at, closeTo, encoderOf, folderWith } from './support.js';

async function write(name: string, content: string | Uint8Array): Promise<string> {
  return path.join(await folderWith({ [name]: content }), name);
}
const pairs = {
  first: ['A cat, asleep.', 'He said "no".'],
  second: ['A cat sleeps.', 'A dog runs.'],
  scores: Float64Array.of(4.5, 0),
};

describe('sentence pairs', () => {
  it('come from CSV without a header, as stsb-multi-mt has it', async () => {
    const file = await write(
      'a.csv',
      '"A cat, asleep.",A cat sleeps.,4.5\n"He said ""no"".",A dog runs.,0\n',
    );
    assert.deepEqual(await readSentencePairs(file), pairs);
  });

  it('come from CSV with a header, columns in any order', async () => {
    const rows = '4.5,x,"A cat, asleep.",A cat sleeps.\r\n0,y,"He said ""no"".",A dog runs.\r\n';
    const file = await write('a.csv', `Score,genre,sentence1,sentence2\r\n${rows}`);
    assert.deepEqual(await readSentencePairs(file), pairs);
  });

  it('come from TSV, where a quote is a quote, zipped or not', async () => {
    const text =
      'sentence1\tsentence2\tscore\nA cat, asleep.\tA cat sleeps.\t4.5\nHe said "no".\tA dog runs.\t0\n';
    assert.deepEqual(await readSentencePairs(await write('a.tsv', text)), pairs);
    assert.deepEqual(await readSentencePairs(await write('a.tsv.gz', gzipSync(text))), pairs);
  });

  const broken: [what: string, content: string, message: RegExp][] = [
    [
      'a pair without score',
      'a,b,1\na,b\n',
      /a\.csv:2: expected two sentences and a score .*found 2 fields: a \| b/,
    ],
    ['a score that is no number', 'a,b,1\na,b,high\n', /a\.csv:2: expected two sentences and a score/],
    ['an empty sentence', 'a,b,1\n,b,2\n', /a\.csv:2: expected two sentences/],
    ['an open quote', 'a,b,1\n"a,b,2\n', /a\.csv: expected CSV: /],
    ['nothing', '', /a\.csv: expected at least two sentence pairs, found 0/],
    ['a header only', 'sentence1,sentence2,score\n', /found 0/],
  ];
  for (const [what, content, message] of broken)
    it(`are refused with file and line: ${what}`, async () => {
      await assert.rejects(readSentencePairs(await write('a.csv', content)), { message });
    });

  it('are refused when the file is missing or binary', async () => {
    await assert.rejects(readSentencePairs('/no/such.csv'), { kind: 'not-found', message: /such\.csv/ });
    const binary = Buffer.from([0x50, 0x4b, 0x03, 0x04, 0, 0xff]);
    await assert.rejects(readSentencePairs(await write('a.csv', binary)), { kind: 'malformed' });
  });
});

describe('STS', () => {
  it('correlates the cosine with the score', async () => {
    // Cosines of 0, 30, 60 and 90 degrees: 1, sqrt(3)/2, 1/2, 0.
    const file = await write('a.csv', 'zero,nought,5\nzero,thirty,3\nzero,sixty,4\nzero,ninety,0\n');
    const evaluation = await openEvaluation(`sts:${file}`);
    const vectors = { zero: at(0), nought: at(0), thirty: at(30), sixty: at(60), ninety: at(90) };
    const { metrics, counts, perPair } = await evaluation.run(encoderOf(vectors));
    // Ranks 4, 3, 2, 1 against 4, 2, 3, 1: 1 - 6 * 2 / (4 * 15).
    closeTo(metrics.spearman, 0.8);
    const x = [1, Math.sqrt(3) / 2, 0.5, 0];
    const mx = (1 + Math.sqrt(3) / 2 + 0.5) / 4;
    const dy = [2, 0, 1, -3];
    const xy = x.reduce((sum, value, i) => sum + (value - mx) * dy[i], 0);
    const xx = x.reduce((sum, value) => sum + (value - mx) ** 2, 0);
    closeTo(metrics.pearson, xy / Math.sqrt(xx * 14), 1e-6);
    assert.deepEqual(counts, { pairs: 4, sentences: 5 });
    assert.equal(perPair!.cosine.length, 4);
    assert.equal(evaluation.primary, 'spearman');
  });
});
