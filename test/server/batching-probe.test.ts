import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';

import { UserError } from '../../base/errors.js';
import type { Precision } from '../../encoder/graph-file.js';
import type { ModelWorker } from '../../server/batching/pool.js';
import { choosePrecision, chooseSharing, meanCosine } from '../../server/batching/probe.js';
import { startInference } from '../../server/batching/start-inference.js';
import { makeTinyModel } from '../support/tiny-model.js';
import { WORKER_MODEL } from './worker-model.js';

/** No test waits, nor does one depend on how fast the machine is. */
let clock = 0;
const now = (): number => clock;
const stopwatch = { now, withoutCore: () => 0, pause: async () => undefined };

function workerOf(milliseconds: number, closed: ModelWorker[] = [], vector = [1, 0]): ModelWorker {
  const worker: ModelWorker = {
    model: WORKER_MODEL,
    ended: new Promise<UserError>(() => undefined),
    async run(texts) {
      clock += milliseconds;
      return {
        vectors: Float32Array.from(texts.flatMap(() => vector)),
        lengths: texts.map(() => 1),
        tokenizeMs: 0,
        totalMs: 1,
      };
    },
    tokenize: async () => [],
    countTokens: async () => [],
    async close() {
      closed.push(worker);
    },
  };
  return worker;
}

describe('sharing out the cores', () => {
  it('is one worker where a batch is faster by about as much as it has cores; the other one is closed', async () => {
    const closed: ModelWorker[] = [];
    const started = new Map<number, ModelWorker>();
    const start = async (threads: number): Promise<ModelWorker> => {
      const worker = workerOf(threads === 2 ? 2.2 : 4, closed);
      started.set(threads, worker);
      return worker;
    };
    const { worker, ...sharing } = await chooseSharing(start, 2, stopwatch);
    assert.deepEqual(sharing, { workers: 1, threads: 2 });
    assert.equal(worker, started.get(2));
    assert.deepEqual(closed, [started.get(1)]);
  });

  it('is several where it is not, and never more than four', async () => {
    const sharing = async (milliseconds: number, cores: number): Promise<number[]> => {
      const { workers, threads } = await chooseSharing(async () => workerOf(milliseconds), cores, stopwatch);
      return [workers, threads];
    };
    assert.deepEqual(await sharing(2, 2), [2, 1]);
    assert.deepEqual(await sharing(1, 10), [4, 2]);
  });

  it('is measured when nothing else computes, and loaded meanwhile', async () => {
    let isQuiet = false;
    const early: boolean[] = [];
    const start = async (): Promise<ModelWorker> => {
      early.push(!isQuiet);
      const worker = workerOf(1);
      const { run } = worker;
      worker.run = (texts) => {
        assert.ok(isQuiet);
        return run(texts);
      };
      return worker;
    };
    const quiet = nextTurn().then(() => void (isQuiet = true));
    await chooseSharing(start, 2, { ...stopwatch, quiet });
    assert.deepEqual(early, [true, true]);
  });

  it('ends when both have taken the same time twice, and takes its turns until then', async () => {
    const turns = async (times: (run: number) => number): Promise<number> => {
      let runs = 0;
      const start = async (threads: number): Promise<ModelWorker> => {
        const worker = workerOf(0);
        let own = 0;
        worker.run = (texts) => {
          runs++;
          clock += times(own++) / threads;
          return workerOf(0).run(texts);
        };
        return worker;
      };
      await chooseSharing(start, 2, stopwatch);
      return runs;
    };
    assert.equal(await turns(() => 4), 6);
    assert.equal(await turns((run) => 4 + run), 16);
  });

  it('is several only where that is so twice', async () => {
    const measured = async (together: (run: number) => number): Promise<number> => {
      const start = async (threads: number): Promise<ModelWorker> => {
        const worker = workerOf(0);
        let runs = 0;
        worker.run = (texts) => {
          clock += threads === 2 ? together(runs++) : 4;
          return workerOf(0).run(texts);
        };
        return worker;
      };
      return (await chooseSharing(start, 2, stopwatch)).workers;
    };
    // Three rounds are a time, and by what the first had it would be two workers.
    assert.equal(await measured((run) => (run < 3 ? 4 : 2.2)), 1);
    assert.equal(await measured(() => 4), 2);
  });

  it('counts no round in which other programs had a core that a worker was ready for', async () => {
    let waited = 0;
    const measured = async (isBusy: (run: number) => boolean): Promise<number> => {
      const start = async (threads: number): Promise<ModelWorker> => {
        const worker = workerOf(0);
        let runs = 0;
        worker.run = (texts) => {
          const busy = isBusy(runs++);
          // Alone, two threads take 2.2 for 4; beside another program they are no faster than one.
          const took = threads === 2 && !busy ? 2.2 : 4;
          clock += took;
          if (busy) waited += threads === 2 ? took : 0.3 * took;
          return workerOf(0).run(texts);
        };
        return worker;
      };
      return (await chooseSharing(start, 2, { now, withoutCore: () => waited })).workers;
    };
    assert.equal(await measured((run) => run !== 5), 1);
    assert.equal(await measured(() => true), 1);
  });

  it('is not measured for one core', async () => {
    const only = workerOf(1);
    assert.deepEqual(await chooseSharing(async () => only, 1, stopwatch), {
      workers: 1,
      threads: 1,
      worker: only,
    });
  });

  it('closes what was started when another one can not be', async () => {
    const closed: ModelWorker[] = [];
    const start = async (threads: number): Promise<ModelWorker> => {
      if (threads === 1) throw new UserError('corrupt', 'no');
      return workerOf(0, closed);
    };
    await assert.rejects(chooseSharing(start, 2, stopwatch), { kind: 'corrupt' });
    assert.equal(closed.length, 1);
  });
});

describe('the precision auto', () => {
  it('is int8 where that is much faster', async () => {
    const closed: ModelWorker[] = [];
    const by = (fp32: number, int8: number) => async (precision: Precision) =>
      workerOf(precision === 'fp32' ? fp32 : int8, closed);
    assert.equal(await choosePrecision(by(4, 1), stopwatch), 'int8');
    assert.equal(await choosePrecision(by(2, 1.5), stopwatch), 'fp32');
    assert.equal(closed.length, 4);
  });
});

describe('the cosine of two workers', () => {
  it('is the mean of their vectors, whatever the lengths; the second one is closed', async () => {
    const closed: ModelWorker[] = [];
    const other = workerOf(0, closed, [2, 0]);
    assert.ok(Math.abs((await meanCosine(workerOf(0, closed, [3, 4]), async () => other)) - 0.6) < 1e-6);
    assert.deepEqual(closed, [other]);
  });
});

describe('inference that is started', () => {
  let model: string;
  before(async () => {
    model = path.join(await mkdtemp(path.join(tmpdir(), 'probe-')), 'tiny');
    await makeTinyModel(model);
  });
  after(() => rm(path.dirname(model), { recursive: true }));

  it('says its precision, and how near int8 is to fp32', async () => {
    const [exact, rounded] = [
      await startInference({ model, workers: 1, threads: 1 }),
      await startInference({ model, precision: 'int8', workers: 1, threads: 1 }),
    ];
    try {
      assert.deepEqual([exact.precision, exact.cosineToFp32], ['fp32', undefined]);
      assert.equal(rounded.precision, 'int8');
      while (rounded.cosineToFp32 === undefined) await nextTurn();
      assert.ok(rounded.cosineToFp32 > 0.99 && rounded.cosineToFp32 < 1);
      assert.notEqual(exact.fingerprint, rounded.fingerprint);
      const texts = Array.from({ length: 40 }, (_, i) => 'usb stick '.repeat(1 + (i % 9)));
      const together = await rounded.encode(texts);
      const d = rounded.dimensions;
      for (const i of [0, 8, 21])
        assert.deepEqual(await rounded.encode([texts[i]]), together.slice(i * d, (i + 1) * d));
    } finally {
      await Promise.all([exact.close(), rounded.close()]);
    }
  });

  it('finds precision and workers by itself', async () => {
    const inference = await startInference({ model, precision: 'auto' });
    try {
      assert.ok(['fp32', 'int8'].includes(inference.precision));
      const { workers, threadsPerWorker } = inference.stats();
      assert.ok(workers >= 1 && threadsPerWorker >= 1);
      assert.equal((await inference.encode(['usb'])).length, inference.dimensions);
    } finally {
      await inference.close();
    }
  });
});
