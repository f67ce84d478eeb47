import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import type { PlannedRun } from '../../trainer/experiment/plan.js';
import { markdownReport } from '../../trainer/experiment/markdown.js';
import type { JudgedResult, RunRecord } from '../../trainer/experiment/records.js';
import { experimentReport } from '../../trainer/experiment/report.js';
import { sweepsOf } from '../../trainer/experiment/sweeps.js';
import {
  experimentTable,
  figure,
  type ExperimentTable,
  type TableInput,
} from '../../trainer/experiment/table.js';
import { startEntry } from './support.js';

/** Queries with these values of average precision, whose mean is map@100. */
function ranked(...values: number[]): JudgedResult {
  const map = values.reduce((sum, value) => sum + value, 0) / values.length;
  return {
    spec: 'beir:dev',
    primary: 'map@100',
    metrics: { 'map@100': map, 'recall@10': map / 2 },
    counts: { queries: values.length },
    seconds: 1,
    perQuery: { metric: 'map@100', ids: values.map((_, i) => `q${i}`), values: Float64Array.from(values) },
    diagnostics: { std: 0.9, meanCosine: 0.1, effectiveRank: 100 },
  };
}

function record(
  run: string,
  seed: number,
  results: JudgedResult[],
  changes: Partial<RunRecord> = {},
): RunRecord {
  const { recipe } = startEntry();
  return {
    run,
    seed,
    identity: {
      ...{ base: 'ab', preset: 'vicreg', recipe, train: true, data: [], pairs: [], select: 'last' },
      evaluations: ['beir:dev'],
    },
    status: 'finished',
    results,
    ...{ steps: 10, tokens: 1000 * seed, seconds: 2 },
    ...changes,
  };
}

function planned(name: string, values: Record<string, string> = {}): PlannedRun {
  const family = name.split('-')[0];
  return { name, family, values, preset: 'vicreg', settings: [], data: true, pairs: false, train: true };
}

const BASE = [ranked(0.5, 0.5, 0.5, 0.5)];

function tableOf(changes: Partial<TableInput> = {}): ExperimentTable {
  return experimentTable({
    about: 'Does it help?',
    model: 'tiny',
    reference: 'worse',
    runs: [planned('worse'), planned('better')],
    base: BASE,
    records: [
      record('better', 2, [ranked(0.9, 0.7, 0.6, 0.6)]),
      record('better', 1, [ranked(0.7, 0.7, 0.6, 0.8)]),
      record('worse', 1, [ranked(0.4, 0.4, 0.4, 0.4)]),
    ],
    ...changes,
  });
}

const close = (found: number | undefined, expected: number): void =>
  assert.ok(found !== undefined && Math.abs(found - expected) < 1e-12, `${found}, expected ${expected}`);

describe('a figure over seeds', () => {
  it('is mean and sample standard deviation: of 2, 4, 4, 6 these are 4 and the root of 8/3', () => {
    const { mean, std } = figure([2, 4, 4, 6]);
    assert.equal(mean, 4);
    close(std, Math.sqrt(8 / 3));
  });
  it('has no deviation of a single seed', () => {
    assert.deepEqual(figure([2]), { mean: 2, values: [2] });
  });
});

describe('the table of an experiment', () => {
  it('has the runs and the base encoder, best first', () => {
    assert.deepEqual(
      tableOf().rows.map(({ name, seeds }) => [name, seeds]),
      [
        ['better', [1, 2]],
        ['base', []],
        ['worse', [1]],
      ],
    );
  });

  it('compares with the base and the reference query by query, a query with its mean over the seeds', () => {
    const [better, base, worse] = tableOf().rows.map(({ judged }) => judged[0]);
    close(better.metrics['map@100'].mean, 0.7);
    close(better.metrics['map@100'].std, 0);
    close(better.toBase!.difference, 0.2);
    close(better.toReference!.difference, 0.3);
    // Queries' means are 0.8, 0.7, 0.6, 0.7: no resample is at or below the base's 0.5.
    assert.ok(better.toBase!.low > 0.1 && better.toBase!.high < 0.3 && better.toBase!.p < 0.001);
    close(worse.toBase!.difference, -0.1);
    assert.equal(worse.toReference, undefined);
    assert.equal(base.toBase, undefined);
    close(base.toReference!.difference, 0.1);
  });

  it('has the cost of the training, the mean over the seeds of what is known', () => {
    const records = [record('better', 1, BASE, { cpuSeconds: 4 }), record('better', 3, BASE)];
    const { cost } = tableOf({ records }).rows.find(({ name }) => name === 'better')!;
    assert.deepEqual(cost, { steps: 10, tokens: 2000, seconds: 2, cpuSeconds: 4 });
  });

  it('names what collapsed or failed, behind all that have figures, and leaves out what has not begun', () => {
    const failed: Partial<RunRecord> = {
      status: 'collapsed',
      results: undefined,
      message: 'collapsed at step 4',
    };
    const table = tableOf({
      runs: [planned('worse'), planned('better'), planned('later'), planned('going')],
      records: [
        record('better', 1, [], failed),
        record('worse', 1, [ranked(0.1, 0.1, 0.1, 0.1)]),
        record('worse', 2, [], failed),
        record('going', 1, [], { status: 'begun', results: undefined }),
      ],
    });
    assert.deepEqual(
      table.rows.map(({ name, seeds, failures }) => [name, seeds, failures.map(({ seed }) => seed)]),
      [
        ['base', [], []],
        ['worse', [1], [2]],
        ['better', [], [1]],
      ],
    );
    const text = markdownReport(table);
    assert.match(
      text,
      /## Collapsed or failed\n\n- worse, seed 2: collapsed at step 4\n- better, seed 1: collapsed/,
    );
    assert.doesNotMatch(text, /NaN|undefined|\| better/);
    assert.doesNotMatch(experimentReport(table), /NaN|undefined|Infinity/);
  });

  it('reads as Markdown, in percent', () => {
    const lines = markdownReport(tableOf()).split('\n');
    assert.equal(lines[0], '# Does it help?');
    const row = (name: string): string[] =>
      lines
        .find((line) => line.startsWith(`| ${name} `))!
        .split('|')
        .map((cell) => cell.trim());
    assert.deepEqual(row('run').slice(1, 6), ['run', 'seeds', 'map@100', 'to base', 'to worse']);
    const better = row('better');
    assert.deepEqual(better.slice(1, 4), ['better', '1, 2', '70.00 ± 0.00']);
    assert.match(better[4], /^\+20\.00 \[\+1\d\.\d\d, \+2\d\.\d\d\], p = 0\.0002$/);
    assert.deepEqual(better.slice(6, 9), ['35.00 ± 0.00', '0.900', '100.0']);
    assert.deepEqual(row('base').slice(1, 5), ['base', '', '50.00', '']);
  });
});

describe('the page of an experiment', () => {
  const grid = ['8', '64', '16'].map((batch) => planned(`batch-${batch}`, { batch }));
  const table = tableOf({
    runs: [planned('worse'), ...grid],
    records: grid.map(({ name }, i) => record(name, 1, [ranked(0.6 + i / 10, 0.5, 0.5, 0.5)])),
  });

  it('loads nothing and runs nothing, and draws every run and every grid', () => {
    const page = experimentReport(table);
    assert.match(page, /^<!doctype html>/);
    assert.doesNotMatch(page, /<script|<link|<img|<iframe|@import|url\((?!#)| on\w+=|\b(?:src|href)=/i);
    assert.deepEqual([...new Set(page.match(/https?:[^"' )<]*/g))], ['http://www.w3.org/2000/svg']);
    assert.equal(page.match(/<svg/g)!.length, 2);
    for (const text of ['batch-8', 'batch: map@100 over batch', '>64<', '>base<'])
      assert.ok(page.includes(text), text);
    const drawings = page.match(/<svg[\s\S]*?<\/svg>/g)!.join('');
    for (const [, color] of drawings.matchAll(/(?:fill|stroke)="([^"]*)"/g))
      assert.match(color, /^(none|transparent|var\(--[a-z0-9-]+\)|#000)$/);
  });

  it('draws a grid over the numbers in their order, a line for each combination of the other settings', () => {
    const [{ key, values, lines }] = sweepsOf(table.rows, 0, 'map@100');
    assert.deepEqual([key, values], ['batch', ['8', '16', '64']]);
    assert.deepEqual(
      lines.map(({ label, figures }) => [label, figures.map((found) => found!.mean.toFixed(3))]),
      [['', ['0.525', '0.575', '0.550']]],
    );
    const two = ['8,1', '8,5', '16,1'].map((pair) => {
      const [batch, mu] = pair.split(',');
      return planned(`two-${batch}-${mu}`, { batch, mu });
    });
    const rows = tableOf({
      runs: two,
      records: two.map(({ name }) => record(name, 1, BASE)),
      reference: undefined,
    }).rows;
    const over = sweepsOf(rows, 0, 'map@100').find((sweep) => sweep.key === 'batch')!;
    assert.deepEqual(
      over.lines.map(({ label, figures }) => [label, figures.map((found) => found !== undefined)]),
      [
        ['mu=1', [true, true]],
        ['mu=5', [true, false]],
      ],
    );
  });

  it('does not draw a grid over what is no number', () => {
    const crops = ['same,word-crop', 'word-crop'].map((views) => planned(`crop-${views}`, { views }));
    const { rows } = tableOf({
      runs: crops,
      records: crops.map(({ name }) => record(name, 1, BASE)),
      reference: undefined,
    });
    assert.deepEqual(sweepsOf(rows, 0, 'map@100'), []);
  });
});
