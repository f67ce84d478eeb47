import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { projectRoot } from '../../base/paths.js';
import { Random } from '../../base/random.js';
import { runFolderOf } from '../../base/run-folder.js';
import { applyDense } from '../../encoder/dense.js';
import { loadWeights, openModelFolder } from '../../encoder/model-folder.js';
import { openEncoder } from '../../encoder/open-encoder.js';
import { verifyModel } from '../../encoder/verify.js';
import { symmetricEigenvalues } from '../../evaluation/eigenvalues.js';
import { fitAdaptation } from '../../trainer/adapt.js';
import { adaptationText, checkAdaptation, parseAdaptation } from '../../trainer/adaptation.js';
import { finetune, type FinetuneOptions, type FinetuneResult } from '../../trainer/finetune.js';
import { loadTensorFlow } from '../../trainer/tensorflow/load.js';
import { Ops } from '../../trainer/tensorflow/ops.js';
import { whitened } from '../../trainer/whitening.js';
import { makeTinyModel } from '../support/tiny-model.js';
import { keepEnvironment } from '../support/environment.js';

const CLI = path.join(projectRoot, 'dist/cli/main.js');
const BEIR = path.join(projectRoot, 'examples/askubuntu-style');

describe('what is to be adapted', () => {
  it('is read from a few words', () => {
    assert.deepEqual(parseAdaptation('center'), { center: true });
    assert.deepEqual(parseAdaptation('pca=64'), { center: false, pca: 64 });
    assert.deepEqual(parseAdaptation('center,pca=192'), { center: true, pca: 192 });
    assert.equal(adaptationText(parseAdaptation('pca=192,center')), 'center,pca=192');
    assert.deepEqual(parseAdaptation('center,whiten'), { center: true, whiten: 1 });
    assert.deepEqual(parseAdaptation('whiten=0.25,pca=8'), { center: false, whiten: 0.25, pca: 8 });
    assert.equal(adaptationText(parseAdaptation('pca=8,whiten=.5,center')), 'center,whiten=0.5,pca=8');
  });

  for (const text of [
    '',
    'pca',
    'pca=',
    'pca=0',
    'pca=1.5',
    'center=1',
    'centre',
    'center,',
    'center,center',
    'whiten=0',
    'whiten=0.0',
    'whiten=1.5',
    'whiten=-1',
  ])
    it(`is refused: "${text}"`, () => {
      assert.throws(() => parseAdaptation(text), {
        kind: 'usage',
        message: /expected center, whiten, whiten=SHARE, pca=N or several with commas between, found/,
      });
    });
});

describe('an adaptation to more dimensions', () => {
  it('than the vectors have, or than the texts can tell, is refused', () => {
    const check = (pca: number | undefined, texts: number): void =>
      checkAdaptation({ center: true, pca }, 12, texts);
    check(12, 13);
    check(undefined, 2);
    assert.throws(() => check(13, 300), {
      kind: 'usage',
      message: /at most the encoder's 12 dimensions, found 13/,
    });
    assert.throws(() => check(5, 5), { kind: 'usage', message: /more than 5 different texts, found 5/ });
    const whitened = (texts: number): void => checkAdaptation({ center: true, whiten: 1 }, 12, texts);
    whitened(13);
    assert.throws(() => whitened(12), {
      kind: 'usage',
      message: /--adapt whiten: expected more different texts than the encoder has dimensions, 12, found 12/,
    });
  });
});

describe('fitting', () => {
  const [n, d, k] = [300, 12, 5];
  let ops: Ops;
  let vectors: Float32Array;
  before(async () => {
    ops = new Ops(await loadTensorFlow());
    const random = new Random(3);
    // Numbers that hang together: each vector is a mixture, around a mean far from 0.
    const mixture = Float64Array.from({ length: d * d }, () => random.normal());
    vectors = new Float32Array(n * d);
    for (let i = 0; i < n; i++) {
      const source = Array.from({ length: d }, (_, j) => random.normal() / (j + 1));
      for (let j = 0; j < d; j++)
        vectors[i * d + j] = 2 + j + source.reduce((sum, value, l) => sum + value * mixture[l * d + j], 0);
    }
  });

  const meansOf = (x: Float32Array, width: number): number[] =>
    Array.from({ length: width }, (_, j) => {
      let sum = 0;
      for (let i = 0; i < n; i++) sum += x[i * width + j] / n;
      return sum;
    });
  /** [width, width], means taken away. */
  const covarianceOf = (x: Float32Array, width: number): Float64Array => {
    const means = meansOf(x, width);
    const matrix = new Float64Array(width * width);
    for (let i = 0; i < n; i++)
      for (let j = 0; j < width; j++)
        for (let l = 0; l < width; l++)
          matrix[j * width + l] += ((x[i * width + j] - means[j]) * (x[i * width + l] - means[l])) / n;
    return matrix;
  };

  it('of a centre takes the mean away, and nothing else', () => {
    const { layer, variance } = fitAdaptation(ops, { center: true }, vectors, d);
    const found = applyDense(vectors, [layer]);
    meansOf(found, d).forEach((mean) => assert.ok(Math.abs(mean) < 1e-5, String(mean)));
    const means = meansOf(vectors, d);
    found.forEach((value, i) => assert.ok(Math.abs(value - (vectors[i] - means[i % d])) < 1e-5));
    assert.equal(variance, 1);
  });

  it('of principal components keeps the variance of the largest eigenvalues, uncorrelated', () => {
    const { layer, variance } = fitAdaptation(ops, { center: true, pca: k }, vectors, d);
    assert.deepEqual(layer.weight.shape, [k, d]);
    const eigenvalues = [...symmetricEigenvalues(covarianceOf(vectors, d), d)].reverse();
    const total = eigenvalues.reduce((sum, value) => sum + value, 0);
    const kept = eigenvalues.slice(0, k);
    assert.ok(
      Math.abs(variance - kept.reduce((sum, value) => sum + value, 0) / total) < 1e-5,
      String(variance),
    );
    const found = applyDense(vectors, [layer]);
    meansOf(found, k).forEach((mean) => assert.ok(Math.abs(mean) < 1e-4, String(mean)));
    covarianceOf(found, k).forEach((value, at) => {
      const [j, l] = [Math.floor(at / k), at % k];
      const expected = j === l ? kept[j] : 0;
      assert.ok(Math.abs(value - expected) < 1e-4 * kept[0], `[${j}, ${l}]: ${value}, expected ${expected}`);
    });
  });

  for (const whiten of [1, 0.5])
    it(`of ${whiten} of the whitening brings the variances that far to each other, uncorrelated`, () => {
      const { layer, variance } = fitAdaptation(ops, { center: true, whiten, pca: k }, vectors, d);
      const found = applyDense(vectors, [layer]);
      const eigenvalues = [...symmetricEigenvalues(covarianceOf(vectors, d), d)].reverse();
      const kept = eigenvalues.slice(0, k);
      const mean = kept.reduce((sum, value) => sum + value, 0) / k;
      covarianceOf(found, k).forEach((value, at) => {
        const [j, l] = [Math.floor(at / k), at % k];
        const expected = j === l ? kept[j] * (mean / kept[j]) ** whiten : 0;
        assert.ok(Math.abs(value - expected) < 1e-3 * mean, `[${j}, ${l}]: ${value}, expected ${expected}`);
      });
      // Of what the directions keep, before they are whitened.
      const same = fitAdaptation(ops, { center: true, pca: k }, vectors, d);
      assert.ok(Math.abs(variance - same.variance) < 1e-6);
      assert.deepEqual(
        fitAdaptation(ops, { center: true, whiten, pca: d }, vectors, d),
        fitAdaptation(ops, { center: true, whiten }, vectors, d),
      );
    });

  it('whitens vectors where they are: of all changes that make them white, the least', () => {
    const centred = applyDense(vectors, [fitAdaptation(ops, { center: true }, vectors, d).layer]);
    const white = whitened(ops, centred, d, 1);
    const covariance = covarianceOf(white, d);
    const mean = covariance[0];
    covariance.forEach((value, at) => {
      const expected = at % (d + 1) === 0 ? mean : 0;
      assert.ok(Math.abs(value - expected) < 1e-3 * mean, `[${at}]: ${value}, expected ${expected}`);
    });
    // A symmetric matrix did it, with positive eigenvalues: every vector still points to where it did.
    const along = (a: Float32Array): number => a.reduce((sum, value, i) => sum + value * centred[i], 0);
    const turned = applyDense(vectors, [fitAdaptation(ops, { center: true, whiten: 1 }, vectors, d).layer]);
    assert.ok(along(white) > Math.abs(along(turned)));
  });

  it('without a centre keeps the most of the vectors as they are, and has no bias', () => {
    const { layer, variance } = fitAdaptation(ops, { center: false, pca: 1 }, vectors, d);
    assert.equal(layer.bias, undefined);
    const second = new Float64Array(d * d);
    for (let i = 0; i < n; i++)
      for (let j = 0; j < d; j++)
        for (let l = 0; l < d; l++) second[j * d + l] += vectors[i * d + j] * vectors[i * d + l];
    const eigenvalues = symmetricEigenvalues(second, d);
    const expected = eigenvalues[d - 1] / eigenvalues.reduce((sum, value) => sum + value, 0);
    assert.ok(Math.abs(variance - expected) < 1e-5, `${variance}, expected ${expected}`);
  });
});

describe('finetune --adapt', () => {
  const cache = process.env.SENTENCE_JEPA_CACHE;
  const putBack = keepEnvironment('SENTENCE_JEPA_CACHE');
  let home: string;
  let base: string;
  let titles: string;
  before(async () => {
    // What setup built lies in the real cache folder; vectors of an earlier run may, too.
    await loadTensorFlow();
    home = await mkdtemp(path.join(tmpdir(), 'adapt-'));
    process.env.SENTENCE_JEPA_CACHE = path.join(home, 'cache');
    base = path.join(home, 'base');
    await makeTinyModel(base);
    titles = path.join(home, 'titles.txt');
    const corpus = (await readFile(path.join(BEIR, 'corpus.jsonl'), 'utf8')).trim().split('\n');
    await writeFile(titles, corpus.map((line) => (JSON.parse(line) as { text: string }).text).join('\n'));
  });
  after(async () => {
    putBack();
    await rm(home, { recursive: true, force: true });
  });

  let outs = 0;
  const newOut = (): string => path.join(home, `out-${outs++}`);
  const QUICK = [
    'expander=24,24',
    'evaluateEvery=2',
    'checkpointEvery=2',
    'batch=16',
    'maxSteps=4',
    'learningRate=1e-3',
    'precision=fp32',
  ];
  const run = (changes: Partial<FinetuneOptions> = {}): Promise<FinetuneResult> =>
    finetune({
      base: { dir: base, name: 'tiny' },
      out: newOut(),
      data: [titles],
      pairs: [],
      preset: 'vicreg',
      adapt: 'center,pca=8',
      evaluations: [],
      resume: false,
      onNote() {},
      ...changes,
      settings: changes.adaptOnly ? [] : QUICK,
    });
  const encode = async (dir: string, texts: string[]): Promise<Float32Array> => {
    const encoder = await openEncoder(dir, { threads: 1 });
    return encoder.encode(texts).finally(() => encoder.close());
  };
  const jsonOf = async (out: string): Promise<Record<string, never>> =>
    JSON.parse(await readFile(path.join(out, 'sentence-jepa.json'), 'utf8')) as Record<string, never>;

  it('alone changes no weight, and writes a whole folder with shorter vectors', async () => {
    const out = newOut();
    const { status, run: made } = await run({ out, adaptOnly: true, evaluations: [`beir:${BEIR}`] });
    assert.equal(status, 'finished');
    assert.deepEqual([made.steps.length, made.start.steps, made.start.adapt], [0, 0, 'center,pca=8']);
    const folder = await openModelFolder(out);
    assert.deepEqual((await verifyModel(folder)).problems, []);
    assert.deepEqual(await loadWeights(folder), await loadWeights(await openModelFolder(base)));
    assert.deepEqual(
      folder.dense.map(({ weight }) => weight.shape),
      [[8, 32]],
    );
    assert.equal((await encode(out, ['usb'])).length, 8);
  });

  it('measures with and without it, and says whether the difference is beyond chance', async () => {
    const out = newOut();
    const { run: made, report } = await run({ out, adaptOnly: true, evaluations: [`beir:${BEIR}`] });
    const adapted = made.adapted!;
    const [before] = made.evaluations[0].results;
    const [difference] = adapted.comparisons;
    const measured = adapted.results[0].metrics['map@100'] - before.metrics['map@100'];
    assert.ok(Math.abs(difference.difference - measured) < 1e-9);
    assert.ok(difference.low <= difference.difference && difference.difference <= difference.high);
    assert.deepEqual([adapted.texts, adapted.dimensions], [276, 8]);

    const { before: told, after, adaptation, ...provenance } = await jsonOf(out);
    assert.deepEqual((after as (typeof before)[])[0].metrics, adapted.results[0].metrics);
    assert.deepEqual((told as (typeof before)[])[0].metrics, before.metrics);
    assert.equal((adaptation as { dimensions: number }).dimensions, 8);
    assert.equal('recipe' in provenance, false, 'a recipe of a training that was not');
    const card = await readFile(path.join(out, 'README.md'), 'utf8');
    assert.match(card, /`tiny` with `center,pca=8` behind its pooling, fitted/);
    assert.match(card, /No weight of the base encoder was changed/);
    assert.match(card, /vector of 8 numbers/);
    assert.match(card, /sentence_embedding/);
    assert.doesNotMatch(card, /learningRate|Preset|steps/);
    const page = await readFile(report, 'utf8');
    assert.match(page, /exported \(center,pca=8\)/);
    assert.match(page, /Nothing was trained\./);
  });

  it('gives the vectors that centring and projecting the pooled ones gives', async () => {
    const out = newOut();
    await run({ out, adaptOnly: true, adapt: 'center' });
    const encoder = await openEncoder(base, { threads: 1, normalize: false });
    const texts = (await readFile(titles, 'utf8')).split('\n');
    const pooled = await encoder.encode([...new Set(texts)]);
    await encoder.close();
    const count = pooled.length / 32;
    const mean = Array.from({ length: 32 }, (_, j) => {
      let sum = 0;
      for (let i = 0; i < count; i++) sum += pooled[i * 32 + j] / count;
      return sum;
    });
    const centred = [...pooled.subarray(0, 32)].map((value, j) => value - mean[j]);
    const length = Math.hypot(...centred);
    (await encode(out, [texts[0]])).forEach((value, j) =>
      assert.ok(Math.abs(value - centred[j] / length) < 1e-5, `${j}: ${value}`),
    );
  });

  it('goes behind the Dense modules that the base has', async () => {
    const dense = path.join(home, 'dense');
    await makeTinyModel(dense, { dense: [24, 16] });
    const out = newOut();
    await run({ out, adaptOnly: true, base: { dir: dense, name: 'dense' } });
    const folder = await openModelFolder(out);
    assert.deepEqual(
      folder.dense.map(({ weight }) => weight.shape[0]),
      [24, 16, 8],
    );
    assert.deepEqual((await verifyModel(folder)).problems, []);
  });

  it('encodes a text once: another adaptation of the same texts encodes none', async () => {
    const asked: number[] = [];
    const texts = path.join(home, 'others.txt');
    await writeFile(texts, Array.from({ length: 40 }, (_, i) => `disk ${i} is slow`).join('\n'));
    const onAdaptProgress = (_: number, total: number): void => void asked.push(total);
    await run({ adaptOnly: true, data: [texts], onAdaptProgress });
    assert.equal(asked.at(-1), 40);
    asked.length = 0;
    await run({ adaptOnly: true, data: [texts], adapt: 'center,pca=4', onAdaptProgress });
    assert.deepEqual(asked, []);
  });

  it('behind a training is fitted to the trained encoder, whose weights it leaves alone', async () => {
    const [plain, out] = [newOut(), newOut()];
    const evaluations = [`beir:${BEIR}`];
    await run({ out: plain, adapt: undefined, evaluations });
    const { run: made, step } = await run({ out, evaluations });
    assert.equal(made.steps.length, 4);
    const weights = (dir: string): Promise<Buffer> => readFile(path.join(dir, 'model.safetensors'));
    assert.ok((await weights(out)).equals(await weights(plain)));
    const trained = await openEncoder(plain, { threads: 1, normalize: false });
    const pooled = await trained.encode([...new Set((await readFile(titles, 'utf8')).split('\n'))]);
    await trained.close();
    const { dense } = await openModelFolder(out);
    const found = applyDense(pooled, dense);
    for (let j = 0; j < 8; j++) {
      let sum = 0;
      for (let i = j; i < found.length; i += 8) sum += found[i];
      assert.ok(Math.abs(sum / (found.length / 8)) < 1e-5, `mean of dimension ${j}: ${sum}`);
    }
    assert.deepEqual(
      (await jsonOf(out))['after'],
      made.adapted!.results.map(({ perQuery: _queries, ...result }) => ({
        ...result,
        spec: 'beir:askubuntu-style',
      })),
    );
    assert.match(
      await readFile(path.join(out, 'README.md'), 'utf8'),
      new RegExp(`Step ${step} was exported[^]*Behind the pooling`),
    );
    const left = ['.lock', 'log.jsonl', 'report.html', 'tensorboard'];
    assert.deepEqual((await readdir(runFolderOf(out))).sort(), left);
  });

  it('that is stopped behind a training goes on with --resume', async () => {
    const out = newOut();
    const stop = new AbortController();
    const stopped = run({ out, signal: stop.signal, onAdaptProgress: () => stop.abort() });
    await assert.rejects(stopped, { kind: 'unavailable', message: /--resume where it had trained/ });
    assert.equal(existsSync(out), false);
    const { run: made } = await run({ out, resume: true });
    assert.equal(made.steps.length, 4);
    assert.equal((await openModelFolder(out)).dense.length, 1);
  });

  it('is refused before a text is encoded when it makes no sense', async () => {
    const out = newOut();
    await assert.rejects(run({ out, adapt: 'bleach', adaptOnly: true }), { kind: 'usage' });
    await assert.rejects(run({ out, adapt: 'pca=33', adaptOnly: true }), {
      kind: 'usage',
      message: /32 dimensions, found 33/,
    });
    assert.equal(existsSync(out), false);
  });

  it('trains only when an option of training is there', () => {
    const command = (...options: string[]): { steps: number; adapted?: { adaptation: string } } => {
      const { stdout, stderr, status } = spawnSync(
        process.execPath,
        [
          CLI,
          'finetune',
          '--data',
          titles,
          '--model',
          base,
          '--out',
          newOut(),
          '--threads',
          '1',
          '--json',
          ...options,
        ],
        // What setup built is found by the real cache folder's name.
        { encoding: 'utf8', env: { ...process.env, SENTENCE_JEPA_CACHE: cache } },
      );
      assert.equal(status, 0, stderr);
      return JSON.parse(stdout) as ReturnType<typeof command>;
    };
    const alone = command('--adapt', 'center', '--seed', '2');
    assert.deepEqual([alone.steps, alone.adapted?.adaptation], [0, 'center']);
    const both = command('--adapt', 'center', '--max-steps', '2', '--set', 'batch=16', 'expander=8');
    assert.deepEqual([both.steps, both.adapted?.adaptation], [2, 'center']);
  });

  describe('or training on a base with a Dense module', () => {
    let dense: string;
    const notes: string[] = [];
    const onNote = (note: string): void => void notes.push(note);
    before(async () => {
      dense = path.join(home, 'dense-trained');
      await makeTinyModel(dense, { dense: [16] });
    });

    it('keeps it, and evaluates with it', async () => {
      const out = newOut();
      notes.length = 0;
      const { run: made } = await run({
        out,
        adapt: undefined,
        base: { dir: dense, name: 'dense' },
        evaluations: [`beir:${BEIR}`],
        onNote,
      });
      assert.match(notes.join(), /dense has Dense modules .* they stay as they are/);
      assert.deepEqual((await openModelFolder(out)).dense, (await openModelFolder(dense)).dense);
      assert.equal(made.start.base.dimensions, 16);
      assert.match(await readFile(path.join(out, 'README.md'), 'utf8'), /vector of 16 numbers/);
    });

    it('leaves it out when the pooled vectors become those of a teacher', async () => {
      const out = newOut();
      notes.length = 0;
      await run({
        out,
        adapt: undefined,
        base: { dir: dense, name: 'dense' },
        preset: 'distill',
        teacher: base,
        onNote,
      });
      assert.match(notes.join(), /they are left out/);
      assert.deepEqual((await openModelFolder(out)).dense, []);
    });
  });
});
