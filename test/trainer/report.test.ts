import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { trainingReport } from '../../trainer/report.js';
import { envelope, smooth, type Point } from '../../trainer/report/series.js';
import { comparisons, exportedStep, verdict } from '../../trainer/report/verdict.js';
import type { Run, StepEntry } from '../../trainer/run-log.js';
import { adaptedRun, adaptEntry, evaluationEntry, finishedRun, startEntry, stepEntry } from './support.js';

const end = finishedRun().end!;

/** A run whose figures go from `before` to `after` at the exported step. */
function runOf(before: Record<string, number>, after: Record<string, number>): Run {
  return finishedRun({ evaluations: [evaluationEntry(0, before), evaluationEntry(100, after)] });
}

describe('whether training helped, in words', () => {
  const said = (run: Run): string[] => [verdict(run).tone, verdict(run).text];

  it('gives the deciding metric before and at the exported step, in percent', () => {
    assert.deepEqual(said(finishedRun()), [
      'good',
      'Training helped: map@100 rose from 44.04 to 45.20 on beir:data/dev.',
    ]);
  });

  it('says to keep the base encoder when nothing got better', () => {
    assert.deepEqual(said(runOf({ 'beir:a': 0.44, 'beir:b': 0.3 }, { 'beir:a': 0.43, 'beir:b': 0.3 })), [
      'bad',
      'Training made it worse: map@100 fell from 44.00 to 43.00 on beir:a; map@100 stayed at 30.00 on beir:b. Keep the base encoder.',
    ]);
  });

  it('does not call a difference what two decimals do not show', () => {
    assert.deepEqual(said(runOf({ 'beir:a': 0.440012 }, { 'beir:a': 0.440049 })), [
      'open',
      'Training changed nothing that was measured: map@100 stayed at 44.00 on beir:a.',
    ]);
  });

  it('gives the interval of a paired bootstrap, and calls nothing a change that may be chance', () => {
    const difference = { spec: 'beir:a', metric: 'map@100', difference: 0.01, p: 0.01 };
    const run = runOf({ 'beir:a': 0.44 }, { 'beir:a': 0.45 });
    const withInterval = (low: number, high: number): Run => ({
      ...run,
      end: { ...end, differences: [{ ...difference, low, high }] },
    });
    assert.deepEqual(said(withInterval(0.004, 0.016)), [
      'good',
      'Training helped: map@100 rose from 44.00 to 45.00 on beir:a (95 % interval of the difference +0.40 to +1.60).',
    ]);
    assert.deepEqual(said(withInterval(-0.001, 0.021)), [
      'open',
      'Training changed nothing beyond chance: map@100 went from 44.00 to 45.00, which may be chance, on beir:a (95 % interval of the difference -0.10 to +2.10).',
    ]);
  });

  it('takes no side when one rose and another fell', () => {
    const mixed = runOf({ 'beir:a': 0.4, 'beir:b': 0.3 }, { 'beir:a': 0.41, 'beir:b': 0.29 });
    assert.deepEqual(said(mixed), [
      'open',
      'Training helped here and hurt there: map@100 rose from 40.00 to 41.00 on beir:a; map@100 fell from 30.00 to 29.00 on beir:b.',
    ]);
    const half = runOf({ 'beir:a': 0.4, 'beir:b': 0.3 }, { 'beir:a': 0.41, 'beir:b': 0.3 });
    assert.match(verdict(half).text, /^Training helped in part: /);
  });

  it('does not know without an evaluation', () => {
    const run = finishedRun({ evaluations: [], end: { ...end, bestStep: 200 } });
    assert.deepEqual(said(run), [
      'open',
      'No evaluation was given (--eval): whether training helped is not known.',
    ]);
    assert.equal(
      exportedStep(run),
      'Step 200, the last one, was exported: there was no evaluation to choose by.',
    );
  });

  it('says that a run collapsed, or has not ended', () => {
    const collapsed = finishedRun({ end: { ...end, reason: 'collapsed', step: 120 } });
    assert.match(verdict(collapsed).text, /^Training collapsed at step 120: .* Nothing was exported/);
    assert.equal(exportedStep(collapsed), 'Nothing was exported.');
    assert.match(
      verdict(finishedRun({ end: undefined })).text,
      /^The run has not ended: step 200 of 200 is done/,
    );
  });

  it('says why that step was exported', () => {
    assert.equal(
      exportedStep(finishedRun()),
      'Step 100 was exported: of the 2 that were evaluated it has the highest map@100 on beir:data/dev. Being chosen by that figure flatters it a little.',
    );
    assert.equal(
      exportedStep(runOf({ 'beir:a': 0.4 }, { 'beir:a': 0.5 })),
      'Step 100 was exported, the only one that was evaluated.',
    );
  });
});

describe('whether adapting helped, in words', () => {
  it('gives the metric with and without the adaptation', () => {
    assert.deepEqual(verdict(adaptedRun(0.452)), {
      tone: 'good',
      text: 'Adapting helped: map@100 rose from 44.04 to 45.20 on beir:data/dev.',
    });
    assert.match(verdict(adaptedRun(0.43)).text, /^Adapting made it worse: .* Keep the base encoder\.$/);
  });

  it('says what was fitted, and whether the difference is beyond chance', () => {
    const fitted =
      'Nothing was trained. Behind the pooling, center,pca=192 was fitted on 12,800 texts: 192 dimensions instead of 384 keep 95.10 % of the variance.';
    assert.equal(
      exportedStep(adaptedRun(0.452)),
      `${fitted} It changes map@100 on beir:data/dev by +1.16, 95 % interval +0.76 to +1.56, p = 0.12.`,
    );
    assert.equal(
      exportedStep(adaptedRun(0.4424)),
      `${fitted} It changes map@100 on beir:data/dev by +0.20, 95 % interval -0.20 to +0.60, p = 0.12, no difference beyond chance.`,
    );
  });

  it('counts both behind a training', () => {
    const run = finishedRun({ adapted: adaptEntry(0.46) });
    assert.equal(
      verdict(run).text,
      'Training and adapting helped: map@100 rose from 44.04 to 46.00 on beir:data/dev.',
    );
    assert.match(exportedStep(run), /^Step 100 was exported: .* Behind the pooling, center,pca=192/);
    assert.deepEqual(
      comparisons(run)[0].columns.map(({ label, result }) => [label, result.metrics['map@100']]),
      [
        ['base encoder', 0.4404],
        ['step 100', 0.452],
        ['step 200', 0.447],
        ['exported (center,pca=192)', 0.46],
      ],
    );
  });
});

describe('before and after', () => {
  it('shows the base encoder, the exported step and the last one', () => {
    const [{ columns }] = comparisons(finishedRun());
    assert.deepEqual(
      columns.map(({ label, result }) => [label, result.metrics['map@100']]),
      [
        ['base encoder', 0.4404],
        ['exported (step 100)', 0.452],
        ['step 200', 0.447],
      ],
    );
  });

  it('shows a step once that is both', () => {
    const [{ columns }] = comparisons(finishedRun({ end: { ...end, bestStep: 200 } }));
    assert.deepEqual(
      columns.map(({ label }) => label),
      ['base encoder', 'exported (step 200)'],
    );
  });

  it('shows what there is of a run that goes on', () => {
    const run = finishedRun({ evaluations: [evaluationEntry(0, { 'beir:a': 0.4 })], end: undefined });
    assert.deepEqual(
      comparisons(run)[0].columns.map(({ label }) => label),
      ['base encoder'],
    );
  });
});

describe('a line', () => {
  it('is smoothed by the mean over its neighbours, fewer at the ends', () => {
    const points: Point[] = [3, 6, 0, 9].map((value, i) => [i + 1, value]);
    assert.deepEqual(smooth(points, 3), [
      [1, 4.5],
      [2, 3],
      [3, 5],
      [4, 4.5],
    ]);
    assert.deepEqual(smooth(points, 1), points);
  });

  it('keeps its spikes when it is thinned out', () => {
    const points: Point[] = Array.from({ length: 20_000 }, (_, i) => [i + 1, Math.sin(i / 1000)]);
    points[12_345][1] = 50;
    points[6_789][1] = -50;
    const thin = envelope(points, 600);
    assert.ok(thin.length <= 600);
    assert.ok(thin.some(([step, value]) => step === 12_346 && value === 50));
    assert.ok(thin.some(([step, value]) => step === 6_790 && value === -50));
    assert.ok(thin.every(([step], i) => i === 0 || step > thin[i - 1][0]));
    assert.deepEqual(envelope(points.slice(0, 600), 600), points.slice(0, 600));
  });
});

describe('the report', () => {
  const page = trainingReport(finishedRun());

  it('is one page that loads nothing and runs nothing', () => {
    assert.match(page, /^<!doctype html>/);
    assert.doesNotMatch(page, /<script|<link|<img|<iframe|@import|url\((?!#)| on\w+=|\b(?:src|href)=/i);
    const addresses = page.match(/https?:[^"' )<]*/g) ?? [];
    assert.deepEqual([...new Set(addresses)], ['http://www.w3.org/2000/svg']);
  });

  it('has the verdict, metrics in percent, signs of collapse, recipe, data and environment', () => {
    for (const text of [
      'Training helped: map@100 rose from 44.04 to 45.20 on beir:data/dev.',
      'Step 100 was exported',
      '5,054 documents, 1,665 queries',
      '54.04', // recall@10 of the base encoder
      '0.988',
      '311.3',
      '<code>minCropWords</code>',
      '2048, 2048, 2048',
      'data/titles.txt',
      '12,800 texts',
      'ab'.repeat(32),
      'a processor',
      '2 min 0 s', // of the whole run
      '1 min 40 s', // of its steps: 200 * 0.5 s
      '>256<', // sentences a second: 2 * 64 in 0.5 s
      '>2,000<', // tokens a second
    ])
      assert.ok(page.includes(text), text);
  });

  it('draws the metrics, loss terms, std, rank, gradient, learning rate and speed', () => {
    const titles = [...page.matchAll(/<figure[\s\S]*?<h3>(.*?)<\/h3>[\s\S]*?<svg[\s\S]*?<\/svg>/g)];
    assert.deepEqual(
      titles.map(([, title]) => title),
      [
        'map@100 on beir:data/dev',
        'Loss',
        'Std of the embeddings',
        'Effective rank',
        'Gradient norm',
        'Learning rate',
        'Speed',
      ],
    );
    for (const name of ['invariance', 'variance', 'covariance'])
      assert.ok(page.includes(`</i>${name}</span>`));
  });

  it('draws each term that has weight in a colour of its own, which the page has', () => {
    const weighted = { vector: 0.4, similarity: 0, variance: 1, covariance: 2, edit: 3, mlm: 4 };
    const steps = [1, 2, 3].map((step) => stepEntry(step, { terms: weighted }));
    const made = trainingReport({ ...finishedRun(), steps });
    const [loss] = /<h3>Loss<\/h3>[\s\S]*?<svg[\s\S]*?<\/svg>/.exec(made)!;
    const legend = [...loss.matchAll(/background: (var\(--line-\d\))"><\/i>(\w+)/g)];
    assert.deepEqual(
      legend.map(([, , name]) => name),
      ['loss', 'vector', 'variance', 'covariance', 'edit', 'mlm'],
    );
    for (const [, color] of legend) {
      assert.ok(made.includes(`${color.slice('var('.length, -1)}: #`), `the page has ${color}`);
      assert.ok(loss.includes(`stroke="${color}"`), `a line has ${color}`);
    }
    assert.equal(new Set(legend.map(([, color]) => color)).size, legend.length);
  });

  it('takes every colour from the page, which follows the reader to light or dark', () => {
    const drawings = page.match(/<svg[\s\S]*?<\/svg>/g)!.join('');
    const colors = new Set([...drawings.matchAll(/(?:fill|stroke)="([^"]*)"/g)].map(([, color]) => color));
    for (const color of colors) assert.match(color, /^(none|var\(--[a-z0-9-]+\)|#000)$/);
    assert.match(page, /prefers-color-scheme: dark/);
  });

  it('shows what users named as text, not as HTML', () => {
    const name = `<b onload='x'>"&`;
    const hostile = trainingReport(
      finishedRun({
        start: startEntry({
          preset: name,
          data: [{ file: name, kind: 'texts', count: 2, sha256: name }],
          base: { name, fingerprint: name, dimensions: 8, layers: 1 },
          environment: { [name]: name },
        }),
        steps: [stepEntry(1, { terms: { [name]: 1 } }), stepEntry(2, { terms: { [name]: 1 } })],
        evaluations: [evaluationEntry(0, { [name]: 0.1 }, name), evaluationEntry(2, { [name]: 0.2 }, name)],
      }),
    );
    assert.doesNotMatch(hostile, /<b |onload='/);
    assert.ok(hostile.includes('&#60;b onload=&#39;x&#39;&#62;&#34;&#38;'));
  });

  it('is made of any run: not begun, without evaluation, of one step, collapsed, with figures missing', () => {
    const missing = { loss: null, std: null } as unknown as Partial<StepEntry>;
    for (const run of [
      finishedRun({ steps: [], evaluations: [], end: undefined }),
      finishedRun({ evaluations: [] }),
      finishedRun({ steps: [stepEntry(1)] }),
      finishedRun({ end: { ...end, reason: 'collapsed' } }),
      finishedRun({ steps: [stepEntry(1), stepEntry(2, missing)] }),
    ])
      assert.doesNotMatch(trainingReport(run), /NaN|undefined|Infinity|null/);
  });

  it('is the same for the same run, and hardly larger for 20,000 steps than for 2,000', () => {
    const run = (steps: number): Run =>
      finishedRun({
        steps: Array.from({ length: steps }, (_, i) => stepEntry(i + 1, { loss: 5 + (i % 7) })),
      });
    assert.equal(trainingReport(run(50)), trainingReport(run(50)));
    const [small, large] = [trainingReport(run(2000)).length, trainingReport(run(20_000)).length];
    assert.ok(large < 1.1 * small, `${small} and ${large} characters`);
  });
});
