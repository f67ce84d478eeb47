import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { Jobs } from '../../server/jobs/jobs.js';
import { openPostgresCollection } from '../../server/postgres/open-collection.js';
import type { TrainableCollection } from '../../server/search/collection.js';
import { isUserError } from './collection-suite.js';
import { fakeInference } from './fake-inference.js';
import { onConnection, startPostgres, withoutPostgres, type PostgresServer } from './postgres-server.js';

const documents = Array.from({ length: 40 }, (_, i) => ({ id: `d${i}`, text: `question number${i}` }));

describe('switching models on one PostgreSQL', { skip: withoutPostgres }, () => {
  let server: PostgresServer;
  const opened: { close(): Promise<void> }[] = [];
  before(async () => {
    server = await startPostgres();
  });
  after(async () => {
    for (const each of opened.reverse()) await each.close();
    await server?.close();
  });

  /** As a server has it that does not train. */
  async function open(url: string, seed = 'a'): Promise<{ collection: TrainableCollection; jobs: Jobs }> {
    const named = (model: string) => fakeInference({ seed: model.replace('fake-', '') });
    const collection = await openPostgresCollection({
      ...{ url, inference: fakeInference({ seed }), pollMs: 50 },
      openModel: async ({ model }) => named(model),
    });
    const jobs = new Jobs({
      collection,
      dataDir: '/nowhere',
      command: [],
      presets: ['context'],
      openModel: async (model) => named(model),
      modelOf: async ({ model }) => model,
      threads: 1,
      memoryBytes: 2 ** 30,
      refusal: 'no training here',
      log: () => undefined,
    });
    opened.push(collection, jobs);
    return { collection, jobs };
  }

  async function follows({ collection }: { collection: TrainableCollection }, model: string): Promise<void> {
    while (collection.served().model !== model) await sleep(10);
    const [hit] = await collection.search({ query: documents[7].text, k: 1, mode: 'dense' });
    assert.equal(hit.id, 'd7');
    assert.ok(Math.abs(hit.score - 1) < 1e-5);
  }

  it('goes back and forth on any server, whether it has the other model loaded or not', async () => {
    const url = await server.freshDatabase();
    const [a, b] = [await open(url), await open(url)];
    await a.collection.upsert(documents);
    await assert.rejects(b.jobs.rollback(), isUserError('not-found', 'no earlier model'));
    await a.collection.activate(await a.collection.prepare({ inference: fakeInference({ seed: 'b' }) }));
    await follows(b, 'fake-b');
    assert.equal((await b.jobs.rollback()).model, 'fake-a');
    for (const each of [a, b]) await follows(each, 'fake-a');
    const late = await open(url);
    assert.equal(late.collection.generations().find(({ model }) => model === 'fake-b')!.served, false);
    await late.collection.upsert([{ id: 'new', text: 'written before the switch' }]);
    assert.equal((await late.jobs.activate('fake-b')).model, 'fake-b');
    for (const each of [a, b, late]) await follows(each, 'fake-b');
    const [hit] = await a.collection.search({ query: 'written before the switch', k: 1, mode: 'dense' });
    assert.equal(hit.id, 'new');
    await assert.rejects(a.jobs.activate('fake-c'), isUserError('not-found', 'fake-b'));
    await assert.rejects(
      a.jobs.submit({ feedback: true, activate: 'manual', margin: 0 }),
      isUserError('usage', 'no training here'),
    );
  });

  it('does one switch after the other, each from what the one before has left', async () => {
    const url = await server.freshDatabase();
    const [a, b] = [await open(url), await open(url)];
    await a.collection.upsert(documents);
    await a.collection.activate(await a.collection.prepare({ inference: fakeInference({ seed: 'b' }) }));
    await follows(b, 'fake-b');
    for (let i = 0; i < 3; i++) {
      const switched = await Promise.all([a.jobs.rollback(), b.jobs.rollback(), a.jobs.rollback()]);
      const models = switched.map(({ model }) => model).sort();
      const odd = i % 2 === 0 ? 'fake-a' : 'fake-b';
      assert.equal(models.filter((model) => model === odd).length, 2, String(models));
      for (const each of [a, b]) await follows(each, odd);
    }
  });

  it('says so when the model was dropped meanwhile, and leaves the live one live', async () => {
    const url = await server.freshDatabase();
    const [a, b] = [await open(url), await open(url)];
    await a.collection.upsert(documents);
    const next = await a.collection.prepare({ inference: fakeInference({ seed: 'b' }) });
    await b.collection.discard(next.id);
    await assert.rejects(a.collection.activate(next), isUserError('unavailable', 'dropped meanwhile'));
    const live = await onConnection(url, (client) =>
      client.query(`SELECT model FROM generations WHERE state = 'live'`),
    );
    assert.deepEqual(live.rows, [{ model: 'fake-a' }]);
  });
});
