import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { benchTrain, pairsOfViews, trainBenchTable, type TrainBench } from '../../bench/train.js';
import { type ModelFolder, openModelFolder } from '../../encoder/model-folder.js';
import { loadTokenizer } from '../../encoder/tokenizer.js';
import { PRESETS } from '../../trainer/presets.js';
import { findWorking } from '../../trainer/setup/verify.js';
import { makeTinyModel } from '../support/tiny-model.js';

const TEXTS = [
  'how do I mount a usb drive at boot',
  'wireless card is not found after the update',
  'the screen stays black when I login',
  'remove an old kernel package',
  'no sound from the laptop',
];
const BATCH = 4;

describe('the pairs of views that trainers are compared on', () => {
  const pairs = pairsOfViews(TEXTS, PRESETS.vicreg);

  it('are two runs of words of each text, in the order of the texts', () => {
    assert.equal(pairs.length, TEXTS.length);
    pairs.forEach((pair, i) => {
      for (const view of pair) assert.ok(` ${TEXTS[i]} `.includes(` ${view} `), view);
    });
    assert.ok(pairs.some(([first, second]) => first !== second));
  });

  it('are the same for the same seed', () => {
    assert.deepEqual(pairsOfViews(TEXTS, PRESETS.vicreg), pairs);
    assert.notDeepEqual(pairsOfViews(TEXTS, { ...PRESETS.vicreg, seed: 2 }), pairs);
  });
});

describe('the table of a training benchmark', () => {
  it('has a row a trainer, and under it what they trained', () => {
    const row = { sentencesPerSecond: 50, millisecondsPerStep: 2560, losses: [21, 20] };
    const table = trainBenchTable({
      recipe: { ...PRESETS.vicreg, precision: 'fp32', expander: [1536, 1536, 1536], threads: 2 },
      tokensOfFirstStep: 1183,
      rows: [
        {
          ...row,
          trainer: 'sentence-jepa',
          tokensPerSecond: 900,
          ratio: 1,
          tokensPerSecondOfRounds: [900, 950],
        },
        {
          ...row,
          trainer: 'peer',
          tokensPerSecond: 600,
          ratio: 1.5,
          tokensPerSecondOfRounds: [600],
          versions: 'peer 1.0',
        },
      ],
    });
    assert.deepEqual(table.split('\n').slice(2), [
      '| sentence-jepa | 900 |  | 50.0 | 2,560 |  |  | 21.0, 20.0 | 900, 950 |',
      '| peer | 600 | 1.50 | 50.0 | 2,560 |  |  | 21.0, 20.0 | 600 |',
      '',
      'VICReg, expander 1536-1536-1536, batch 64, 1183 real tokens in the first step, fp32, 2 threads. peer 1.0.',
    ]);
  });
});

describe('the profile of a training step', () => {
  it('shows the kernels, what is left for JavaScript, and the share of the peak', () => {
    const table = trainBenchTable({
      recipe: { ...PRESETS.vicreg, threads: 2 },
      tokensOfFirstStep: 1183,
      rows: [],
      profile: {
        millisecondsPerStep: 200,
        kernels: [
          { kernel: 'MatMul', calls: 94, milliseconds: 120 },
          { kernel: 'Mul', calls: 474, milliseconds: 50 },
        ],
        gigaflop: 12,
        peak: 150,
      },
    });
    assert.deepEqual(table.split('\n').slice(-7), [
      '| --- | ---: | ---: | ---: |',
      '| MatMul | 94.0 | 120 | 60.0 % |',
      '| Mul | 474 | 50.0 | 25.0 % |',
      '| other kernels | 0.00 | 0.00 | 0.0 % |',
      '| JavaScript |  | 30.0 | 15.0 % |',
      '',
      '12.0 GFLOP a step in dense layers: 60.0 GFLOP/s of 150 that one product of 1024 x 1024 matrices reaches, 40 %.',
    ]);
  });
});

const tensorflow = await findWorking();

describe('a training benchmark', { skip: 'reason' in tensorflow && tensorflow.reason }, () => {
  let folder: string;
  let model: ModelFolder;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'bench-train-'));
    await makeTinyModel(path.join(folder, 'tiny'));
    model = await openModelFolder(path.join(folder, 'tiny'));
  });
  after(() => rm(folder, { recursive: true }));
  // No seconds: a step a round.
  const bench = (changes: { python?: string; batch?: number; profile?: boolean } = {}): Promise<TrainBench> =>
    benchTrain({
      model,
      texts: TEXTS,
      precision: 'fp32',
      batch: BATCH,
      seconds: 0,
      rounds: 2,
      say: () => undefined,
      ...changes,
    });

  it('counts real tokens, and starts from the same loss each time', async () => {
    const tokenizer = loadTokenizer(model);
    const first = pairsOfViews(TEXTS, PRESETS.vicreg).slice(0, BATCH).flat();
    const tokens = first.reduce((sum, text) => sum + tokenizer.count(text), 0);
    const [one, other] = [await bench(), await bench()];
    assert.equal(one.tokensOfFirstStep, tokens);
    const [row] = one.rows;
    assert.equal(one.rows.length, 1);
    assert.equal(row.tokensPerSecondOfRounds.length, 2);
    assert.ok(row.losses.length === 3 && row.losses.every((loss) => loss > 0));
    assert.equal(other.rows[0].losses[0], row.losses[0]);
  });

  it('times the kernels of a step, when asked', async () => {
    const { profile } = await bench({ profile: true });
    const { kernels, millisecondsPerStep, gigaflop, peak } = profile!;
    const callsOf = (name: string): number => kernels.find(({ kernel }) => kernel === name)?.calls ?? 0;
    // Forward, and back to input and weights: four dense layers of the encoder's two, three of the expander, which is
    // forward view by view, and what VICReg multiplies, twice a view.
    assert.equal(callsOf('MatMul'), 3 * 4 * 2 + (2 + 1 + 1) * 3 + 2 * 2);
    const inKernels = kernels.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
    assert.ok(inKernels > 0 && inKernels < millisecondsPerStep);
    const times = kernels.map(({ milliseconds }) => milliseconds);
    assert.deepEqual(
      times,
      [...times].sort((a, b) => b - a),
    );
    assert.ok(gigaflop > 0 && peak > 0);
  });

  it('says what was wrong with a peer that does not start', async () => {
    await assert.rejects(bench({ python: process.execPath }), {
      kind: 'unavailable',
      message: /^sentence-transformers ended before it answered: .*st_train\.py/s,
    });
  });

  it('refuses a batch of more texts than there are', async () => {
    const message = '--batch: expected at most as many as there are texts (5), found 6';
    await assert.rejects(bench({ batch: 6 }), { kind: 'usage', message });
  });
});
