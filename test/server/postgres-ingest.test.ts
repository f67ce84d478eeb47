import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { after, afterEach, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { pino } from 'pino';

import { UserError } from '../../base/errors.js';
import type { Inference } from '../../server/batching/inference.js';
import { startServer } from '../../server/main.js';
import { openPostgresCollection, type PostgresOptions } from '../../server/postgres/open-collection.js';
import type { Document, TrainableCollection } from '../../server/search/collection.js';
import type { Ingest, IngestWorker } from '../../server/search/ingests.js';
import { isUserError } from './collection-suite.js';
import { fakeInference } from './fake-inference.js';
import { call, fakeServices, gate, post, send, testConfig } from './http-support.js';
import { onConnection, startPostgres, withoutPostgres, type PostgresServer } from './postgres-server.js';

/** More than one batch. */
const many = (n: number): Document[] =>
  Array.from({ length: n }, (_, i) => ({ id: `d${i}`, text: `question number${i}` }));
const ingest = { expireSeconds: 600, maintenanceSeconds: 1, retrySeconds: 1, retries: 1, pollMs: 20 };
/** For a worker that leaves a batch without a word. With retries: on a busy machine it may lose one that it is at. */
const expiring = { ...ingest, expireSeconds: 1, retries: 20 };

/** An encoder that waits, once it is asked, until it is let go. */
function slowInference(seed?: string): Inference & { asked: Promise<void>; go: () => void } {
  const asked = gate();
  const let_ = gate();
  const inference = fakeInference({ seed });
  return {
    ...inference,
    async encode(texts, options) {
      asked.open();
      await let_.opened;
      return inference.encode(texts, options);
    },
    asked: asked.opened,
    go: let_.open,
  };
}

describe('documents queued on PostgreSQL', { skip: withoutPostgres }, () => {
  let server: PostgresServer;
  const opened: TrainableCollection[] = [];
  const workers: IngestWorker[] = [];
  before(async () => {
    server = await startPostgres();
  });
  // PostgreSQL takes a hundred connections, and each of these has some.
  afterEach(async () => {
    await Promise.all(workers.splice(0).map((worker) => worker.close(0)));
    await Promise.all(opened.splice(0).map((collection) => collection.close()));
  });
  after(() => server?.close());

  async function open(url: string, options: Partial<PostgresOptions> = {}) {
    const openModel = async ({ model }: { model: string }) =>
      fakeInference({ seed: model.replace('fake-', '') });
    const collection = await openPostgresCollection({
      ...{ url, inference: fakeInference(), openModel, pollMs: 50, ingest },
      ...options,
    });
    opened.push(collection);
    const ingests = collection.ingests!;
    return Object.assign(collection, {
      ingests,
      async work() {
        const worker = await ingests.work();
        workers.push(worker);
        return worker;
      },
    });
  }
  type Opened = Awaited<ReturnType<typeof open>>;

  async function state(collection: Opened, { id }: Ingest, ...wanted: Ingest['state'][]): Promise<Ingest> {
    for (;;) {
      const found = (await collection.ingests.get(id))!;
      if (wanted.includes(found.state)) return found;
      if (found.state === 'done' || found.state === 'failed')
        throw new Error(`ingest ${id} ended: ${found.state} ${found.error ?? ''}`);
      await sleep(10);
    }
  }

  /** By a worker of this collection, which then has counted all of it. */
  async function embedAll(collection: Opened, ...ingests: Ingest[]): Promise<void> {
    const worker = await collection.work();
    for (const each of ingests) await state(collection, each, 'done');
    await worker.close(60);
  }

  /** Documents without a vector of the live generation, and vectors without a document. */
  function strays(url: string, generation = 1): Promise<number> {
    return onConnection(url, async (client) => {
      const { rows } = await client.query<{ n: number }>(
        `SELECT count(*)::integer AS n FROM documents d FULL JOIN vectors_${generation} v ON v.key = d.key
         WHERE v.key IS NULL OR d.key IS NULL`,
      );
      return rows[0].n;
    });
  }

  it('are found when a worker has embedded them, and not before', async () => {
    const url = await server.freshDatabase();
    const a = await open(url);
    assert.deepEqual(await a.ingests.counts(), { queued: 0, active: 0, failed: 0 });
    const queued = await a.ingests.queue([many(600)]);
    assert.deepEqual(queued, { ...queued, state: 'queued', documents: { done: 0, total: 600 } });
    assert.deepEqual(await a.ingests.counts(), { queued: 3, active: 0, failed: 0 });
    assert.deepEqual(await a.search({ query: 'question', k: 5, mode: 'lexical' }), []);
    assert.equal(await a.get('d7'), undefined);

    const b = await open(url);
    const worker = await b.work();
    const done = await state(a, queued, 'done');
    assert.deepEqual(done.documents, { done: 600, total: 600 });
    assert.ok(done.created <= done.started! && done.started! <= done.ended!);
    const [hit] = await a.search({ query: 'question number7', k: 1, mode: 'dense' });
    assert.equal(hit.id, 'd7');
    assert.equal((await a.list({ limit: 1000 })).length, 600);
    await worker.close(60);
    assert.equal(b.ingests.ingested, 600);
    assert.equal(await strays(url), 0);
    assert.deepEqual(await a.ingests.list(5), [done]);
    assert.equal(await a.ingests.get(99), undefined);
    assert.deepEqual(await a.ingests.counts(), { queued: 0, active: 0, failed: 0 });
  });

  it('are shared by workers, each batch by one', async () => {
    const url = await server.freshDatabase();
    const inferences = [slowInference(), slowInference()];
    const both = await Promise.all(inferences.map((inference) => open(url, { inference })));
    const queued = await both[0].ingests.queue([many(2000)]);
    const working = await Promise.all(both.map((each) => each.work()));
    await Promise.all(inferences.map(({ asked }) => asked));
    inferences.forEach(({ go }) => go());
    await state(both[0], queued, 'done');
    await Promise.all(working.map((worker) => worker.close(60)));
    const [a, b] = both.map(({ ingests }) => ingests.ingested);
    assert.equal(a + b, 2000, 'none of them twice');
    assert.ok(a > 0 && b > 0);
    assert.equal(await strays(url), 0);
  });

  it('never replace what was written later, whoever comes first', async () => {
    const url = await server.freshDatabase();
    const a = await open(url);
    const older = await a.ingests.queue([[{ id: 'x', text: 'queued first' }]]);
    await a.upsert([{ id: 'x', text: 'written later' }]);
    const between = await a.ingests.queue([[{ id: 'y', text: 'first' }], [{ id: 'y', text: 'second' }]]);
    const last = await a.ingests.queue([[{ id: 'z', text: 'queued' }]]);
    // The later of two batches is taken first.
    await onConnection(url, (client) =>
      client.query(`UPDATE sentence_jepa_jobs.job SET created_on = now() - random() * interval '1 hour'`),
    );
    await embedAll(a, older, between, last);
    assert.equal((await a.get('x'))!.text, 'written later');
    assert.equal((await a.get('y'))!.text, 'second');
    assert.equal((await a.search({ query: 'written later', k: 1, mode: 'dense' }))[0].id, 'x');
    assert.equal(await strays(url), 0);
  });

  it('do not come back when they were deleted meanwhile, even while they are embedded', async () => {
    const url = await server.freshDatabase();
    const inference = slowInference();
    const [a, b] = [await open(url), await open(url, { inference })];
    await a.upsert([{ id: 'd1', text: 'an earlier version' }]);
    const queued = await a.ingests.queue([many(3)]);
    assert.equal(await a.delete('d0'), true, 'it was queued');
    assert.equal(await a.delete('d0'), false);
    await b.work();
    await inference.asked;
    assert.equal(await a.delete('d1'), true);
    inference.go();
    await state(a, queued, 'done');
    assert.deepEqual(
      (await a.list({ limit: 5 })).map(({ id }) => id),
      ['d2'],
    );
    assert.equal(await strays(url), 0);
  });

  it('are embedded by another worker where one was killed in the middle of a batch', async () => {
    const url = await server.freshDatabase();
    const a = await open(url, { ingest: expiring });
    const queued = await a.ingests.queue([many(300)]);
    const script = fileURLToPath(new URL('./ingest-worker.js', import.meta.url));
    const child = fork(script, [url], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    const gone = once(child, 'exit');
    await once(child, 'message');
    assert.equal((await state(a, queued, 'active')).documents.done, 0);
    child.kill('SIGKILL');
    await gone;
    await embedAll(a, queued);
    assert.equal(a.ingests.ingested, 300);
    assert.equal((await a.list({ limit: 500 })).length, 300);
    assert.equal(await strays(url), 0);
  });

  it('are stored once where two workers have the same batch', async () => {
    const url = await server.freshDatabase();
    const inference = slowInference();
    const [a, b] = [await open(url), await open(url, { inference })];
    const queued = await a.ingests.queue([many(20)]);
    const slow = await b.work();
    await inference.asked;
    // It takes nothing else, and so not the same batch once more.
    const closing = slow.close(60);
    // As where it was not heard of for too long.
    await onConnection(url, (client) =>
      client.query(
        `UPDATE sentence_jepa_jobs.job SET state = 'retry', start_after = now() WHERE name = 'ingest'`,
      ),
    );
    await embedAll(a, queued);
    inference.go();
    await closing;
    assert.deepEqual([a.ingests.ingested, b.ingests.ingested], [20, 0]);
    assert.equal(await strays(url), 0);
  });

  it('stay with a worker for as long as it takes', async () => {
    const url = await server.freshDatabase();
    const inference = slowInference();
    // Nobody looks for batches that were not heard of.
    const a = await open(url, { inference, ingest: { ...expiring, maintenanceSeconds: 600 } });
    const queued = await a.ingests.queue([many(5)]);
    await a.work();
    await inference.asked;
    const since = (): Promise<string> =>
      onConnection(url, async (client) => {
        const { rows } = await client.query<{ at: string }>(
          `SELECT started_on::text AS at FROM sentence_jepa_jobs.job WHERE name = 'ingest'`,
        );
        return rows[0].at;
      });
    const begun = await since();
    while ((await since()) === begun) await sleep(10);
    inference.go();
    await state(a, queued, 'done');
  });

  it('are left to others by a worker that is told to stop and has no time', async () => {
    const url = await server.freshDatabase();
    const inference = slowInference();
    const [a, b] = [await open(url, { ingest: expiring }), await open(url, { inference, ingest: expiring })];
    const queued = await a.ingests.queue([many(5)]);
    const stopped = await b.work();
    await inference.asked;
    const closing = stopped.close(0.05);
    await sleep(100);
    inference.go();
    await closing;
    assert.equal(b.ingests.ingested, 0);
    await embedAll(a, queued);
    assert.equal(a.ingests.ingested, 5);
  });

  it('that fail are tried again, then given up, and the reason is told', async () => {
    const url = await server.freshDatabase();
    let tries = 0;
    const onEncode = (texts: readonly string[]): void => {
      if (!texts.includes('poison')) return;
      tries++;
      throw new Error('the encoder does not like this');
    };
    const log: string[] = [];
    const a = await open(url, { inference: fakeInference({ onEncode }), log: (line) => log.push(line) });
    const bad = await a.ingests.queue([[{ id: 'bad', text: 'poison' }], many(2)]);
    const good = await a.ingests.queue([[{ id: 'good', text: 'fine' }]]);
    await a.work();
    await state(a, good, 'done');
    const failed = await state(a, bad, 'failed');
    assert.equal(failed.error, 'documents given up: 1 (send them again): the encoder does not like this');
    assert.equal(tries, 1 + ingest.retries);
    assert.deepEqual(failed.documents, { done: 2, total: 3 });
    assert.deepEqual(await a.ingests.counts(), { queued: 0, active: 0, failed: 1 });
    assert.ok(log.some((line) => line.includes('the encoder does not like this')));
    assert.equal(await a.get('bad'), undefined);
    await a.delete('bad');
  });

  it('of a worker that always ends in the middle are given up as well', async () => {
    const url = await server.freshDatabase();
    const a = await open(url);
    const queued = await a.ingests.queue([many(1)]);
    await onConnection(url, async (client) => {
      await client.query(
        `UPDATE sentence_jepa_jobs.job SET state = 'active', started_on = now() - interval '1 hour', retry_count = retry_limit`,
      );
    });
    await a.work();
    assert.match((await state(a, queued, 'failed')).error!, /each worker that took it ended or hung/);
  });

  it('wait until PostgreSQL is back, and that is no failure', async (test) => {
    if (!server.restart) return test.skip('the PostgreSQL that was given is not stopped');
    const url = await server.freshDatabase();
    const inference = slowInference();
    const log: string[] = [];
    const times = { ...ingest, retries: 0 };
    const a = await open(url, { inference, ingest: times, log: (line) => log.push(line) });
    const queued = await a.ingests.queue([many(10)]);
    const worker = await a.work();
    await inference.asked;
    await server.restart.stop();
    inference.go();
    while (!log.some((line) => line.includes('PostgreSQL does not answer'))) await sleep(10);
    await assert.rejects(
      a.ingests.queue([many(1)]),
      isUserError('unavailable', 'PostgreSQL does not answer'),
    );
    await server.restart.start();
    const done = await state(a, queued, 'done');
    assert.equal(done.error, undefined);
    await worker.close(60);
    assert.equal(a.ingests.ingested, 10);
    assert.equal(await strays(url), 0);
  });

  it('get vectors of the generation that is live when they are stored', async () => {
    const url = await server.freshDatabase();
    const inference = slowInference();
    const [a, b] = [await open(url), await open(url, { inference })];
    const queued = await a.ingests.queue([many(300)]);
    await b.work();
    await inference.asked;
    await a.activate(await a.prepare({ inference: fakeInference({ seed: 'b' }) }));
    inference.go();
    await state(a, queued, 'done');
    assert.equal(b.served().model, 'fake-b');
    for (const { id, text } of [many(300)[0], many(300)[299]]) {
      const [hit] = await a.search({ query: text, k: 1, mode: 'dense' });
      assert.equal(hit.id, id);
      assert.ok(Math.abs(hit.score - 1) < 1e-5);
    }
    assert.equal(await strays(url, 2), 0);
  });

  it('go to another worker when what went live meanwhile can not be loaded here', async () => {
    const url = await server.freshDatabase();
    const inference = slowInference();
    const b = await open(url, {
      inference,
      openModel: () => Promise.reject(new UserError('unavailable', 'the bucket is away')),
    });
    const a = await open(url);
    const queued = await a.ingests.queue([many(5)]);
    await b.work();
    await inference.asked;
    await a.activate(await a.prepare({ inference: fakeInference({ seed: 'b' }) }));
    inference.go();
    await embedAll(a, queued);
    assert.equal(a.ingests.ingested, 5);
  });

  it('are left to workers that have the live model', async () => {
    const url = await server.freshDatabase();
    const log: string[] = [];
    const without = await open(url, {
      openModel: () => Promise.reject(new Error('no such model here')),
      ingest: { ...ingest, retries: 0 },
      log: (line) => log.push(line),
    });
    const a = await open(url);
    await a.activate(await a.prepare({ inference: fakeInference({ seed: 'b' }) }));
    while (!log.includes('no such model here')) await sleep(10);
    await without.work();
    const queued = await without.ingests.queue([many(5)]);
    // Time enough to take them.
    await sleep(10 * ingest.pollMs);
    assert.deepEqual(await a.ingests.counts(), { queued: 1, active: 0, failed: 0 });
    await embedAll(a, queued);
    assert.equal(a.ingests.ingested, 5);
  });

  it('are all refused when one of them is wrong, or when they do not come to an end', async () => {
    const url = await server.freshDatabase();
    const a = await open(url);
    await assert.rejects(
      a.ingests.queue([many(3), [{ id: 'x', text: 'a\u0000b' }]]),
      isUserError('invalid', 'U\\+0000'),
    );
    async function* broken() {
      yield many(3);
      throw new Error('the client is gone');
    }
    await assert.rejects(a.ingests.queue(broken()), /the client is gone/);
    assert.deepEqual(await a.ingests.list(5), []);
    const left = await onConnection(url, (client) => client.query('SELECT FROM ingest_documents'));
    assert.equal(left.rowCount, 0);
    const empty = await a.ingests.queue([[]]);
    assert.deepEqual([empty.state, empty.documents.total], ['done', 0]);
  });

  it('may be queued by servers that begin together', async () => {
    const url = await server.freshDatabase();
    const all = await Promise.all(Array.from({ length: 4 }, () => open(url)));
    const queued = await Promise.all(
      all.map((each, i) => each.ingests.queue([[{ id: String(i), text: `text ${i}` }]])),
    );
    await Promise.all(all.map((each) => each.work()));
    for (const each of queued) await state(all[0], each, 'done');
    assert.equal((await all[0].list({ limit: 9 })).length, 4);
  });

  it('want a user who may make a schema, and the refusal says so without the password', async () => {
    const admin = await server.freshDatabase();
    const limited = new URL(admin);
    limited.username = 'limited';
    limited.password = 'hunter2';
    await (await open(admin)).close();
    await onConnection(admin, async (client) => {
      await client.query(`DROP ROLE IF EXISTS limited`);
      await client.query(`CREATE ROLE limited LOGIN PASSWORD 'hunter2'`);
      await client.query('GRANT ALL ON ALL TABLES IN SCHEMA public TO limited');
      await client.query('GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO limited');
    });
    const a = await open(limited.href);
    await a.upsert(many(1));
    await assert.rejects(a.ingests.queue([many(1)]), (error: unknown) => {
      assert.ok(!String(error).includes('hunter2'));
      return isUserError('unavailable', 'schema sentence_jepa_jobs', 'GRANT CREATE ON DATABASE')(error);
    });
    await onConnection(admin, (client) =>
      client.query(`GRANT CREATE ON DATABASE ${limited.pathname.slice(1)} TO limited`),
    );
    assert.equal((await a.ingests.queue([many(1)])).state, 'queued');
    await a.close();
    await onConnection(admin, (client) => client.query('DROP OWNED BY limited CASCADE'));
    await onConnection(admin, (client) => client.query('DROP ROLE limited'));
  });

  it('are taken and told of over HTTP', async () => {
    const url = await server.freshDatabase();
    const a = await open(url);
    const config = { ...testConfig, apiKeys: ['admin', 'read:reader'] };
    const running = await startServer(config, pino({ level: 'silent' }), async () =>
      fakeServices(fakeInference(), a),
    );
    try {
      await running.ready;
      const headers = { Authorization: 'Bearer admin', 'Content-Type': 'application/json' };
      const reader = { headers: { Authorization: 'Bearer reader' } };
      const json = await post(`${running.url}/documents?async`, { documents: many(2) }, headers);
      assert.equal(json.status, 202);
      assert.equal(json.headers.get('location'), `/ingests/${json.body.id}`);
      assert.deepEqual(json.body.documents, { done: 0, total: 2 });
      const lines = '{"id":"d0","text":"older"}\n{"id":"d5","text":"five"}\n{"id":"d0","text":"newer"}\n';
      const ndjson = await post(`${running.url}/documents?async=true`, lines, {
        ...headers,
        'Content-Type': 'application/x-ndjson',
      });
      assert.deepEqual([ndjson.status, ndjson.body.documents.total], [202, 2]);

      const wrong = await post(`${running.url}/documents?async`, lines + '{"id":"d6"}\n', {
        ...headers,
        'Content-Type': 'application/x-ndjson',
      });
      assert.deepEqual([wrong.status, wrong.body.line], [422, 4]);
      const twice = await post(`${running.url}/documents?async`, [...many(1), ...many(1)], headers);
      assert.equal(twice.status, 422);
      const word = await post(`${running.url}/documents?async=maybe`, many(1), headers);
      assert.equal(word.status, 422);
      const reading = await post(`${running.url}/documents?async`, many(1), {
        ...headers,
        Authorization: 'Bearer reader',
      });
      assert.equal(reading.status, 403);

      const listed = await call(`${running.url}/ingests?limit=1`, reader);
      assert.deepEqual(listed.body, { ingests: [ndjson.body] });
      const metrics = await call(`${running.url}/metrics`, reader);
      assert.match(metrics.text, /^sentence_jepa_ingest_jobs\{state="queued"\} 2$/m);
      assert.match(metrics.text, /^sentence_jepa_ingest_jobs\{state="failed"\} 0$/m);

      await embedAll(a, json.body as Ingest, ndjson.body as Ingest);
      const done = await call(running.url + json.headers.get('location'), reader);
      assert.deepEqual([done.status, done.body.state], [200, 'done']);
      const got = await call(`${running.url}/documents/d0`, reader);
      assert.equal(got.body.text, 'newer');
      assert.equal((await call(`${running.url}/ingests/99`, reader)).status, 404);
      assert.equal((await call(`${running.url}/ingests/x`, reader)).status, 422);
      const after = await call(`${running.url}/metrics`, reader);
      assert.match(after.text, /^sentence_jepa_ingested_documents_total [34]$/m);
      const sync = await send('POST', `${running.url}/documents?async=false`, many(1), headers);
      assert.equal(sync.status, 200);
    } finally {
      await running.close();
    }
  });
});
