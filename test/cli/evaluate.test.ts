import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

import { projectRoot } from '../../base/paths.js';
import { makeTinyModel } from '../support/tiny-model.js';

const main = fileURLToPath(new URL('../../cli/main.js', import.meta.url));
const beir = path.join(projectRoot, 'examples', 'askubuntu-style');

let folder: string;
let model: string;
let other: string;
let sts: string;
let askubuntu: string;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'evaluate-'));
  [model, other, sts, askubuntu] = ['tiny', 'other', 'pairs.csv', ''].map((name) => path.join(folder, name));
  await makeTinyModel(model);
  await makeTinyModel(other, { seed: 2 });
  await writeFile(sts, 'the disk,the drive,4\nno sound,no network,1\nboot error,boot fail,5\nusb,python,0\n');
  await writeFile(path.join(folder, 'dev.txt'), '1\t11\t11 12\t2.0 1.0\n');
  await writeFile(path.join(folder, 'test.txt'), '2\t12\t11 12\t2.0 1.0\n');
});
after(() => rm(folder, { recursive: true, force: true }));

function evaluate(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const env = { ...process.env, SENTENCE_JEPA_CACHE: path.join(folder, 'cache') };
  return new Promise((resolve) => {
    execFile(process.execPath, [main, 'evaluate', ...args], { env }, (error, stdout, stderr) =>
      resolve({ code: error ? Number(error.code) : 0, stdout, stderr }),
    );
  });
}

describe('sentence-jepa evaluate', () => {
  it('prints one JSON object with --json, metrics as fractions, at the top and by evaluation', async () => {
    const { code, stdout } = await evaluate('--model', model, '--beir', beir, '--sts', sts, '--json');
    assert.equal(code, 0);
    assert.equal(stdout.trim().split('\n').length, 1);
    const report = JSON.parse(stdout);
    assert.equal(report.model, 'tiny');
    assert.match(report.fingerprint, /^[0-9a-f]{64}$/);
    const [retrieval, similarity] = report.evaluations;
    assert.equal(retrieval.spec, `beir:${beir}`);
    assert.equal(similarity.spec, `sts:${sts}`);
    for (const name of ['map@100', 'mrr@10', 'ndcg@10', 'recall@10', 'recall@100']) {
      assert.equal(report[name], retrieval.metrics[name]);
      assert.ok(report[name] > 0 && report[name] < 1, name);
    }
    assert.equal(report.spearman, similarity.metrics.spearman);
    assert.equal(report.pearson, similarity.metrics.pearson);
    const { std, meanCosine, effectiveRank } = retrieval.diagnostics;
    assert.ok(std > 0 && meanCosine < 1 && effectiveRank > 1 && effectiveRank <= 32);
    assert.equal(report.compare, undefined);
  });

  it('leaves a metric that two evaluations measure to the evaluations', async () => {
    const { stdout } = await evaluate('--model', model, '--sts', sts, sts, '--json');
    const report = JSON.parse(stdout);
    assert.equal(report.evaluations.length, 2);
    assert.equal(report.spearman, undefined);
  });

  it('prints percent for people', async () => {
    const { code, stdout } = await evaluate('--model', model, '--sts', sts);
    assert.equal(code, 0);
    assert.match(stdout, /^tiny \(32 dimensions, \d+ tokens, fingerprint [0-9a-f]{12}\)/);
    assert.match(stdout, /spearman +-?\d+\.\d\d\n/);
    assert.match(stdout, /effective rank +\d+\.\d\n/);
  });

  it('finds no difference between a model and itself', async () => {
    const { stdout } = await evaluate('--model', model, '--beir', beir, '--compare', model, '--json');
    const { metric, difference, low, high, p } = JSON.parse(stdout).compare.differences[0];
    assert.deepEqual([metric, difference, low, high, p], ['map@100', 0, 0, 0, 1]);
  });

  it('compares two models named after --compare, the first minus the second', async () => {
    const args = ['--beir', beir, '--sts', sts, '--compare', model, other];
    const json = JSON.parse((await evaluate(...args, '--json')).stdout);
    assert.deepEqual([json.model, json.compare.model], ['tiny', 'other']);
    const [retrieval, similarity] = json.compare.differences;
    const other100 = json.compare.evaluations[0].metrics['map@100'];
    assert.ok(Math.abs(retrieval.difference - (json['map@100'] - other100)) < 1e-12);
    assert.ok(retrieval.low <= retrieval.difference && retrieval.difference <= retrieval.high);
    assert.equal(similarity.metric, 'spearman');
    const { stdout } = await evaluate(...args);
    assert.match(stdout, /A: tiny .*\nB: other /);
    assert.match(stdout, /map@100, A - B: [+-]\d+\.\d\d, 95 % interval [+-].* to [+-].*, p = /);
  });

  it("measures Ask Ubuntu's BM25 column with no model and no texts", async () => {
    const { code, stdout } = await evaluate('--method', 'bm25', '--askubuntu', askubuntu, '--json');
    assert.equal(code, 0);
    const report = JSON.parse(stdout);
    assert.equal(report.model, 'bm25');
    assert.equal(report.map, 0.5);
    assert.equal(report['map:mteb'], 0.75);
    const dev = await evaluate('--method', 'bm25', '--askubuntu', askubuntu, '--split', 'dev');
    assert.match(dev.stdout, /map +100\.00/);
  });

  it('says on stderr when the split is another than asked for', async () => {
    const { code, stdout, stderr } = await evaluate(
      '--model',
      model,
      '--beir',
      beir,
      '--split',
      'dev',
      '--json',
    );
    assert.equal(code, 0);
    assert.match(stderr, /note: .*dev\.tsv is not there: using .*test\.tsv/);
    JSON.parse(stdout);
  });

  it('measures hybrid search, as a table and as JSON', async () => {
    const args = ['--model', model, '--beir', beir, '--hybrid'];
    const { code, stdout } = await evaluate(...args);
    assert.equal(code, 0);
    assert.match(stdout, /^tiny on beir:.* {2}\(276 documents, 101 queries; .* s\)$/m);
    assert.match(stdout, /^ {2}lexical +\d+\.\d\d +\d+\.\d\d +\d+\.\d\d {2}[+-]\d+\.\d\d \(/m);
    const report = JSON.parse((await evaluate(...args, '--json')).stdout);
    const [dense, lexical, ...hybrid] = report.methods;
    assert.deepEqual([dense.mode, lexical.mode, report.counts.queries], ['dense', 'lexical', 101]);
    assert.ok(lexical.metrics['map@100'] > dense.metrics['map@100'], 'a tiny encoder knows nothing');
    assert.ok(
      hybrid.some((at: { lexical_weight: number }) => at.lexical_weight === report.best_lexical_weight),
    );
    assert.ok(stdout.includes(`Best: --lexical-weight ${report.best_lexical_weight}.`));
  });

  const misused: [args: () => string[], message: RegExp][] = [
    [() => ['--model', model], /nothing to measure: expected --beir DIR, --sts FILE or --askubuntu DIR/],
    [() => ['--sts', sts, '--compare', model], /compare with which model\?/],
    [() => ['--sts', sts, '--compare', 'a', 'b', 'c'], /a comparison takes two models, found 3: a, b, c/],
    [() => ['--method', 'bm25', '--sts', sts], /--method bm25 takes --askubuntu DIR/],
    [() => ['--method', 'bm25', '--askubuntu', askubuntu, '--split', 'train'], /--split can be dev or test/],
    [() => ['--hybrid', '--sts', sts], /--hybrid takes one --beir DIR/],
    [() => ['--hybrid', '--beir', beir, '--compare', model], /--hybrid takes one --beir DIR/],
    [() => ['--method', 'tfidf'], /Allowed choices are cosine, bm25/],
  ];
  for (const [args, message] of misused)
    it(`ends with 2 for bad usage: ${message.source}`, async () => {
      const { code, stdout, stderr } = await evaluate(...args());
      assert.equal(code, 2);
      assert.equal(stdout, '');
      assert.match(stderr, message);
    });

  const failing: [args: () => string[], message: RegExp][] = [
    [() => ['--model', model, '--beir', '/no/such/folder'], /^error: \/no\/such\/folder: no such folder\n$/],
    [() => ['--model', model, '--sts', main], /main\.js:1: expected two sentences and a score/],
    [() => ['--model', model, '--askubuntu', askubuntu], /text_tokenized\.txt\.gz: no such file/],
    [() => ['--model', path.join(folder, 'none'), '--sts', sts], /none/],
  ];
  for (const [args, message] of failing)
    it(`ends with 1 and one message: ${message.source}`, async () => {
      const { code, stdout, stderr } = await evaluate(...args());
      assert.equal(code, 1);
      assert.equal(stdout, '');
      assert.match(stderr, message);
      assert.doesNotMatch(stderr, /\n {4}at /);
    });

  it('shows examples with --help', async () => {
    const { code, stdout } = await evaluate('--help');
    assert.equal(code, 0);
    assert.match(stdout, /Examples:\n {2}sentence-jepa evaluate --beir/);
  });
});
