import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it, mock } from 'node:test';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';

import { UserError } from '../../base/errors.js';
import type { Token } from '../../server/batching/inference.js';
import {
  InferencePool,
  type ModelWorker,
  type PoolOptions,
  type WorkerBatch,
  type WorkerModel,
} from '../../server/batching/pool.js';
import type { EncodeTiming } from '../../server/observer.js';
import { WORKER_MODEL } from './worker-model.js';

/** A worker that answers when the test says so. The vector of "3 4" is (3, 4). */
class ManualWorker implements ModelWorker {
  readonly model: WorkerModel;
  readonly batches: string[][] = [];
  closed = false;
  readonly ended: Promise<UserError>;
  private endNow!: (reason: UserError) => void;
  private current: { resolve: () => void; reject: (error: unknown) => void } | undefined;

  constructor(fingerprint = WORKER_MODEL.fingerprint) {
    this.model = { ...WORKER_MODEL, fingerprint };
    this.ended = new Promise((resolve) => (this.endNow = resolve));
  }

  run(texts: readonly string[]): Promise<WorkerBatch> {
    return this.answerLater(texts, {
      vectors: Float32Array.from(texts.flatMap((text) => text.split(' ').map(Number))),
      lengths: texts.map((text) => text.length + 1),
      tokenizeMs: texts.length,
      totalMs: texts.length,
    });
  }

  tokenize(texts: readonly string[]): Promise<Token[][]> {
    return this.answerLater(
      texts,
      texts.map((text) => [{ id: text.length, text, special: false }]),
    );
  }

  countTokens(texts: readonly string[]): Promise<number[]> {
    return this.answerLater(
      texts,
      texts.map(({ length }) => length),
    );
  }

  private answerLater<T>(texts: readonly string[], made: T): Promise<T> {
    assert.equal(this.current, undefined, 'a worker has one batch at a time');
    this.batches.push([...texts]);
    return new Promise((resolve, reject) => (this.current = { resolve: () => resolve(made), reject }));
  }

  get busy(): boolean {
    return this.current !== undefined;
  }

  async finish(): Promise<void> {
    const { resolve } = this.current!;
    this.current = undefined;
    resolve();
    await nextTurn();
  }

  async fail(error: unknown): Promise<void> {
    const { reject } = this.current!;
    this.current = undefined;
    reject(error);
    await nextTurn();
    await nextTurn();
  }

  async crash(): Promise<void> {
    const reason = new UserError('backend', 'the inference thread stopped: exit code 9');
    this.current?.reject(reason);
    this.current = undefined;
    this.endNow(reason);
    await nextTurn();
    await nextTurn();
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}

const defaults: PoolOptions = {
  workers: 1,
  threadsPerWorker: 1,
  precision: 'fp32',
  batchTokens: 6,
  queue: { tokens: 100, seconds: 60 },
  batchSeconds: 60,
};

async function pool(
  options: Partial<PoolOptions> = {},
): Promise<{ pool: InferencePool; workers: ManualWorker[] }> {
  const workers: ManualWorker[] = [];
  const start = async (): Promise<ManualWorker> => {
    const worker = new ManualWorker();
    workers.push(worker);
    return worker;
  };
  const started = new InferencePool(await start(), start, { ...defaults, ...options });
  await turns();
  return { pool: started, workers };
}

const silent = { encoded() {}, batch() {}, workerLost() {}, workerNotStarted() {} };

/** Lets what was scheduled with setImmediate run. */
async function turns(): Promise<void> {
  for (let i = 0; i < 5; i++) await nextTurn();
}

function isUserError(kind: string, words: RegExp) {
  return (error: unknown): boolean =>
    error instanceof UserError && error.kind === kind && words.test(error.message);
}

describe('inference pool', () => {
  it('ends a thread that was starting in place of another when it is closed', async () => {
    const first = new ManualWorker();
    const second = new ManualWorker();
    let started: (worker: ManualWorker) => void = () => undefined;
    const start = new Promise<ManualWorker>((resolve) => (started = resolve));
    const inference = new InferencePool(first, () => start, defaults);
    await first.crash();
    await inference.close();
    started(second);
    await nextTurn();
    assert.ok(second.closed);
  });

  it('gives every text its row, in order, across batches', async () => {
    const { pool: inference, workers } = await pool();
    const result = inference.encode(['3 4', '0 2', '5 12'], { normalize: false });
    await workers[0].finish();
    await workers[0].finish();
    assert.deepEqual([...(await result)], [3, 4, 0, 2, 5, 12]);
    const { tokensPerSecond, ...stats } = inference.stats();
    assert.ok(tokensPerSecond > 0);
    assert.deepEqual(stats, {
      workers: 1,
      workersWanted: 1,
      threadsPerWorker: 1,
      queuedTexts: 0,
      queuedTokens: { interactive: 0, bulk: 0 },
      texts: 3,
      tokens: 13,
      batches: 2,
    });
  });

  it('says how many tokens of each text were read', async () => {
    const { pool: inference, workers } = await pool();
    const result = inference.encodeWithLengths(['10 10', '0 2', '5 12'], { normalize: false });
    await workers[0].finish();
    await workers[0].finish();
    const { vectors, lengths } = await result;
    assert.deepEqual([...vectors], [10, 10, 0, 2, 5, 12]);
    assert.deepEqual([...lengths], [6, 4, 5]);
  });

  it('tells how long a request waited and was worked on, and why one failed', async () => {
    const encoded: EncodeTiming[] = [];
    const batches: object[] = [];
    const observer = {
      ...silent,
      encoded: (timing: EncodeTiming) => encoded.push(timing),
      batch: (size: object) => batches.push(size),
    };
    const { pool: inference, workers } = await pool({ observer });
    const result = inference.encode(['3 4', '0 2', '5 12'], { priority: 'bulk' });
    const aborted = new AbortController();
    const fails = assert.rejects(inference.encode(['1 1'], { signal: aborted.signal }), /gone/);
    aborted.abort(new Error('gone'));
    await fails;
    await workers[0].finish();
    await workers[0].finish();
    await result;
    assert.deepEqual(batches, [{ lengths: [4, 4] }, { lengths: [5] }]);
    const [failed, done] = encoded;
    assert.deepEqual([failed.texts, failed.priority, failed.dispatched], [1, 'interactive', undefined]);
    assert.match(String(failed.error), /gone/);
    assert.deepEqual([done.texts, done.priority, done.error], [3, 'bulk', undefined]);
    // The worker says 2 ms for two texts and 1 ms for one: 1 ms each.
    assert.equal(done.tokenize, 1);
    assert.ok(done.start <= done.dispatched! && done.dispatched! <= done.end);
    assert.ok(done.queue > 0 && done.queue < done.end - done.start);
    assert.ok(Number.isFinite(done.inference));
  });

  it('scales to length 1 as the model says, unless asked not to', async () => {
    const { pool: inference, workers } = await pool();
    const scaled = inference.encode(['3 4']);
    await workers[0].finish();
    const [x, y] = await scaled;
    assert.ok(Math.abs(x - 0.6) < 1e-7 && Math.abs(y - 0.8) < 1e-7);
    const raw = inference.encode(['3 4'], { normalize: false });
    await workers[0].finish();
    assert.deepEqual([...(await raw)], [3, 4]);
  });

  it('merges requests that wait together into one batch', async () => {
    const { pool: inference, workers } = await pool({ batchTokens: 100 });
    const first = inference.encode(['1 0']);
    const others = [inference.encode(['0 1']), inference.encode(['0 2'])];
    await workers[0].finish();
    await workers[0].finish();
    await Promise.all([first, ...others]);
    assert.deepEqual(workers[0].batches, [['1 0'], ['0 1', '0 2']]);
  });

  it('never lets bulk work delay an interactive text by more than the batch under way', async () => {
    const { pool: inference, workers } = await pool();
    const bulk = inference.encode(['1 1', '1 2', '1 3', '1 4'], { priority: 'bulk' });
    const interactive = inference.encode(['9 9']);
    await workers[0].finish();
    assert.deepEqual(workers[0].batches.at(-1), ['9 9']);
    await workers[0].finish();
    await interactive;
    await workers[0].finish();
    await bulk;
  });

  it('uses every free worker', async () => {
    const { pool: inference, workers } = await pool({ workers: 2 });
    const result = inference.encode(['1 1', '1 2', '1 3'], { normalize: false });
    assert.deepEqual(
      workers.map(({ busy }) => busy),
      [true, true],
    );
    await workers[1].finish();
    await workers[0].finish();
    assert.deepEqual([...(await result)], [1, 1, 1, 2, 1, 3]);
  });

  it('takes an aborted request out of the queue and drops what comes back for it', async () => {
    const { pool: inference, workers } = await pool();
    const controller = new AbortController();
    const aborted = inference.encode(['1 1', '1 2', '1 3', '1 4'], { signal: controller.signal });
    controller.abort(new Error('the client left'));
    await assert.rejects(aborted, /the client left/);
    assert.equal(inference.stats().queuedTexts, 0);
    await workers[0].finish();
    assert.equal(workers[0].busy, false);
    await assert.rejects(inference.encode(['1 1'], { signal: controller.signal }), /the client left/);
  });

  it('tries a failed batch once more, each request apart', async () => {
    const { pool: inference, workers } = await pool({ batchTokens: 100 });
    const first = inference.encode(['1 0']);
    const good = inference.encode(['2 0'], { normalize: false });
    const bad = inference.encode(['0 2']);
    const badFails = assert.rejects(bad, isUserError('backend', /out of memory/));
    await workers[0].finish();
    await workers[0].fail(new UserError('backend', 'out of memory'));
    assert.deepEqual(workers[0].batches.at(-1), ['2 0']);
    await workers[0].finish();
    assert.deepEqual(workers[0].batches.at(-1), ['0 2']);
    await workers[0].fail(new UserError('backend', 'out of memory'));
    await badFails;
    assert.deepEqual([...(await good)], [2, 0]);
    await first;
  });

  it('starts a worker again after a crash and loses no request by it', async () => {
    const { pool: inference, workers } = await pool();
    const result = inference.encode(['3 0', '4 0'], { normalize: false });
    await workers[0].crash();
    assert.equal(workers.length, 2);
    assert.deepEqual(workers[1].batches, [['3 0', '4 0']]);
    await workers[1].finish();
    assert.deepEqual([...(await result)], [3, 0, 4, 0]);
  });

  it('fails the request whose text crashes a worker twice', async () => {
    const { pool: inference, workers } = await pool();
    const result = inference.encode(['3 0']);
    const fails = assert.rejects(result, isUserError('backend', /exit code 9/));
    await workers[0].crash();
    await workers[1].crash();
    await fails;
    const next = inference.encode(['3 0'], { normalize: false });
    await workers[2].finish();
    assert.deepEqual([...(await next)], [3, 0]);
  });

  describe('with a worker that hangs', () => {
    beforeEach(() => mock.timers.enable({ apis: ['setTimeout'] }));
    afterEach(() => mock.timers.reset());

    it('gives it up after the limit, and has its texts computed by another one', async () => {
      const lost: string[] = [];
      const { pool: inference, workers } = await pool({
        batchSeconds: 5,
        observer: { ...silent, workerLost: ({ message }) => lost.push(message) },
      });
      const result = inference.encode(['3 0', '4 0'], { normalize: false });
      mock.timers.tick(4_999);
      assert.equal(workers.length, 1);
      mock.timers.tick(1);
      await turns();
      assert.equal(workers[0].closed, true);
      assert.deepEqual(workers[1].batches, [['3 0', '4 0']]);
      await workers[1].finish();
      assert.deepEqual([...(await result)], [3, 0, 4, 0]);
      // When its native code returns after all, nothing more comes of it.
      await workers[0].crash();
      assert.equal(workers.length, 2);
      assert.equal(inference.stats().workers, 1);
      assert.equal(lost.length, 1);
    });

    it('fails the request whose text makes it hang twice, and goes on', async () => {
      const { pool: inference, workers } = await pool({ batchSeconds: 5 });
      const fails = assert.rejects(
        inference.encode(['3 0']),
        isUserError('backend', /not answer within 5 s \(--batch-seconds\)/),
      );
      for (let i = 0; i < 2; i++) {
        mock.timers.tick(5_000);
        await turns();
      }
      await fails;
      const next = inference.encode(['4 0'], { normalize: false });
      await workers[2].finish();
      assert.deepEqual([...(await next)], [4, 0]);
    });

    it('leaves alone one that answers in time', async () => {
      const { pool: inference, workers } = await pool({ batchSeconds: 5 });
      const result = inference.encode(['3 0']);
      await workers[0].finish();
      await result;
      mock.timers.tick(60_000);
      await turns();
      assert.equal(workers.length, 1);
    });
  });

  describe('with a successor that does not start', () => {
    beforeEach(() => mock.timers.enable({ apis: ['setTimeout'] }));
    afterEach(() => mock.timers.reset());

    /** A pool whose workers can be started only while `starts` is true. */
    async function flaky(count: number) {
      const state = { starts: true, tries: 0, told: [] as [string, number][] };
      const workers: ManualWorker[] = [];
      const start = async (): Promise<ManualWorker> => {
        state.tries++;
        if (!state.starts) throw new UserError('unavailable', 'no memory');
        workers.push(new ManualWorker());
        return workers.at(-1)!;
      };
      const inference = new InferencePool(await start(), start, {
        ...defaults,
        workers: count,
        observer: {
          ...silent,
          workerNotStarted: ({ message }, again) => state.told.push([message, again]),
        },
      });
      await turns();
      return { state, workers, inference };
    }

    it('tries again, less and less often, until there are as many as before', async () => {
      const { state, workers, inference } = await flaky(2);
      state.starts = false;
      await workers[0].crash();
      assert.deepEqual([state.tries, inference.stats().workers], [3, 1]);
      for (const [wait, tries] of [
        [999, 3],
        [1, 4],
        [1_999, 4],
        [1, 5],
      ]) {
        mock.timers.tick(wait);
        await turns();
        assert.equal(state.tries, tries);
      }
      state.starts = true;
      mock.timers.tick(4_000);
      await turns();
      assert.equal(inference.stats().workers, 2);
      assert.deepEqual(
        state.told,
        [1_000, 2_000, 4_000].map((again) => ['no memory', again]),
      );
    });

    it('answers again when the last one could be replaced after all', async () => {
      const { state, workers, inference } = await flaky(1);
      state.starts = false;
      await workers[0].crash();
      await assert.rejects(inference.encode(['3 0']), isUserError('unavailable', /no inference thread/));
      state.starts = true;
      mock.timers.tick(1_000);
      await turns();
      const result = inference.encode(['3 0'], { normalize: false });
      await workers[1].finish();
      assert.deepEqual([...(await result)], [3, 0]);
    });

    it('takes no worker with another model than the one that is served', async () => {
      const told: string[] = [];
      const first = new ManualWorker();
      const other = new ManualWorker('g');
      const again = new ManualWorker();
      const starts = [other, again];
      const inference = new InferencePool(first, async () => starts.shift()!, {
        ...defaults,
        workers: 2,
        observer: { ...silent, workerNotStarted: ({ message }) => told.push(message) },
      });
      await turns();
      assert.deepEqual([inference.stats().workers, other.closed], [1, true]);
      assert.deepEqual(told, [
        '/nowhere: expected the model that is served, of fingerprint f, found another one, g; restart the server to serve that',
      ]);
      mock.timers.tick(1_000);
      await turns();
      assert.deepEqual([inference.stats().workers, again.closed], [2, false]);
    });

    it('gives up when it is closed', async () => {
      const { state, workers, inference } = await flaky(2);
      state.starts = false;
      await workers[0].crash();
      await inference.close();
      mock.timers.tick(1_000);
      await turns();
      assert.equal(state.tries, 3);
    });
  });

  it('says without the files of the server when no worker can be started any more, and when one is tried', async () => {
    const cause = new UserError('not-found', '/srv/model/config.json: no such file');
    const worker = new ManualWorker();
    const inference = new InferencePool(worker, () => Promise.reject(cause), defaults);
    const message =
      'no inference thread can be started, for a reason that the log has; it is tried again in 1 s';
    const unavailable = { kind: 'unavailable', message, retryAfter: 1, cause };
    const fails = assert.rejects(inference.encode(['1 1']), unavailable);
    await worker.crash();
    await fails;
    await assert.rejects(inference.encode(['1 1']), unavailable);
  });

  it('works with one worker while the others start', async () => {
    const first = new ManualWorker();
    const second = new ManualWorker();
    let arrive = (): void => undefined;
    const arrived = new Promise<ManualWorker>((resolve) => (arrive = () => resolve(second)));
    const inference = new InferencePool(first, () => arrived, { ...defaults, workers: 2 });
    const [a, b] = [inference.encode(['1 0']), inference.encode(['0 2'])];
    await turns();
    const { workers, workersWanted } = inference.stats();
    assert.deepEqual([workers, workersWanted, first.batches.length], [1, 2, 1]);
    arrive();
    await turns();
    assert.equal(inference.stats().workers, 2);
    assert.equal(second.batches.length, 1);
    for (const worker of [first, second]) worker.finish();
    assert.deepEqual([...(await a), ...(await b)], [1, 0, 0, 1]);
  });

  it('refuses a request that would pass the limit of waiting tokens, for its priority', async () => {
    // A text here is 3 estimated tokens, and a batch takes two.
    const { pool: inference, workers } = await pool({ queue: { tokens: 9, seconds: 60 } });
    const texts = (n: number): string[] => Array.from({ length: n }, (_, i) => `1 ${i}`);
    const bulk = inference.encode(texts(14), { priority: 'bulk' });
    await assert.rejects(
      inference.encode(texts(1), { priority: 'bulk' }),
      isUserError('overloaded', /about 36 tokens are waiting and 3 more would pass the limit of 36 for bulk/),
    );
    const first = inference.encode(texts(2));
    await assert.rejects(
      inference.encode(texts(2)),
      isUserError('overloaded', /about 6 tokens .* limit of 9 for interactive .* in 1 s/),
    );
    const second = inference.encode(texts(1));
    // To see whether anything is computed, a text gets in all the same.
    const probe = inference.encode(texts(1), { probe: true });
    assert.deepEqual(inference.stats().queuedTokens, { interactive: 12, bulk: 36 });
    for (let i = 0; i < 9; i++) await workers[0].finish();
    await Promise.all([bulk, first, second, probe]);
    assert.deepEqual(inference.stats().queuedTokens, { interactive: 0, bulk: 0 });
  });

  it('lets a burst in though it comes to the first answer late, with all of it to read', async () => {
    // A text here is 3 estimated tokens; a thread takes 1 ms for each: 6,000 tokens in the 2 s that one may wait.
    const { pool: inference, workers } = await pool({ queue: { tokens: 10_000, seconds: 2 } });
    const burst = [inference.encode(['1 0'])];
    await sleep(50);
    await workers[0].finish();
    for (let i = 0; i < 1_000; i++) burst.push(inference.encode(['1 0']));
    while (workers[0].busy) await workers[0].finish();
    assert.equal((await Promise.all(burst)).length, 1_001);
  });

  it('reckons its speed with what passes between batches that follow on one another', async () => {
    const { pool: inference, workers } = await pool();
    // Three batches of two texts, 6 estimated tokens, each of which the thread says it took 2 ms for. They count as 4 at most.
    const vectors = inference.encode(['1 0', '1 0', '1 0', '1 0', '1 0', '1 0']);
    await workers[0].finish();
    assert.ok(Math.abs(inference.stats().tokensPerSecond - 3_000) < 1e-6);
    for (let i = 0; i < 2; i++) {
      await sleep(100);
      await workers[0].finish();
    }
    await vectors;
    const followed = (6 * (1 + 0.95 + 0.95 ** 2)) / (0.004 * (1 + 0.95) + 0.002 * 0.95 ** 2);
    assert.ok(Math.abs(inference.stats().tokensPerSecond - followed) < 1e-6);
    const idle = inference.encode(['1 0', '1 0']);
    await sleep(100);
    await workers[0].finish();
    await idle;
    assert.ok(inference.stats().tokensPerSecond > followed, 'what it waited for work counts for nothing');
  });

  describe('that is asked for tokens', () => {
    it('gives those of every text, in order, across batches', async () => {
      const { pool: inference, workers } = await pool();
      const counted = inference.countTokens(['a', 'bb', 'c'.repeat(200), 'dd']);
      const tokens = inference.tokenize(['eeee', 'fff']);
      while (workers[0].busy) await workers[0].finish();
      assert.deepEqual(await counted, [1, 2, 200, 2]);
      assert.deepEqual(
        (await tokens).map(([{ id, text }]) => [id, text]),
        [
          [4, 'eeee'],
          [3, 'fff'],
        ],
      );
      const { texts, batches, tokensPerSecond } = inference.stats();
      assert.deepEqual([texts, batches, tokensPerSecond], [0, 0, 0], 'figures are of what was embedded');
    });

    it('lets a text that is to be encoded wait for one batch alone', async () => {
      const { pool: inference, workers } = await pool();
      const tokens = inference.tokenize(['a', 'b', 'c', 'd', 'e'], { priority: 'bulk' });
      const vector = inference.encode(['3 4']);
      while (workers[0].busy) await workers[0].finish();
      assert.deepEqual(workers[0].batches, [['a', 'b', 'c'], ['3 4'], ['d', 'e']]);
      await Promise.all([tokens, vector]);
    });

    it('leaves out what waits of a request that is given up', async () => {
      const { pool: inference, workers } = await pool();
      const client = new AbortController();
      const gone = assert.rejects(
        inference.tokenize(['a', 'b', 'c', 'd', 'e'], { signal: client.signal }),
        /the client left/,
      );
      client.abort(new Error('the client left'));
      await gone;
      await workers[0].finish();
      assert.deepEqual([workers[0].busy, inference.stats().queuedTexts], [false, 0]);
    });

    it('tries once more when the worker dies, and waits while there is none', async () => {
      const [first, second] = [new ManualWorker(), new ManualWorker()];
      let arrive = (): void => undefined;
      const arrived = new Promise<ManualWorker>((resolve) => (arrive = () => resolve(second)));
      const inference = new InferencePool(first, () => arrived, defaults);
      const tokens = inference.tokenize(['a']);
      await first.crash();
      const counts = inference.countTokens(['bb']);
      arrive();
      await turns();
      for (let i = 0; i < 2; i++) await second.finish();
      assert.deepEqual(second.batches, [['a'], ['bb']]);
      assert.deepEqual([(await tokens).length, await counts], [1, [2]]);
    });

    it('refuses what would pass the limit of waiting tokens, by the length of its texts', async () => {
      const { pool: inference, workers } = await pool({ queue: { tokens: 9, seconds: 60 } });
      const first = inference.tokenize(['a'.repeat(320), 'b'.repeat(320)]);
      await assert.rejects(
        inference.countTokens(['c'.repeat(320)]),
        isUserError('overloaded', /about 6 tokens are waiting and 6 more would pass the limit of 9/),
      );
      while (workers[0].busy) await workers[0].finish();
      await first;
    });
  });

  it('refuses a vector that is not finite', async () => {
    const { pool: inference, workers } = await pool();
    const result = inference.encode(['NaN 1']);
    const fails = assert.rejects(result, isUserError('backend', /NaN/));
    await workers[0].finish();
    await fails;
  });

  it('answers what is there before it closes, and refuses what comes after', async () => {
    const { pool: inference, workers } = await pool();
    const result = inference.encode(['1 1']);
    const closed = inference.close();
    await assert.rejects(inference.encode(['1 1']), isUserError('not-ready', /shutting down/));
    assert.equal(workers[0].closed, false);
    await workers[0].finish();
    await result;
    await closed;
    assert.equal(workers[0].closed, true);
  });
});
