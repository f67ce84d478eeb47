import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { ownModel } from '../../server/jobs/folders.js';
import { modelNameOf } from '../../server/jobs/job.js';
import { Jobs, type JobsOptions } from '../../server/jobs/jobs.js';
import { openPostgresCollection } from '../../server/postgres/open-collection.js';
import type { TrainableCollection } from '../../server/search/collection.js';
import { removeFolder } from '../support/remove-folder.js';
import { isUserError } from './collection-suite.js';
import {
  documentsOf,
  encoderNamed,
  feedbackOf,
  heldUntil,
  LIVE,
  openFake,
  requestOf,
  until,
} from './jobs-support.js';
import { onConnection, startPostgres, withoutPostgres, type PostgresServer } from './postgres-server.js';

const DOCUMENTS = 300;

/** A process on a machine of its own. */
interface Machine {
  dataDir: string;
  collection: TrainableCollection;
  jobs: Jobs;
  said: string[];
  /** As kill -9 leaves it, but for the process itself: it has no connection any more. */
  close(): Promise<void>;
}

/** Where the trainer works. */
function trainingOf({ dataDir }: Machine, id: number): string {
  return path.join(dataDir, 'models', `${modelNameOf(id)}.training`);
}

/** What the trainer wrote. */
function logOf(machine: Machine, id: number): string[] {
  return readFileSync(path.join(trainingOf(machine, id), 'log.jsonl'), 'utf8')
    .trimEnd()
    .split('\n');
}

describe('training jobs on one PostgreSQL', { skip: withoutPostgres }, () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'postgres-jobs-'));
  let server: PostgresServer;
  const opened: Machine[] = [];
  before(async () => {
    server = await startPostgres();
  });
  after(async () => {
    for (const machine of opened) await machine.close();
    await server?.close();
    await removeFolder(folder);
  });

  /** @param store where trained models are for all of them */
  async function open(url: string, store: string, options: Partial<JobsOptions> = {}): Promise<Machine> {
    const dataDir = options.dataDir ?? mkdtempSync(path.join(folder, 'machine-'));
    const modelOf: JobsOptions['modelOf'] = async (generation) => {
      const own = ownModel(generation, dataDir);
      return generation.job === undefined || existsSync(own) ? own : path.join(store, generation.model);
    };
    const said: string[] = [];
    const collection = await openPostgresCollection({
      ...{ url, inference: encoderNamed(LIVE, 'beginner'), source: LIVE, pollMs: 50 },
      openModel: async ({ model }) => openFake(path.join(store, model)),
    });
    const jobs = new Jobs({
      collection,
      dataDir,
      command: [process.execPath, fileURLToPath(new URL('./fake-trainer.js', import.meta.url))],
      presets: ['context'],
      openModel: async (model) => openFake(model),
      modelOf,
      publish: async (from) => cpSync(from, path.join(store, path.basename(from)), { recursive: true }),
      threads: 1,
      memoryBytes: 2 ** 32,
      log: (line) => said.push(line),
      ...options,
    });
    let closing: Promise<void> | undefined;
    const machine: Machine = {
      ...{ dataDir, collection, jobs, said },
      close: () => (closing ??= jobs.close().then(() => collection.close())),
    };
    opened.push(machine);
    return machine;
  }

  /** A database with documents and feedback, and the folder of its models. */
  async function filled(): Promise<{ url: string; store: string; asked: Machine }> {
    const url = await server.freshDatabase();
    const store = mkdtempSync(path.join(folder, 'store-'));
    const asked = await open(url, store);
    await asked.collection.upsert(documentsOf(DOCUMENTS));
    await asked.collection.addFeedback(feedbackOf(DOCUMENTS));
    return { url, store, asked };
  }

  /** The worker that has the turn, by the number of its connections' backends that hold the lock. */
  function holders(url: string): Promise<number[]> {
    return onConnection(url, async (client) => {
      const { rows } = await client.query<{ pid: number }>(
        `SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 760401177 AND granted
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
      );
      return rows.map(({ pid }) => pid);
    });
  }

  it('are asked for on one server, told of on another, run in a worker, and go live on all', async () => {
    const { url, store, asked } = await filled();
    const other = await open(url, store);
    const seenAll = path.join(store, 'seen-all');
    const request = heldUntil(seenAll, { activate: 'if-better' });
    const { id } = await asked.jobs.submit(request, { pairs: [['sent with it', 'as a pair']] });
    assert.equal((await other.jobs.job(id)).state, 'queued');

    const worker = await open(url, store);
    worker.jobs.work();
    const log = other.jobs.log(id);
    const lines: string[] = [];
    while (lines.length < 5) {
      lines.push(...(await log.next()));
      await sleep(20);
    }
    const training = await until(other.jobs, id, 'training');
    const { training: told } = await other.jobs.progress(training);
    assert.ok(told!.step >= 3 && told!.steps === 20);
    await assert.rejects(asked.jobs.activate(modelNameOf(id)), isUserError('not-found'));
    writeFileSync(seenAll, '');

    const { verdict } = await until(other.jobs, id);
    assert.equal(verdict?.decision, 'activated');
    lines.push(...(await log.next()));
    assert.deepEqual(lines, logOf(worker, id));
    for (const each of [asked, other, worker])
      while (each.collection.served().model !== modelNameOf(id)) await sleep(10);
    const [hit] = await other.collection.search({ query: 'subject7 thing7', k: 1, mode: 'dense' });
    assert.equal(hit.id, 'd7');
    // What came with the request is not kept, and nothing of it was on the server's machine.
    assert.deepEqual(await onConnection(url, async (c) => (await c.query('SELECT FROM job_data')).rows), []);
    assert.deepEqual(readdirSync(asked.dataDir), []);
    assert.equal((await asked.jobs.rollback()).model, LIVE);
    while (worker.collection.served().model !== LIVE) await sleep(10);
    assert.equal((await other.jobs.activate(modelNameOf(id))).model, modelNameOf(id));
    await assert.rejects(other.jobs.cancel(id), isUserError('exists', 'has ended already: done'));
  });

  it('wait for a person on every server, which gets the model when it is asked to activate it', async () => {
    const { url, store, asked } = await filled();
    const worker = await open(url, store);
    worker.jobs.work();
    const { id } = await asked.jobs.submit(requestOf('better'));
    assert.equal((await until(asked.jobs, id)).verdict?.decision, 'ready');
    await asked.collection.upsert([{ id: 'later', text: 'written behind the judgement' }]);
    await asked.jobs.activate(modelNameOf(id));
    while (worker.collection.served().model !== modelNameOf(id)) await sleep(10);
    const query = 'written behind the judgement';
    for (const { collection } of [asked, worker]) {
      const [hit] = await collection.search({ query, k: 1, mode: 'dense' });
      assert.equal(hit.id, 'later');
    }
  });

  it('are run by one worker at a time, and by another one when that is cut off', async () => {
    const { url, store, asked } = await filled();
    const workers = [await open(url, store), await open(url, store)];
    for (const { jobs } of workers) jobs.work();
    const cutOff = path.join(store, 'cut-off');
    const { id } = await asked.jobs.submit(heldUntil(cutOff));
    const second = await asked.jobs.submit(requestOf('better'));
    await until(asked.jobs, id, 'training');
    const log = asked.jobs.log(id);
    while ((await log.next()).length === 0) await sleep(20);
    const begun = (machine: Machine): boolean => existsSync(trainingOf(machine, id));
    assert.equal(workers.filter(begun).length, 1);
    assert.equal((await asked.jobs.job(second.id)).state, 'queued');
    const [first, next] = begun(workers[0]) ? workers : [...workers].reverse();
    const [pid] = await holders(url);
    await onConnection(url, (client) => client.query('SELECT pg_terminate_backend($1)', [pid]));
    // It may get the turn again; gone, it can't.
    await first.close();
    writeFileSync(cutOff, '');
    const job = await until(asked.jobs, id);
    assert.equal(job.verdict?.decision, 'ready');
    assert.ok(begun(next));
    const lines = (await asked.jobs.log(id).next()).map((line) => JSON.parse(line) as { type: string });
    assert.deepEqual(
      lines.map(({ type }) => type),
      ['start', ...Array<string>(20).fill('step')],
    );
    await until(asked.jobs, second.id);
    assert.equal((await holders(url)).length, 1);
  });

  it('go on elsewhere with the model that was published, not trained again', async () => {
    const { url, store, asked } = await filled();
    const { id } = await asked.jobs.submit(requestOf('better'));
    const first = await open(url, store);
    first.jobs.work();
    await until(asked.jobs, id);
    await first.close();
    // As it is when a worker died that had given the candidate its generation.
    await onConnection(url, (client) =>
      client.query(`UPDATE jobs SET state = 'embedding', ended = NULL, verdict = NULL`),
    );
    const next = await open(url, store);
    next.jobs.work();
    assert.equal((await until(asked.jobs, id)).verdict?.decision, 'ready');
    assert.ok(!existsSync(path.join(next.dataDir, 'models')));
  });

  it('are cancelled from a server, and what the worker was making goes', async () => {
    const { url, store, asked } = await filled();
    const worker = await open(url, store);
    worker.jobs.work();
    const { id } = await asked.jobs.submit(requestOf('held'), { texts: ['one text', 'another'] });
    await until(asked.jobs, id, 'training');
    while (!existsSync(path.join(trainingOf(worker, id), 'log.jsonl'))) await sleep(10);
    assert.equal((await asked.jobs.cancel(id)).state, 'cancelled');
    const rest = await asked.jobs.submit(requestOf('better'));
    await until(asked.jobs, rest.id);
    assert.equal((await asked.jobs.job(id)).state, 'cancelled');
    assert.deepEqual(readdirSync(trainingOf(worker, id)), ['log.jsonl']);
    assert.ok(!existsSync(path.join(worker.dataDir, 'jobs', String(id), 'data')));
    assert.deepEqual(await onConnection(url, async (c) => (await c.query('SELECT FROM job_data')).rows), []);
    assert.ok(!worker.collection.generations().some(({ job }) => job === id));
  });

  it('are not taken for those of another database that were made in the same folder', async () => {
    const one = await filled();
    const worker = await open(one.url, one.store);
    worker.jobs.work();
    const { id } = await one.asked.jobs.submit(requestOf('worse'));
    await until(one.asked.jobs, id);
    await worker.close();
    const another = await filled();
    const next = await open(another.url, another.store, { dataDir: worker.dataDir });
    next.jobs.work();
    const job = await another.asked.jobs.submit(requestOf('better'));
    assert.equal(job.id, id);
    const { verdict } = await until(another.asked.jobs, id);
    assert.ok(verdict!.test!.comparison.low > 0);
  });

  it('survive a PostgreSQL that goes away, whatever they are at', async (t) => {
    if (!server.restart) return t.skip('the given PostgreSQL is not to be stopped');
    for (const state of ['training', 'embedding'] as const) {
      const { url, store, asked } = await filled();
      const worker = await open(url, store);
      worker.jobs.work();
      const back = path.join(store, 'back');
      const request = state === 'training' ? heldUntil(back) : requestOf('better');
      const { id } = await asked.jobs.submit(request);
      await until(asked.jobs, id, state);
      await server.restart.stop();
      await sleep(200);
      await server.restart.start();
      writeFileSync(back, '');
      for (;;) {
        const job = await asked.jobs.job(id).catch(() => undefined);
        if (job?.state === 'done') break;
        assert.notEqual(job?.state, 'failed', job?.error);
        await sleep(50);
      }
      assert.deepEqual(await asked.jobs.log(id).next(), logOf(worker, id));
      for (const machine of [asked, worker]) await machine.close();
    }
  });

  it('are begun by a schedule of the worker that has the turn', async (t) => {
    t.mock.timers.enable({ apis: ['setInterval'] });
    const { url, store, asked } = await filled();
    const schedule = { after: 10, request: requestOf('better') };
    const worker = await open(url, store, { schedule });
    worker.jobs.work();
    while ((await holders(url)).length === 0) await sleep(10);
    await sleep(50);
    t.mock.timers.tick(60_000);
    t.mock.timers.reset();
    while ((await asked.jobs.list()).length === 0) await sleep(10);
    assert.equal((await until(asked.jobs, 1)).verdict?.decision, 'ready');
  });
});
