import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout } from 'node:timers/promises';

import { projectRoot } from '../../base/paths.js';
import { runFolderOf } from '../../base/run-folder.js';
import { lockRun } from '../../base/run-lock.js';
import { loadWeights, openModelFolder } from '../../encoder/model-folder.js';
import { openEncoder } from '../../encoder/open-encoder.js';
import type { Tensor } from '../../encoder/safetensors.js';
import { verifyModel } from '../../encoder/verify.js';
import { finetune, type FinetuneOptions, type FinetuneResult } from '../../trainer/finetune.js';
import type { StepEntry } from '../../trainer/run-log.js';
import { loadTensorFlow } from '../../trainer/tensorflow/load.js';
import { DEFAULT_PRESET } from '../../trainer/presets.js';
import { removeFolder } from '../support/remove-folder.js';
import { makeTinyModel } from '../support/tiny-model.js';
import { keepEnvironment } from '../support/environment.js';

const CLI = path.join(projectRoot, 'dist/cli/main.js');
const BEIR = path.join(projectRoot, 'examples/askubuntu-style');
/** What stays in a run's folder. */
const LEFT = ['.lock', 'log.jsonl', 'report.html', 'tensorboard'];

let home: string;
let base: string;
let titles: string;

before(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'finetune-'));
  base = path.join(home, 'base');
  await makeTinyModel(base, { maxTokens: 32 });
  titles = path.join(home, 'titles.txt');
  const corpus = (await readFile(path.join(BEIR, 'corpus.jsonl'), 'utf8')).trim().split('\n');
  await writeFile(titles, corpus.map((line) => (JSON.parse(line) as { text: string }).text).join('\n'));
});
after(() => removeFolder(home));

let outs = 0;
const newOut = (): string => path.join(home, `out-${outs++}`);

const QUICK = [
  'expander=24,24',
  'evaluateEvery=4',
  'checkpointEvery=3',
  'batch=16',
  'maxSteps=8',
  'learningRate=1e-3',
  'precision=fp32',
];

function run(changes: Partial<FinetuneOptions> = {}): Promise<FinetuneResult> {
  return finetune({
    base: { dir: base, name: 'tiny' },
    out: newOut(),
    data: [titles],
    pairs: [],
    preset: 'vicreg',
    evaluations: [],
    resume: false,
    onNote() {},
    ...changes,
    settings: [...QUICK, ...(changes.settings ?? [])],
  });
}

/** The first 40 titles, each with one of the next 40. */
async function writePairs(name: string): Promise<string> {
  const lines = readFileSync(titles, 'utf8').split('\n');
  const pairs = lines.slice(0, 40).map((line, i) => `${line}\t${lines[i + 40]}`);
  const file = path.join(home, name);
  await writeFile(file, pairs.join('\n'));
  return file;
}

const losses = ({ run: { steps } }: FinetuneResult): number[] => steps.map(({ loss }) => loss);

describe('a fine-tuning', () => {
  it('makes a model folder that is whole, serves, and says how it was made', async () => {
    const out = newOut();
    const result = await run({ out, evaluations: [`beir:${BEIR}`] });
    assert.equal(result.status, 'finished');
    const folder = await openModelFolder(out);
    assert.deepEqual((await verifyModel(folder)).problems, []);
    assert.deepEqual([folder.pooling, folder.maxTokens, folder.normalize], ['mean', 32, true]);
    const encoder = await openEncoder(out);
    assert.equal((await encoder.encode(['how do i install a package'])).length, 32);
    await encoder.close();

    const made = JSON.parse(await readFile(path.join(out, 'sentence-jepa.json'), 'utf8')) as Record<
      string,
      never
    >;
    assert.equal(made['bestStep'], result.step);
    assert.equal((made['recipe'] as { batch: number }).batch, 16);
    assert.equal((made['before'] as unknown[]).length, 1);
    assert.equal(JSON.stringify(made).includes(home), false, 'folders of the one who trained');
    assert.equal((made['after'] as unknown[]).length, 1);
    assert.match(await readFile(path.join(out, 'README.md'), 'utf8'), /^---\n/);
  });

  it('keeps log, TensorBoard events and report beside it, and no checkpoint once it is done', async () => {
    const out = newOut();
    const { report } = await run({ out });
    assert.deepEqual((await readdir(runFolderOf(out))).sort(), LEFT);
    assert.match(await readFile(report, 'utf8'), /^<!doctype html>/i);
    assert.match((await readdir(path.join(runFolderOf(out), 'tensorboard'))).join(), /tfevents/);
  });

  it('with averaged weights exports the average, and goes on from a checkpoint exactly', async () => {
    const settings = ['averageDecay=0.9', 'targetEncoder=average', 'baseShare=0.3'];
    const whole = newOut();
    const { run: made } = await run({ out: whole, settings });
    const out = newOut();
    const stop = new AbortController();
    await run({ out, settings, signal: stop.signal, onStep: ({ step }) => step === 5 && stop.abort() });
    const resumed = await run({ out, settings, resume: true });
    assert.deepEqual(
      resumed.run.steps.map(({ loss }) => loss),
      made.steps.map(({ loss }) => loss),
    );
    const weights = async (dir: string): Promise<ReadonlyMap<string, Tensor>> =>
      loadWeights(await openModelFolder(dir));
    const found = await weights(whole);
    assert.deepEqual(await weights(out), found);
    const plain = newOut();
    await run({ out: plain, settings: ['averageDecay=0.9', 'targetEncoder=average'] });
    const [start, average] = [await weights(base), await weights(plain)];
    const name = 'encoder.layer.0.output.dense.weight';
    const mixed = average.get(name)!.data.map((value, i) => value + 0.3 * (start.get(name)!.data[i] - value));
    found.get(name)!.data.forEach((value, i) => assert.ok(Math.abs(value - mixed[i]) < 1e-6));
    assert.notDeepEqual(found.get(name)!.data, start.get(name)!.data);
  });

  it('with the last steps averaged exports their average, and goes on from a checkpoint exactly', async () => {
    const exported = async (options: Partial<FinetuneOptions>): Promise<Float32Array> => {
      const out = options.out ?? newOut();
      await run({ ...options, out });
      return (await loadWeights(await openModelFolder(out))).get('encoder.layer.0.output.dense.weight')!.data;
    };
    const settings = ['averageLast=0.5'];
    const whole = await exported({ settings });
    // Of eight steps, the fifth is the first that counts.
    const out = newOut();
    const stop = new AbortController();
    await run({ out, settings, signal: stop.signal, onStep: ({ step }) => step === 7 && stop.abort() });
    assert.deepEqual(await exported({ out, settings, resume: true }), whole);
    const last = await exported({});
    assert.notDeepEqual(whole, last);
    // Of the last one alone, up to a rounding.
    const one = await exported({ settings: ['averageLast=0.001'] });
    one.forEach((value, i) => assert.ok(Math.abs(value - last[i]) < 1e-7));
  });

  it('with hard negatives has a higher loss, and goes on from a checkpoint exactly', async () => {
    const hard = {
      preset: 'infonce',
      settings: ['hardNegatives=2', 'views=same,word-crop', 'maxSteps=6', 'learningRate=1e-6'],
    };
    const [whole, easy] = [
      await run(hard),
      await run({ ...hard, settings: ['hardNegatives=0', ...hard.settings.slice(1)] }),
    ];
    const sum = (made: FinetuneResult): number => losses(made).reduce((total, loss) => total + loss, 0);
    assert.ok(sum(whole) > sum(easy), `${sum(whole)} with hard negatives, ${sum(easy)} without`);
    const out = newOut();
    const stop = new AbortController();
    await run({ ...hard, out, signal: stop.signal, onStep: ({ step }) => step === 4 && stop.abort() });
    assert.deepEqual(losses(await run({ ...hard, out, resume: true })), losses(whole));
  });

  it('has the same losses for the same seed, and others for another', async () => {
    const [first, again, other] = [await run(), await run(), await run({ settings: ['seed=2'] })];
    assert.equal(first.run.steps.length, 8);
    assert.deepEqual(losses(first), losses(again));
    assert.notDeepEqual(losses(first), losses(other));
  });

  it('ends with the step that reaches a number of tokens, whatever the batch', async () => {
    for (const batch of [8, 32]) {
      const { steps } = (await run({ settings: [`batch=${batch}`, 'tokens=3000'] })).run;
      const tokens = steps.reduce((sum, step) => sum + step.tokens, 0);
      assert.ok(tokens >= 3000 && tokens - steps.at(-1)!.tokens < 3000, `${tokens} in ${steps.length} steps`);
    }
  });

  it('learns: views that differ by dropout alone come together, and texts apart', async () => {
    const found = losses(await run({ settings: ['maxSteps=120', 'views=same', 'learningRate=0.01'] }));
    const mean = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
    assert.ok(mean(found.slice(-10)) < 0.7 * mean(found.slice(0, 10)), found.join(' '));
  });

  it('exports the weights of the step that the first evaluation likes best', async () => {
    const { run: made, step } = await run({ evaluations: [`beir:${BEIR}`], settings: ['evaluateEvery=2'] });
    const trained = made.evaluations.filter((entry) => entry.step > 0);
    assert.deepEqual(
      trained.map((entry) => entry.step),
      [2, 4, 6, 8],
    );
    const valueOf = (entry: (typeof trained)[number]): number => entry.results[0].metrics['map@100'];
    const best = Math.max(...trained.map(valueOf));
    assert.equal(step, trained.find((entry) => valueOf(entry) === best)!.step);
  });

  it('says how far the exported weights are from the first ones, by a paired bootstrap', async () => {
    const out = newOut();
    const { run: made } = await run({ out, evaluations: [`beir:${BEIR}`] });
    const [found] = made.end!.differences!;
    const at = (step: number): number =>
      made.evaluations.find((entry) => entry.step === step)!.results[0].metrics['map@100'];
    assert.ok(Math.abs(found.difference - (at(made.end!.bestStep) - at(0))) < 1e-12);
    assert.ok(found.low <= found.difference && found.difference <= found.high);
    assert.equal(found.metric, 'map@100');
    assert.ok(made.end!.cpuSeconds! > 0 && made.end!.peakMemory! > 1e6);
    // What each query gave is for the log alone.
    assert.doesNotMatch(await readFile(path.join(out, 'sentence-jepa.json'), 'utf8'), /perQuery/);
    assert.match(await readFile(path.join(out, 'README.md'), 'utf8'), /95 % interval/);
  });

  it('exports nothing that is not better beyond chance, when only that is wanted', async () => {
    const out = newOut();
    // A rate of almost nothing: the same weights, but for the last digits.
    const settings = ['learningRate=1e-12', 'maxSteps=2'];
    const result = await run({ out, settings, evaluations: [`beir:${BEIR}`], keepIfBetter: true });
    assert.equal(result.status, 'no-better');
    assert.equal(existsSync(out), false);
    assert.deepEqual((await readdir(runFolderOf(out))).sort(), LEFT);
    await assert.rejects(run({ keepIfBetter: true }), { kind: 'usage', message: /expected --eval/ });
  });

  it('stops when the evaluation has not got better for as long as it was told to wait', async () => {
    const settings = ['learningRate=1e-12', 'maxSteps=8', 'evaluateEvery=1', 'patience=2'];
    const result = await run({ settings, evaluations: [`beir:${BEIR}`] });
    assert.equal(result.status, 'finished');
    // The first one is the best so far; two more are no better.
    assert.equal(result.run.end!.step, 3);
    assert.equal(result.step, 1);
    await assert.rejects(run({ settings: ['patience=2'] }), { kind: 'usage', message: /expected --eval/ });
  });

  it('moves a layer less than the one above it, and the embeddings least, by layerDecay', async () => {
    const movedBy = async (layerDecay: number): Promise<(name: string) => number> => {
      const out = newOut();
      await run({ out, settings: [`layerDecay=${layerDecay}`, 'weightDecay=0'] });
      const [after, before] = await Promise.all(
        [out, base].map(async (dir) => loadWeights(await openModelFolder(dir))),
      );
      return (name) =>
        Math.max(...after.get(name)!.data.map((value, i) => Math.abs(value - before.get(name)!.data[i])));
    };
    const [words, first, last] = [
      'embeddings.word_embeddings.weight',
      'encoder.layer.0.output.dense.weight',
      'encoder.layer.1.output.dense.weight',
    ];
    const [alike, decayed] = [await movedBy(1), await movedBy(0.01)];
    // Adam's steps are about as long as the rate, whatever the gradient.
    assert.ok(alike(words) > 0.5 * alike(last) && alike(first) > 0.5 * alike(last));
    assert.ok(decayed(last) > 0.5 * alike(last));
    assert.ok(decayed(first) < 0.05 * decayed(last) && decayed(words) < 0.05 * decayed(first));
  });

  it('tells pairs from hard negatives among the titles, and keeps those where they were, too', async () => {
    const pairs = [await writePairs('told.tsv')];
    const first = async (...settings: string[]): Promise<StepEntry> => {
      // As many tokens as the base encoder takes, whose vectors are compared with.
      const all = ['maxSteps=1', 'maxTokens=32', ...settings];
      return (await run({ preset: 'pairs', pairs, settings: all })).run.steps[0];
    };
    const [easy, hard] = [await first('neighbours=0', 'hardNegatives=0'), await first('neighbours=0')];
    // 16 pairs are 32 texts; four negatives each are 64 more.
    assert.ok(hard.tokens > 2 * easy.tokens && hard.tokens < 4 * easy.tokens);
    assert.ok(hard.terms['contrast'] > easy.terms['contrast']);
    // Nothing has moved yet, the negatives have not either; with neighbours the vectors to be near to are others.
    assert.ok(hard.terms['vector'] < 1e-4, `${hard.terms['vector']}`);
    assert.ok((await first()).terms['vector'] > 0.1);
  });

  it('keeps the vectors where they were while it learns from pairs', async () => {
    const pairs = await writePairs('kept.tsv');
    const texts = readFileSync(titles, 'utf8').split('\n').slice(0, 80);
    const driftOf = async (keepWeight: number): Promise<number> => {
      const out = newOut();
      const { run: made } = await run({
        out,
        data: [],
        pairs: [pairs],
        preset: 'infonce',
        settings: ['maxSteps=20', `keepWeight=${keepWeight}`],
      });
      assert.equal('vector' in made.steps[0].terms, keepWeight > 0);
      const [tuned, start] = [await openEncoder(out), await openEncoder(base)];
      const [a, b] = [await tuned.encode(texts), await start.encode(texts)];
      await Promise.all([tuned.close(), start.close()]);
      return 1 - a.reduce((sum, value, i) => sum + value * b[i], 0) / texts.length;
    };
    const [free, kept] = [await driftOf(0), await driftOf(20)];
    assert.ok(kept < 0.5 * free, `${kept} against ${free}`);
  });

  it('teaches an encoder what it would say of a text in its context', async () => {
    const { run: made } = await run({
      preset: 'context',
      settings: ['context=Ubuntu', 'maxSteps=60', 'neighbours=3'],
    });
    const at = (index: number): number => made.steps.at(index)!.terms['vector'];
    assert.ok(at(-1) < 0.7 * at(0), `${at(0)} to ${at(-1)}`);
    assert.equal(made.start.teacher!.name, 'tiny');
  });

  it('trains on pairs, and on texts and pairs together', async () => {
    const pairs = await writePairs('pairs.tsv');
    const alone = await run({ data: [], pairs: [pairs], settings: ['maxSteps=2'] });
    assert.equal(alone.run.start.data[0].count, 40);
    const both = await run({ pairs: [pairs], settings: ['maxSteps=2'] });
    assert.deepEqual(
      both.run.start.data.map(({ kind }) => kind),
      ['texts', 'pairs'],
    );
  });

  it('unless told otherwise takes the word that the texts share for their context, and says so', async () => {
    const lines = readFileSync(titles, 'utf8').split('\n');
    const about = path.join(home, 'about.txt');
    await writeFile(about, lines.map((line, i) => (i % 3 === 0 ? `${line} on Debian` : line)).join('\n'));
    const contextOf = async (file: string, settings: string[] = []): Promise<[string, string]> => {
      const notes: string[] = [];
      const onNote = (note: string): void => void notes.push(note);
      const quick = ['maxSteps=1', ...settings];
      const made = await run({ preset: DEFAULT_PRESET, data: [file], settings: quick, onNote });
      return [made.run.start.recipe.context, notes.find((note) => note.startsWith('context:')) ?? ''];
    };
    const [found, said] = await contextOf(about);
    assert.equal(found, 'Debian|Debian: {}');
    assert.match(said, /^context: "Debian", which 33 % of the texts have; --set context=WORDS says others/);
    const [none, hint] = await contextOf(titles);
    assert.equal(none, '');
    assert.match(hint, /^context: no word is in a fifth of the texts; --set context=WORDS/);
    assert.deepEqual(await contextOf(about, ['context=Linux']), ['Linux', '']);
    await assert.rejects(contextOf(titles, ['neighbourTexts=0']), {
      kind: 'usage',
      message: /^expected --teacher DIR\|NAME for --objective distill, found none/,
    });
  });

  it('makes the published sketch: CLS pooling, an encoder that says so', async () => {
    const out = newOut();
    await run({ out, preset: 'sketch-2022' });
    assert.equal((await openModelFolder(out)).pooling, 'cls');
  });

  it('names a collapse within 50 steps when nothing holds the variance, and its advice works', async () => {
    // At a third of this rate for the expander some seeds need a few steps more.
    const settings = ['maxSteps=50', 'learningRate=1e-5', 'expanderLearningRate=3e-3', 'collapseStd=0.1'];
    const collapse = run({ settings: [...settings, 'mu=0', 'expander=64,64,32'] });
    await assert.rejects(collapse, { kind: 'backend', message: /the expander.*--set mu=\.\.\., it is 0/ });
    const { status } = await run({ settings: [...settings, 'mu=25', 'expander=64,64,32'] });
    assert.equal(status, 'finished');
  });

  const COLLAPSING = [
    'maxSteps=400',
    'mu=0',
    'nu=0',
    'learningRate=0.01',
    'clip=0',
    'dropout=0',
    'collapseStd=0.5',
  ];

  it('stops when the embeddings collapse, says what to change, exports nothing, and takes the advice', async () => {
    const out = newOut();
    await assert.rejects(run({ out, settings: COLLAPSING }), {
      kind: 'backend',
      message: /collapsed.*--set mu=.*it is 0/,
    });
    assert.equal(existsSync(out), false);
    assert.equal(existsSync(path.join(runFolderOf(out), 'report.html')), true);
    const { status } = await run({ out, settings: ['mu=25', 'maxSteps=2'] });
    assert.equal(status, 'finished');
  });

  it('names a collapse at the same step when it goes on from a checkpoint', async () => {
    const collapsedAt = async (out: string, resume = false): Promise<number> => {
      let last = 0;
      const onStep = ({ step }: StepEntry): void => void (last = step);
      await assert.rejects(run({ out, resume, settings: COLLAPSING, onStep }), { kind: 'backend' });
      return last;
    };
    const whole = await collapsedAt(newOut());
    const out = newOut();
    const stop = new AbortController();
    const onStep = ({ step }: StepEntry): void => void (step === whole - 5 && stop.abort());
    await run({ out, settings: COLLAPSING, signal: stop.signal, onStep });
    assert.equal(await collapsedAt(out, true), whole);
  });

  describe('of a student by its teacher', () => {
    const putBack = keepEnvironment('SENTENCE_JEPA_CACHE');
    before(async () => {
      // What setup built lies in the real cache folder; a teacher's vectors of an earlier run may, too.
      await loadTensorFlow();
      process.env.SENTENCE_JEPA_CACHE = path.join(home, 'cache');
    });
    after(() => {
      putBack();
    });

    const distill = (changes: Partial<FinetuneOptions> = {}): Promise<FinetuneResult> =>
      run({
        preset: 'distill',
        teacher: base,
        student: 'layers=1,take=1,intermediate=48,vocab=120',
        ...changes,
        settings: ['learningRate=3e-3', ...(changes.settings ?? [])],
      });

    it('makes a whole model folder of the shape that was asked for, near to the teacher', async () => {
      const out = newOut();
      const { run: made } = await distill({ out, settings: ['maxSteps=80', 'checkpointEvery=80'] });
      const first = made.steps.slice(0, 5).reduce((sum, { terms }) => sum + terms['vector'] / 5, 0);
      const last = made.steps.slice(-5).reduce((sum, { terms }) => sum + terms['vector'] / 5, 0);
      assert.ok(last < first / 2, `1 - cosine: ${first} -> ${last}`);
      const { config } = await openModelFolder(out);
      assert.deepEqual([config.layers, config.intermediateSize, config.vocabSize], [1, 48, 120]);
      assert.deepEqual((await verifyModel(await openModelFolder(out))).problems, []);

      const texts = readFileSync(titles, 'utf8').split('\n').slice(0, 20);
      const [student, teacher] = [await openEncoder(out), await openEncoder(base)];
      const [learned, taught] = [await student.encode(texts), await teacher.encode(texts)];
      await Promise.all([student.close(), teacher.close()]);
      const cosine = learned.reduce((sum, value, i) => sum + value * taught[i], 0) / texts.length;
      assert.ok(Math.abs(1 - cosine - last) < 0.1, `cosine ${cosine}, in training ${1 - last}`);

      const card = await readFile(path.join(out, 'README.md'), 'utf8');
      assert.match(card, /distilled from `base`/);
      const provenance = JSON.parse(await readFile(path.join(out, 'sentence-jepa.json'), 'utf8')) as {
        student: { take: number[] };
        teacher: { fingerprint: string };
      };
      assert.deepEqual(provenance.student.take, [1]);
      assert.match(provenance.teacher.fingerprint, /^[0-9a-f]{64}$/);
    });

    it('asks the teacher once: the next run finds its vectors', async () => {
      const asked: number[] = [];
      const onTeacherProgress = (_: number, total: number): void => void asked.push(total);
      const texts = path.join(home, 'others.txt');
      await writeFile(texts, Array.from({ length: 40 }, (_, i) => `disk ${i} is slow`).join('\n'));
      const first = await distill({ data: [texts], onTeacherProgress });
      assert.equal(asked.at(-1), 40);
      asked.length = 0;
      const second = await distill({ data: [texts], onTeacherProgress });
      assert.deepEqual(asked, []);
      assert.deepEqual(losses(second), losses(first));
    });

    it('can be stopped while the teacher encodes, and says that the same command goes on', async () => {
      const texts = path.join(home, 'stopped.txt');
      await writeFile(texts, Array.from({ length: 400 }, (_, i) => `screen ${i} is black`).join('\n'));
      const stop = new AbortController();
      const stopped = distill({
        data: [texts],
        settings: ['maxSteps=20'],
        signal: stop.signal,
        onTeacherProgress: () => stop.abort(),
      });
      await assert.rejects(stopped, { kind: 'unavailable', message: /the same command goes on from there/ });
    });

    it('learns shorter vectors as well, and crops', async () => {
      const out = newOut();
      const settings = ['views=same,word-crop', 'maxSteps=60', 'checkpointEvery=60'];
      const { run: made } = await distill({
        out,
        student: 'hidden=16,vocabulary=trained,vocab=90',
        settings,
      });
      assert.equal((await openModelFolder(out)).config.hiddenSize, 16);
      const terms = made.steps.map((entry) => entry.terms['vector']);
      assert.ok(terms.at(-1)! < 0.7 * terms[0], terms.join(' '));
    });

    it('goes on from a checkpoint as if it had not stopped', async () => {
      const whole = losses(await distill());
      const out = newOut();
      const stop = new AbortController();
      const begun = await distill({
        out,
        signal: stop.signal,
        onStep: ({ step }) => step === 5 && stop.abort(),
      });
      assert.equal(begun.status, 'interrupted');
      assert.deepEqual(losses(await distill({ out, resume: true })), whole);
    });

    it('teaches an encoder that is there, too', async () => {
      const { run: made } = await distill({ student: undefined, settings: ['maxTokens=32'] });
      // The same weights: nothing is left to learn.
      assert.ok(made.steps[0].terms['vector'] < 1e-5, JSON.stringify(made.steps[0].terms));
    });

    it('draws the texts of pairs to each other', async () => {
      const pairs = await writePairs('drawn.tsv');
      const settings = ['maxSteps=60', 'checkpointEvery=60', 'evaluateEvery=60', 'pairWeight=1'];
      const own = { student: undefined, preset: 'context', settings };
      const texts = readFileSync(pairs, 'utf8')
        .split('\n')
        .map((line) => line.split('\t'));
      const cosine = async (out: string): Promise<number> => {
        const encoder = await openEncoder(out);
        const [first, second] = await Promise.all(
          [0, 1].map((side) => encoder.encode(texts.map((pair) => pair[side]))),
        );
        await encoder.close();
        return first.reduce((sum, value, i) => sum + value * second[i], 0) / texts.length;
      };
      const [apart, drawn] = [newOut(), newOut()];
      await distill({ ...own, out: apart, teacher: undefined });
      const { run: made } = await distill({ ...own, out: drawn, teacher: undefined, pairs: [pairs] });
      const [before, after] = [await cosine(apart), await cosine(drawn)];
      assert.ok(after > before + 0.1, `${before} without pairs, ${after} with them`);
      // Both sides of a pair are among the texts already: there is no text more.
      assert.equal(made.start.data.length, 2);
    });

    it('is refused without a teacher, with longer vectors than the teacher has', async () => {
      await assert.rejects(distill({ teacher: undefined }), { kind: 'usage', message: /expected --teacher/ });
      await assert.rejects(run({ teacher: base }), {
        kind: 'usage',
        message: /expected --objective distill/,
      });
      await assert.rejects(distill({ student: 'init=random,hidden=48,heads=4' }), {
        kind: 'usage',
        message: /at most as long as the teacher's 32, found 48/,
      });
    });
  });

  it('learns of its own vectors those before Dense modules, which stay behind them', async () => {
    const dense = path.join(home, 'dense');
    await makeTinyModel(dense, { maxTokens: 32, dense: [16] });
    const pairs = [await writePairs('dense.tsv')];
    const first = async (dir: string, preset: string, settings: string[]): Promise<StepEntry> => {
      const all = ['maxSteps=1', 'maxTokens=32', 'dropout=0', ...settings];
      return (await run({ base: { dir, name: 'x' }, preset, pairs, settings: all })).run.steps[0];
    };
    for (const [preset, ...settings] of [
      ['surroundings', 'neighbourTexts=1'],
      ['pairs', 'neighbours=0', 'hardNegatives=0'],
    ]) {
      const [behind, plain] = [await first(dense, preset, settings), await first(base, preset, settings)];
      assert.ok(
        Math.abs(behind.terms['vector'] - plain.terms['vector']) < 1e-3,
        `${preset}: ${behind.terms['vector']} with Dense modules, ${plain.terms['vector']} without`,
      );
    }
    const settings = ['keepWeight=1'];
    const other = { base: { dir: dense, name: 'x' }, preset: 'infonce', teacher: base, settings };
    await assert.rejects(run(other), { kind: 'usage', message: /^--teacher: expected a base without Dense/ });
  });

  it('gives a student the words of both sides of pairs', async () => {
    const pairs = path.join(home, 'languages.tsv');
    await writeFile(
      pairs,
      Array.from({ length: 40 }, (_, i) => `how to mount disk ${i}\tкак подключить диск ${i}`).join('\n'),
    );
    const out = newOut();
    await run({
      ...{ out, data: [], pairs: [pairs], preset: 'infonce', settings: ['maxSteps=1'] },
      student: 'init=random,layers=1,vocab=120,vocabulary=trained',
    });
    const { tokenizerJson } = (await openModelFolder(out)).tokenizer;
    assert.match(tokenizerJson, /диск/);
  });

  it('goes on with the same field of the data, and the same split', async () => {
    const rows = readFileSync(titles, 'utf8').split('\n').slice(0, 60);
    const data = [path.join(home, 'fields.jsonl')];
    await writeFile(
      data[0],
      rows.map((title, i) => JSON.stringify({ title, body: `${title} ${i}` })).join('\n'),
    );
    const out = newOut();
    const stop = new AbortController();
    const onStep = ({ step }: StepEntry): void => void (step === 4 && stop.abort());
    await run({ out, data, field: 'title', signal: stop.signal, onStep });
    const refused = { kind: 'invalid', message: /started with field "title", and now has "body"/ };
    await assert.rejects(run({ out, data, field: 'body', resume: true }), refused);
    assert.equal((await run({ out, data, field: 'title', resume: true })).status, 'finished');
  });

  describe('by masked words', () => {
    it('learns to guess them from nothing, and makes a whole model folder', async () => {
      const out = newOut();
      const { run: made } = await run({
        out,
        preset: 'mlm',
        student: 'init=random,layers=1,vocab=150,vocabulary=trained',
        settings: ['maxSteps=150', 'checkpointEvery=150', 'learningRate=5e-3', 'expanderLearningRate=5e-3'],
      });
      const mean = (from: number, to: number): number =>
        made.steps.slice(from, to).reduce((sum, { loss }) => sum + loss, 0) / (to - from);
      const vocabulary = (await openModelFolder(out)).config.vocabSize;
      assert.ok(Math.abs(mean(0, 3) - Math.log(vocabulary)) < 0.5, `${mean(0, 3)} of ${vocabulary} tokens`);
      assert.ok(mean(140, 150) < mean(0, 3) - 0.5, `${mean(0, 3)} -> ${mean(140, 150)}`);
      const accuracy = made.steps.map(({ measures }) => measures!['mlmAccuracy']);
      assert.ok(accuracy.every((share) => share >= 0 && share <= 1));
      assert.deepEqual((await verifyModel(await openModelFolder(out))).problems, []);
      assert.match(await readFile(path.join(out, 'README.md'), 'utf8'), /guess masked words/);
    });
  });

  describe('by the other methods', () => {
    const shared = ['learningRate=1e-3', 'maxSteps=6'];
    for (const [preset, settings, terms] of [
      ['simcse', [], ['contrast']],
      ['infonce', ['symmetric=true'], ['contrast']],
      ['barlow-twins', [], ['invariance', 'redundancy']],
      ['tsdae', [], ['reconstruction']],
      ['sketch-fixed', [], ['invariance', 'variance', 'covariance']],
      [
        'vicreg',
        ['predictorWidth=12', 'editWeight=1', 'views=same,word-crop+typos'],
        ['invariance', 'variance', 'covariance', 'edit'],
      ],
      [
        'infonce',
        ['mlmWeight=0.1', 'rtdWeight=1', 'reconstructionWeight=0.5'],
        ['contrast', 'rtd', 'mlm', 'reconstruction'],
      ],
    ] as const)
      it(`trains, reports ${terms.join(', ')} and makes a whole folder: ${[preset, ...settings].join(' ')}`, async () => {
        const out = newOut();
        const { run: made } = await run({ out, preset, settings: [...shared, ...settings] });
        assert.deepEqual(Object.keys(made.steps[0].terms), terms);
        assert.ok(made.steps.every(({ loss }) => Number.isFinite(loss)));
        assert.deepEqual((await verifyModel(await openModelFolder(out))).problems, []);
      });

    it('learns: SimCSE tells its texts apart, TSDAE writes them anew', async () => {
      const mean = (values: number[]): number =>
        values.reduce((sum, value) => sum + value, 0) / values.length;
      const contrast = losses(
        await run({ preset: 'simcse', settings: ['learningRate=1e-2', 'maxSteps=60'] }),
      );
      assert.ok(mean(contrast.slice(-10)) < 0.5 * mean(contrast.slice(0, 5)), contrast.join(' '));
      const rates = ['learningRate=5e-3', 'expanderLearningRate=5e-3', 'maxSteps=80', 'checkpointEvery=80'];
      const written = losses(await run({ preset: 'tsdae', settings: rates }));
      assert.ok(mean(written.slice(-10)) < 0.8 * mean(written.slice(0, 5)), written.join(' '));
    });

    it('says in the model card which', async () => {
      const out = newOut();
      await run({ out, preset: 'tsdae', settings: ['maxSteps=1'] });
      assert.match(await readFile(path.join(out, 'README.md'), 'utf8'), /Wang, Reimers and Gurevych 2021/);
    });
  });

  describe('refuses', () => {
    const refused = async (changes: Partial<FinetuneOptions>, expected: object): Promise<void> => {
      const out = changes.out ?? newOut();
      await assert.rejects(run({ ...changes, out }), expected);
    };
    it('an --out that exists', async () => {
      const out = newOut();
      await mkdir(out);
      await refused({ out }, { kind: 'exists', message: /already there/ });
    });
    it('data that are missing, empty, binary or too few', async () => {
      const file = async (name: string, content: string | Uint8Array): Promise<string> => {
        await writeFile(path.join(home, name), content);
        return path.join(home, name);
      };
      await refused({ data: [path.join(home, 'none.txt')] }, { kind: 'not-found', message: /none\.txt/ });
      await refused({ data: [await file('empty.txt', '')] }, { kind: 'empty' });
      await refused({ data: [await file('binary.txt', Uint8Array.of(0, 1, 0xff))] }, { kind: 'malformed' });
      await refused(
        { data: [await file('few.txt', 'one\ntwo\nthree\n')] },
        { kind: 'invalid', message: /at least 16 texts or pairs for a batch of 16, found 3.*--batch/ },
      );
    });
    it('a setting, a preset or an evaluation that there is not', async () => {
      await refused({ settings: ['speed=9'] }, { kind: 'usage' });
      await refused({ preset: 'fast' }, { kind: 'usage' });
      await refused({ evaluations: ['beir:nowhere'] }, { kind: 'not-found' });
    });
    it('pairs for an objective that has no use for them, and heads without two views', async () => {
      const pairs = ['pairs.tsv'];
      await refused(
        { preset: 'simcse', pairs },
        { kind: 'usage', message: /--objective infonce is the same/ },
      );
      await refused({ preset: 'tsdae', pairs }, { kind: 'usage', message: /found --pairs/ });
      for (const weight of ['mlmWeight', 'rtdWeight', 'reconstructionWeight', 'editWeight'])
        await refused(
          { preset: 'tsdae', settings: [`${weight}=1`] },
          { kind: 'usage', message: new RegExp(`--set ${weight}: expected an objective .* found tsdae`) },
        );
      await refused(
        { preset: 'simcse', settings: ['dropout=0'] },
        { kind: 'usage', message: /--set dropout: expected a number above 0 for simcse/ },
      );
      await refused(
        { preset: 'barlow-twins', settings: ['predictorWidth=8'] },
        { kind: 'usage', message: /--set predictorWidth: expected --objective vicreg.*found barlow-twins/ },
      );
    });
    it('hard negatives for an objective that tells nothing apart, with a number of tokens, or under a head on hidden states', async () => {
      await refused(
        { settings: ['hardNegatives=2'] },
        { kind: 'usage', message: /--set hardNegatives: expected --objective infonce, .* found vicreg/ },
      );
      await refused(
        { preset: 'infonce', settings: ['hardNegatives=2', 'tokens=1000'] },
        { kind: 'usage', message: /--set tokens: expected 0 with hardNegatives, found 1000/ },
      );
      await refused(
        { preset: 'infonce', settings: ['hardNegatives=2', 'mlmWeight=1'] },
        { kind: 'usage', message: /--set mlmWeight: expected 0 with hardNegatives, found 1/ },
      );
    });
    it('pairs alone, where there are none', async () => {
      await refused(
        { preset: 'pairs' },
        { kind: 'usage', message: /--set pairShare=1: expected --pairs FILE/ },
      );
    });
    it('a target encoder without averages, for another objective, or under a head on hidden states', async () => {
      const settings = ['targetEncoder=average'];
      const message = /expected --objective vicreg with averageDecay=\.\.\. above 0, found vicreg with 0/;
      await refused({ settings }, { kind: 'usage', message });
      settings.push('averageDecay=0.9');
      await refused(
        { settings: [...settings, 'averageLast=0.5'] },
        { kind: 'usage', message: /--set averageLast: expected 0 with averageDecay, found 0.5/ },
      );
      await refused(
        { preset: 'barlow-twins', settings },
        { kind: 'usage', message: /--set targetEncoder=average: .* found barlow-twins with 0.9/ },
      );
      for (const weight of ['mlmWeight', 'rtdWeight', 'reconstructionWeight'])
        await refused(
          { settings: [...settings, `${weight}=1`] },
          {
            kind: 'usage',
            message: new RegExp(`--set ${weight}: expected 0 with targetEncoder=average, found 1`),
          },
        );
    });
    it('to resume where there is nothing to resume from', async () => {
      await refused({ resume: true }, { kind: 'not-found', message: /expected a checkpoint/ });
    });
  });
});

interface Running extends ChildProcess {
  closed: Promise<[code: number | null, signal: string | null]>;
  /** On both streams. */
  said(): string;
}

describe('a fine-tuning that is cut off', () => {
  // Slow enough to be caught in the middle, quick enough for a test.
  const settings = [
    'expander=24,24',
    'evaluateEvery=7',
    'checkpointEvery=5',
    'batch=16',
    'learningRate=1e-3',
  ];
  const args = (out: string): string[] => [
    ...[
      'finetune',
      '--data',
      titles,
      '--model',
      base,
      '--out',
      out,
      '--objective',
      'vicreg',
      '--max-steps',
      '60',
      '--threads',
      '1',
    ],
    ...['--eval', `beir:${BEIR}`, '--set', ...settings],
  ];
  const start = (out: string, ...more: string[]): Running => {
    const child = spawn(process.execPath, [CLI, ...args(out), ...more], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let text = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (text += String(chunk)));
    // Asked for at once: a process that has ended says so only once.
    const closed = once(child, 'close') as Promise<[number | null, string | null]>;
    return Object.assign(child, { closed, said: () => text });
  };
  const logOf = (out: string): { type: string; step: number; loss: number; results: unknown }[] => {
    const file = path.join(runFolderOf(out), 'log.jsonl');
    if (!existsSync(file)) return [];
    const lines = readFileSync(file, 'utf8').split('\n').slice(0, -1);
    return lines.map((line) => JSON.parse(line) as never);
  };
  const untilStep = async (out: string, child: Running, step: number): Promise<void> => {
    while (!logOf(out).some((entry) => entry.type === 'step' && entry.step >= step)) {
      assert.equal(child.exitCode, null, 'it ended before it was cut off');
      await setTimeout(5);
    }
  };
  /** What a run computed, step by step. */
  const story = (out: string): unknown[] =>
    logOf(out)
      .filter(({ type }) => type === 'step' || type === 'evaluation')
      .map(({ type, step, loss, results }) => ({
        type,
        step,
        loss,
        metrics: (results as { metrics: object }[] | undefined)?.map(({ metrics }) => metrics),
      }));
  let unbroken: string;

  before(async () => {
    unbroken = newOut();
    const child = start(unbroken);
    assert.deepEqual(await child.closed, [0, null], child.said());
  });

  it('by kill -9 goes on with the same losses as the unbroken run, and makes the same model', async () => {
    const out = newOut();
    for (const step of [8, 23]) {
      const child = start(out, ...(step > 8 ? ['--resume'] : []));
      await untilStep(out, child, step);
      child.kill('SIGKILL');
      await child.closed;
      assert.equal(existsSync(out), false);
    }
    const child = start(out, '--resume');
    assert.deepEqual(await child.closed, [0, null], child.said());
    assert.deepEqual(story(out), story(unbroken));
    const [made, expected] = [out, unbroken].map((dir) => readFileSync(path.join(dir, 'model.safetensors')));
    assert.ok(made.equals(expected));
  });

  it('by Ctrl-C writes a checkpoint, says how to go on, and goes on', async () => {
    const out = newOut();
    const child = start(out);
    await untilStep(out, child, 8);
    child.kill('SIGINT');
    const [code] = await child.closed;
    assert.equal(code, 1);
    assert.match(child.said(), /stopped after step \d+ of 60; go on with the same command and --resume/);
    const resumed = start(out, '--resume');
    assert.deepEqual(await resumed.closed, [0, null], resumed.said());
    assert.deepEqual(story(out), story(unbroken));
  });

  it('is left alone by another one with the same --out', async () => {
    const out = newOut();
    const unlock = await lockRun(runFolderOf(out), assert.fail);
    const second = start(out);
    assert.deepEqual(await second.closed, [1, null]);
    assert.match(second.said(), /another training is at work there; wait for its end/);
    unlock();
    const child = start(out);
    assert.deepEqual(await child.closed, [0, null], child.said());
    assert.deepEqual(story(out), story(unbroken));
  });

  it('is not started anew by mistake, nor resumed with another recipe', async () => {
    const out = newOut();
    const child = start(out);
    await untilStep(out, child, 6);
    child.kill('SIGKILL');
    await child.closed;

    const anew = start(out);
    assert.deepEqual(await anew.closed, [1, null]);
    assert.match(anew.said(), /an unfinished run is there; go on with it by --resume/);
    const other = start(out, '--resume', '--seed', '5');
    assert.deepEqual(await other.closed, [1, null]);
    assert.match(other.said(), /the run was started with recipe\.seed 1, and now has 5/);
  });

  it('refuses a checkpoint that was damaged', async () => {
    const out = newOut();
    const child = start(out);
    await untilStep(out, child, 6);
    child.kill('SIGKILL');
    await child.closed;
    // Killed between the two, it leaves a later state that no manifest names yet.
    const manifest = readFileSync(path.join(runFolderOf(out), 'checkpoint.json'), 'utf8');
    const file = path.join(runFolderOf(out), (JSON.parse(manifest) as { file: string }).file);
    await writeFile(file, readFileSync(file).subarray(0, 1000));
    const resumed = start(out, '--resume');
    assert.deepEqual(await resumed.closed, [1, null]);
    assert.match(resumed.said(), /expected SHA-256/);
  });
});

describe('the command', () => {
  const said = async (...args: string[]): Promise<{ code: number; out: string; err: string }> => {
    const child = spawn(process.execPath, [CLI, 'finetune', ...args]);
    let [out, err] = ['', ''];
    child.stdout.on('data', (chunk) => (out += String(chunk)));
    child.stderr.on('data', (chunk) => (err += String(chunk)));
    const [code] = (await once(child, 'close')) as [number];
    return { code, out, err };
  };

  it('prints one JSON object with --json', async () => {
    const settings = ['--set', ...QUICK];
    const { code, out, err } = await said(
      '--data',
      titles,
      '--model',
      base,
      '--out',
      newOut(),
      '--json',
      ...settings,
    );
    assert.equal(code, 0, err);
    const result = JSON.parse(out) as Record<string, unknown>;
    assert.equal(result.status, 'finished');
    assert.equal(result.steps, 8);
  });

  it('is wrong usage (2) without data, and with an unknown setting', async () => {
    const bare = await said('--out', newOut(), '--model', base);
    assert.equal(bare.code, 2);
    assert.match(bare.err, /expected --data FILE or --pairs FILE/);
    const unknown = await said('--data', titles, '--out', newOut(), '--model', base, '--set', 'x=1');
    assert.equal(unknown.code, 2);
  });

  it('shows examples and every setting in --help', async () => {
    const { code, out } = await said('--help');
    assert.equal(code, 0);
    assert.match(out, /Examples:/);
    assert.match(out, /learningRate +0\.0001\n/);
    assert.match(out, /\n {2}vicreg: .*learningRate=0\.00001/);
  });
});
