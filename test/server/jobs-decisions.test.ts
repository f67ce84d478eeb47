import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, it, mock } from 'node:test';

import type { JobBoard } from '../../server/jobs/board.js';
import type { Job } from '../../server/jobs/job.js';
import { Jobs } from '../../server/jobs/jobs.js';
import type { Judgement } from '../../server/jobs/judge.js';
import { watchMemory } from '../../server/jobs/memory-limit.js';
import { recipeArguments, type FinetuneRequest } from '../../server/jobs/request.js';
import { isWithin, parseWindow, startSchedule } from '../../server/jobs/schedule.js';
import { progressOf } from '../../server/jobs/training-log.js';
import { decide } from '../../server/jobs/verdict.js';
import type { TrainableCollection } from '../../server/search/collection.js';
import { partOf } from '../../server/search/feedback-table.js';
import { requestOf } from './jobs-support.js';

describe('which part feedback belongs to', () => {
  it('is told by the words alone: a fifth judges, a tenth chooses', () => {
    const counts = { train: 0, dev: 0, test: 0 };
    for (let i = 0; i < 10_000; i++) counts[partOf(`question number ${i}`)]++;
    // Within four standard deviations.
    assert.ok(Math.abs(counts.test - 2000) < 160, String(counts.test));
    assert.ok(Math.abs(counts.dev - 1000) < 120, String(counts.dev));
    for (let i = 0; i < 100; i++)
      assert.equal(partOf(`  QUESTION   number\n${i} `), partOf(`question number ${i}`));
  });
});

describe('a decision', () => {
  const metrics = (map: number) => ({ 'map@100': map, 'mrr@10': map, 'recall@10': map });
  const judgement = (more: { low?: number; queries?: number; std?: number } = {}): Judgement => {
    const { low = 0.01, queries = 100, std = 1 } = more;
    const spread = { std: 1, meanCosine: 0, effectiveRank: 10 };
    return {
      candidate: 'new',
      live: 'old',
      test: {
        queries,
        live: metrics(0.4),
        candidate: metrics(0.43),
        comparison: { metric: 'map@100', difference: 0.03, low, high: 0.05, p: 0.001, n: queries },
      } as Judgement['test'],
      diagnostics: { live: spread, candidate: { ...spread, std } } as Judgement['diagnostics'],
    };
  };
  const ifBetter = { activate: 'if-better', margin: 0 } as const;

  it('activates what is better beyond chance and the margin', () => {
    assert.equal(decide(judgement(), ifBetter).decision, 'activated');
    assert.equal(decide(judgement({ low: -0.001 }), ifBetter).decision, 'refused');
    assert.equal(decide(judgement({ low: 0.01 }), { ...ifBetter, margin: 0.02 }).decision, 'refused');
    assert.equal(decide(judgement({ low: 0.021 }), { ...ifBetter, margin: 0.02 }).decision, 'activated');
  });

  it('is left to a person unless it was asked for', () => {
    assert.equal(decide(judgement(), { activate: 'manual', margin: 0 }).decision, 'ready');
  });

  it('refuses what few queries say, or none, and what has collapsed', () => {
    assert.equal(decide(judgement({ queries: 19 }), ifBetter).decision, 'refused');
    const { reason } = decide({ ...judgement(), test: undefined }, ifBetter);
    assert.match(reason, /no held-out feedback.*expected at least 20 .* found 0/);
    const collapsed = decide(judgement({ std: 0.1 }), { activate: 'manual', margin: 0 });
    assert.equal(collapsed.decision, 'refused');
    assert.match(collapsed.reason, /nearly the same for all texts/);
  });
});

describe('a window of time', () => {
  const at = (time: string): Date => new Date(`2026-11-26T${time}:00`);
  it('goes from its first minute to before its last, over midnight too', () => {
    const night = parseWindow('22:30-05:00');
    assert.deepEqual(night, { from: 1350, to: 300 });
    for (const [time, inside] of [
      ['22:29', false],
      ['22:30', true],
      ['23:59', true],
      ['00:00', true],
      ['04:59', true],
      ['05:00', false],
      ['12:00', false],
    ] as const)
      assert.equal(isWithin(night, at(time)), inside, time);
    assert.equal(isWithin(parseWindow('1:30-5:00'), at('01:29')), false);
    assert.equal(isWithin(parseWindow('1:30-5:00'), at('01:30')), true);
  });

  it('is refused where it is none', () => {
    for (const text of ['', '1:30', '24:00-05:00', '01:60-05:00', 'a-b', '1:00-2:00-3:00'])
      assert.throws(() => parseWindow(text), { kind: 'usage', message: /expected HH:MM-HH:MM/ }, text);
  });
});

describe('a schedule', () => {
  it('begins a job when enough has come, in its window, and while none goes on', async () => {
    mock.timers.enable({ apis: ['setInterval', 'Date'], now: new Date('2026-11-26T00:59:00') });
    const state = { changes: 4, isBusy: false, submitted: 0 };
    const collection = {
      changesSinceLastJob: async () => state.changes,
      info: () => ({ documents: 1 }),
    } as unknown as TrainableCollection;
    const job = (id: number): Job => ({
      ...{ id, request: requestOf('better'), created: '2026-11-26T00:00:00.000Z' },
      state: state.isBusy ? 'training' : 'done',
    });
    const jobs = {
      list: async () => [job(1)],
      async submit() {
        state.submitted++;
        state.isBusy = true;
        return job(state.submitted);
      },
    };
    const end = startSchedule(
      { after: 5, window: parseWindow('01:00-02:00'), request: requestOf('better') },
      collection,
      jobs,
      () => undefined,
    );
    const minutes = async (n: number): Promise<number> => {
      for (let i = 0; i < n; i++) {
        mock.timers.tick(60_000);
        await new Promise((resolve) => setImmediate(resolve));
      }
      return state.submitted;
    };
    try {
      assert.equal(await minutes(2), 0);
      state.changes = 5;
      assert.equal(await minutes(1), 1);
      assert.equal(await minutes(5), 1);
      state.isBusy = false;
      assert.equal(await minutes(1), 2);
      state.isBusy = false;
      assert.equal(await minutes(120), 3, 'one more in the window, none behind it');
      state.isBusy = false;
      assert.equal(await minutes(60), 3);
      end();
    } finally {
      mock.timers.reset();
    }
  });
});

describe('jobs that can not be looked at', () => {
  it('are tried again after a while, also where one was just asked for', async () => {
    let turns = 0;
    const board = {
      isShared: true,
      async inTurn() {
        turns++;
        throw new Error('away');
      },
    } as unknown as JobBoard;
    const collection = {
      jobBoard: () => board,
      list: async () => [{ id: 'a', text: 'a' }],
      addJob: async (request: unknown) => ({ id: 1, request, state: 'queued', created: '' }),
    } as unknown as TrainableCollection;
    const said: string[] = [];
    const jobs = new Jobs({
      ...{ collection, dataDir: '/nowhere', command: [], presets: [], threads: 1, memoryBytes: 1 },
      openModel: () => Promise.reject(new Error('no model')),
      modelOf: () => Promise.reject(new Error('no model')),
      log: (line) => said.push(line),
    });
    await jobs.submit(requestOf('better'));
    jobs.work();
    for (let i = 0; i < 100; i++) await new Promise((resolve) => setImmediate(resolve));
    await jobs.close();
    assert.deepEqual([turns, said], [1, ['training jobs: away']]);
  });
});

describe('what a trainer is told', () => {
  it('is what was asked for, each as one argument', () => {
    const request = {
      ...requestOf('x'),
      preset: 'pairs',
      teacher: '--out',
      settings: { context: 'Ubuntu Linux', batch: 32 },
    };
    assert.deepEqual(recipeArguments(request, 'context'), [
      '--preset=pairs',
      '--teacher=--out',
      '--set',
      'context=Ubuntu Linux',
      'batch=32',
    ]);
  });

  it('names what is trained where nobody did: alone, --adapt trains nothing', () => {
    const { feedback, activate, margin } = requestOf('x');
    const told = (more: Partial<FinetuneRequest>): string[] =>
      recipeArguments({ feedback, activate, margin, ...more }, 'context');
    assert.deepEqual(told({ adapt: 'center' }), ['--preset=context', '--adapt=center']);
    assert.deepEqual(told({ adapt: 'center', objective: 'mlm' }), ['--objective=mlm', '--adapt=center']);
    assert.deepEqual(told({}), ['--preset=context']);
  });

  it('and what its log tells', () => {
    assert.equal(progressOf([]), undefined);
    const step = (n: number): string =>
      JSON.stringify({ type: 'step', step: n, loss: 1 / n, std: 1, effectiveRank: 5, seconds: 2 });
    const evaluation = JSON.stringify({ type: 'evaluation', results: [{ metrics: { 'map@100': 0.4 } }] });
    const start = JSON.stringify({ type: 'start', steps: 10 });
    assert.deepEqual(progressOf([start]), { step: 0, steps: 10 });
    const { step: at, seconds_left, metrics } = progressOf([start, step(1), evaluation, step(2)])!;
    assert.deepEqual([at, seconds_left, metrics], [2, 16, { 'map@100': 0.4 }]);
  });
});

describe('a limit of memory', () => {
  it('is told once when a process passes it', { skip: process.platform !== 'linux' }, async () => {
    const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
    try {
      await once(child, 'spawn');
      let stop = (): void => undefined;
      const bytes = await new Promise<number>((resolve) => {
        stop = watchMemory(child.pid, 2 ** 20, resolve);
      });
      stop();
      assert.ok(bytes > 2 ** 20);
    } finally {
      child.kill();
    }
  });
});
