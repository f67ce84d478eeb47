import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, readdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { projectRoot } from '../../base/paths.js';
import {
  experiment,
  type ExperimentOptions,
  type ExperimentResult,
} from '../../trainer/experiment/experiment.js';
import type { RunRecord } from '../../trainer/experiment/records.js';
import { readRun } from '../../trainer/log-file.js';
import { removeFolder } from '../support/remove-folder.js';
import { makeTinyModel } from '../support/tiny-model.js';

const CLI = path.join(projectRoot, 'dist/cli/main.js');
const BEIR = path.join(projectRoot, 'examples/askubuntu-style');
const HEAD =
  'about: Does it help?\npreset: vicreg\nsettings: {precision: fp32, batch: 16, expander: [24, 24], checkpointEvery: 10, learningRate: 1.0e-3}\n';

let home: string;
let model: string;
let titles: string;
before(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'experiment-'));
  model = path.join(home, 'tiny');
  await makeTinyModel(model, { maxTokens: 32 });
  titles = path.join(home, 'titles.txt');
  const corpus = (await readFile(path.join(BEIR, 'corpus.jsonl'), 'utf8')).trim().split('\n');
  await writeFile(titles, corpus.map((line) => (JSON.parse(line) as { text: string }).text).join('\n'));
});
after(() => removeFolder(home));

let files = 0;
async function definition(text: string): Promise<string> {
  const file = path.join(home, `experiment-${files++}.yaml`);
  await writeFile(file, HEAD + text);
  return file;
}
const newOut = (): string => path.join(home, `out-${files++}`);

/** @returns what was noted as well */
async function run(
  text: string,
  out: string,
  changes: Partial<ExperimentOptions> = {},
): Promise<ExperimentResult & { notes: string[] }> {
  const notes: string[] = [];
  const result = await experiment({
    file: await definition(text),
    out,
    data: [titles],
    pairs: [],
    evaluations: [`beir:${BEIR}`],
    model,
    only: [],
    keep: 'none',
    command: [process.execPath, CLI],
    onNote: (note) => notes.push(note),
    ...changes,
  });
  return { ...result, notes };
}

async function recordOf(out: string, name: string): Promise<RunRecord> {
  return JSON.parse(await readFile(path.join(out, 'results', `${name}.json`), 'utf8')) as RunRecord;
}

async function lossesOf(out: string, name: string): Promise<number[]> {
  return (await readRun(path.join(out, `${name}.training`, 'log.jsonl'))).steps.map(({ loss }) => loss);
}

describe('an experiment', () => {
  describe('that is done', () => {
    // What a and b-3 share is trained once.
    const text = (mu = 5): string =>
      `seeds: [1, 2]\nreference: a\nruns: {a: {settings: {mu: ${mu}, maxSteps: 3}}, b: {settings: {mu: 5}, grid: {maxSteps: [2, 3]}}}`;
    let out: string;
    let first: Awaited<ReturnType<typeof run>>;
    before(async () => {
      out = newOut();
      await run(text(), out, { seeds: [1], keep: 'all' });
      first = await run(text(), out, { keep: 'all' });
    });

    it('has made every run with every seed, and compares them in a table', async () => {
      assert.deepEqual([first.status, first.failed], ['finished', 0]);
      const names = first.table.rows.map(({ name, seeds }) => `${name} ${seeds.join()}`).sort();
      assert.deepEqual(names, ['a 1,2', 'b-2 1,2', 'b-3 1,2', 'base ']);
      assert.match(
        await readFile(first.files.markdown, 'utf8'),
        /\| b-2 \| 1, 2 \| \d+\.\d\d ± \d+\.\d\d \|/,
      );
      assert.match(await readFile(first.files.html, 'utf8'), /^<!doctype html>/);
      const json = JSON.parse(await readFile(first.files.json, 'utf8')) as unknown;
      assert.deepEqual(json, JSON.parse(JSON.stringify(first.table)));
    });

    it('has trained nothing twice', async () => {
      assert.ok(first.notes.includes('6 runs, 3 of them done before'), first.notes.join('\n'));
      assert.equal(first.notes.filter((note) => note.includes('preset vicreg')).length, 2);
      const [a, b] = [await recordOf(out, 'a-seed1'), await recordOf(out, 'b-3-seed1')];
      assert.deepEqual(a.results, b.results);
      const again = await run(text(), out, { keep: 'all' });
      assert.ok(again.notes.includes('6 runs, 6 of them done before'), again.notes.join('\n'));
      assert.equal(again.markdown, first.markdown);
    });

    it('has what each query scored', async () => {
      const { results, tokens, steps } = await recordOf(out, 'a-seed2');
      const { perQuery, metrics } = results![0];
      assert.equal(perQuery!.values.length, 101);
      const mean = [...perQuery!.values].reduce((sum, value) => sum + value / 101, 0);
      assert.ok(Math.abs(mean - metrics['map@100']) < 1e-9);
      assert.ok(steps === 3 && tokens! > 500);
    });

    it('is not mixed with the results of another definition', async () => {
      await assert.rejects(run(text(6), out), {
        kind: 'invalid',
        message:
          /a-seed\d\.json: expected recipe\.mu 6, found a result with 5; put the experiment back, name another/,
      });
      await assert.rejects(run(text(), out, { evaluations: [`beir:${BEIR}/`] }), {
        kind: 'invalid',
        message: /base\.json: expected evaluations\.0/,
      });
    });

    it('leaves all model folders, the best one or none, and always the logs', async () => {
      const folders = async (): Promise<string[]> =>
        (await readdir(out)).filter((name) => /seed\d$/.test(name)).sort();
      assert.deepEqual(await folders(), ['a-seed1', 'a-seed2', 'b-2-seed1', 'b-2-seed2']);
      await run(text(), out, { keep: 'best' });
      const all = first.table.rows.filter(({ seeds }) => seeds.length > 0);
      const highest = Math.max(...all.flatMap(({ judged }) => judged[0].metrics['map@100'].values));
      const [kept, ...others] = await folders();
      assert.deepEqual(others, []);
      assert.equal((await recordOf(out, kept)).results![0].metrics['map@100'], highest);
      await run(text(), out, { keep: 'none' });
      assert.deepEqual(await folders(), []);
      assert.ok(existsSync(path.join(out, 'a-seed1.training/log.jsonl')));
    });
  });

  it('judges the last weights, or with "select: best" those that the evaluation likes best', async () => {
    const runs = 'seeds: [1]\nruns: {a: {settings: {maxSteps: 12, evaluateEvery: 2, learningRate: 0.01}}}';
    const [last, best] = [newOut(), newOut()];
    await run(runs, last);
    await run(`select: best\n${runs}`, best);
    assert.equal((await recordOf(last, 'a-seed1')).judgedStep, 12);
    const { evaluations } = await readRun(path.join(best, 'a-seed1.training/log.jsonl'));
    const values = evaluations
      .filter(({ step }) => step > 0)
      .map(({ results }) => results[0].metrics['map@100']);
    const judged = await recordOf(best, 'a-seed1');
    assert.equal(judged.judgedStep, 2 * (1 + values.indexOf(Math.max(...values))));
    assert.ok(Math.abs(judged.results![0].metrics['map@100'] - Math.max(...values)) < 0.01);
  });

  it('records a collapse with its step, and goes on with the other runs', async () => {
    const out = newOut();
    const text =
      'seeds: [1]\nruns:\n' +
      '  bad: {settings: {maxSteps: 400, mu: 0, nu: 0, learningRate: 0.01, clip: 0, dropout: 0, collapseStd: 0.5}}\n' +
      '  good: {settings: {maxSteps: 2}}';
    const { table, failed, notes } = await run(text, out);
    const bad = table.rows.find(({ name }) => name === 'bad')!;
    assert.match(bad.failures[0].message, /^collapsed at step \d+: std × √d 0\.\d+, effective rank \d/);
    assert.deepEqual([bad.seeds, failed], [[], 0]);
    assert.deepEqual(table.rows.find(({ name }) => name === 'good')!.seeds, [1]);
    assert.ok(notes.some((note) => note.startsWith('bad-seed1: collapsed at step')));
    // It would collapse again.
    assert.ok((await run(text, out)).notes.includes('2 runs, 2 of them done before'));
  });

  it('tries again what failed for another reason, when that is put right', async () => {
    const out = newOut();
    const runs = (batch: number): string =>
      `seeds: [1]\nruns: {large: {settings: {batch: ${batch}, maxSteps: 2}}, good: {settings: {maxSteps: 2}}}`;
    const first = await run(runs(5000), out);
    assert.equal(first.failed, 1);
    assert.match(first.markdown, /large, seed 1: expected at least 5000 texts or pairs .* found \d+/);
    const second = await run(runs(20), out);
    assert.deepEqual([second.failed, second.table.rows.length], [0, 3]);
  });

  it('says what it needs', async () => {
    const usage = (changes: Partial<ExperimentOptions>, message: RegExp): Promise<void> =>
      assert.rejects(run('seeds: [1]\nruns: {a: {pairs: true}}', newOut(), changes), {
        kind: 'usage',
        message,
      });
    await usage({}, /^a: expected pairs by --pairs FILE, found none/);
    await usage({ evaluations: [] }, /expected --eval/);
    await usage({ data: [] }, /^a: expected texts by --data FILE, found none/);
  });
});

describe('an experiment that is cut off', () => {
  const STEPS = 40;
  const TEXT = `seeds: [1]\nruns: {a: {settings: {maxSteps: ${STEPS}, checkpointEvery: 4}}, b: {settings: {maxSteps: 2}}}`;
  let whole: string;
  before(async () => {
    whole = newOut();
    await run(TEXT, whole);
  });

  async function start(
    out: string,
  ): Promise<{ child: ChildProcess; closed: Promise<unknown[]>; stderr(): string }> {
    const args = [
      'experiment',
      await definition(TEXT),
      '--out',
      out,
      '--data',
      titles,
      '--eval',
      `beir:${BEIR}`,
    ];
    const child = spawn(process.execPath, [CLI, ...args, '--model', model], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let stderr = '';
    child.stderr!.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    // Asked for at once: a process that has ended says so only once.
    const closed = once(child, 'close');
    while (!existsSync(path.join(out, 'a-seed1.training/checkpoint.json'))) {
      assert.equal(child.exitCode, null, stderr);
      await sleep(10);
    }
    return { child, closed, stderr: () => stderr };
  }

  async function isWhole(out: string): Promise<void> {
    const { table } = await run(TEXT, out);
    assert.deepEqual(await lossesOf(out, 'a-seed1'), await lossesOf(whole, 'a-seed1'));
    for (const name of ['a-seed1', 'b-seed1']) {
      const [one, other] = [await recordOf(out, name), await recordOf(whole, name)];
      assert.deepEqual(one.results![0].perQuery, other.results![0].perQuery);
      assert.equal(one.tokens, other.tokens);
    }
    assert.equal(table.rows.length, 3);
  }

  it('by Ctrl-C stops with a checkpoint, says how to go on, and has the same results then', async () => {
    const out = newOut();
    const { child, closed, stderr } = await start(out);
    child.kill('SIGINT');
    assert.deepEqual(await closed, [1, null]);
    assert.match(stderr(), /stopping behind this step.*stopped; the same command goes on/s);
    assert.equal((await recordOf(out, 'a-seed1')).status, 'begun');
    const made = (await lossesOf(out, 'a-seed1')).length;
    assert.ok(made > 0 && made < STEPS, `${made} steps`);
    await isWhole(out);
  });

  it('by kill -9 leaves a training that stops by itself, and has the same results then', async () => {
    const out = newOut();
    const { child, closed } = await start(out);
    child.kill('SIGKILL');
    await closed;
    await isWhole(out);
  });
});
