import assert from 'node:assert/strict';
import { mkdtemp, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text as textOf } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { pino } from 'pino';

import { UserError } from '../../base/errors.js';
import { startServer, type RunningServer } from '../../server/main.js';
import { Maps } from '../../server/map/maps.js';
import { removeFolder } from '../support/remove-folder.js';
import { call, post, send, testConfig } from './http-support.js';
import { documentsOf, feedbackOf, LIVE, openAround, until, type Around } from './jobs-support.js';

const DOCUMENTS = 300;

interface Test {
  url: string;
  around: Around;
  server: RunningServer;
}

/** Streams of events are quiet for longer than an answer may lie unread. */
const connectionTimes = { ...testConfig.connectionTimes, unread: 0.1 };

/** A server with documents and feedback, whose trainer is made up. */
async function start(dataDir: string, apiKeys: string[] = []): Promise<Test> {
  const around = await openAround(dataDir, {
    // The trainer's word on a recipe, made up as the trainer is.
    async check({ preset = 'context', settings = {} }) {
      if (!['context', 'pairs'].includes(preset))
        throw new UserError('usage', `preset: expected context, pairs, came "${preset}"`);
      if ('lamda' in settings) throw new UserError('usage', 'settings: lamda');
    },
  });
  const { collection, jobs } = around;
  await collection.upsert(documentsOf(DOCUMENTS));
  await collection.addFeedback(feedbackOf(DOCUMENTS));
  const services = {
    get inference() {
      return collection.served().inference;
    },
    collection,
    jobs,
    maps: new Maps(dataDir),
  };
  const server = await startServer(
    { ...testConfig, dataDir, apiKeys, connectionTimes },
    pino({ level: 'silent' }),
    async () => services,
  );
  await server.ready;
  return { url: server.url, around, server };
}

let folder: string;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'http-training-'));
});
after(() => removeFolder(folder));

/** A job that comes to its end, with a better model. */
async function trained({ url, around }: Test, more: object = {}): Promise<number> {
  const { body } = await post(`${url}/finetune`, { settings: { behave: 'better' }, ...more });
  const id = body.id as number;
  await until(around.jobs, id);
  return id;
}

describe('training over HTTP', () => {
  let test: Test;
  let url: string;
  before(async () => {
    test = await start(path.join(folder, 'jobs'));
    url = test.url;
  });
  after(() => test.server.close());

  it('queues a job, tells how it goes, and what came of it', async () => {
    const settings = { behave: 'held', until: path.join(folder, 'told') };
    const queued = await post(`${url}/finetune`, { settings, preset: 'context' });
    assert.equal(queued.status, 202);
    const { id, request } = queued.body;
    assert.deepEqual(request, {
      preset: 'context',
      settings,
      feedback: true,
      activate: 'manual',
      margin: 0,
    });
    await until(test.around.jobs, id, 'training');
    for (let told; told === undefined; await sleep(10)) {
      const { body } = await call(`${url}/finetune/${id}`);
      assert.equal(body.state, 'training', 'it is still going on');
      told = body.training?.step > 0 ? body.training : undefined;
      if (told) {
        assert.equal(told.steps, 20);
        assert.ok(told.loss > 0 && told.seconds_left >= 0 && told.std === 1);
      }
    }
    assert.equal((await call(`${url}/finetune/${id}/report`)).status, 404);
    await writeFile(settings.until, '');
    await until(test.around.jobs, id);
    const { body: job } = await call(`${url}/finetune/${id}`);
    assert.equal(job.state, 'done');
    assert.equal(job.verdict.decision, 'ready');
    const { body: all } = await call(`${url}/finetune`);
    assert.deepEqual(all.jobs.at(-1), job);
    const report = await call(`${url}/finetune/${id}/report`);
    assert.match(report.headers.get('content-type')!, /^text\/markdown/);
    assert.match(report.text, /\*\*ready\*\*: map@100/);
  });

  it('streams a job and the trainer’s log, each entry once and in order, and ends with it', async () => {
    const { body } = await post(`${url}/finetune`, { settings: { behave: 'slow' } });
    const { headers, text } = await call(`${url}/finetune/${body.id}/events`);
    assert.match(headers.get('content-type')!, /^text\/event-stream/);
    const events = text
      .trim()
      .split('\n\n')
      .map((event) => ({
        id: /^id: (\d+)$/m.exec(event)?.[1],
        event: /^event: (\w+)$/m.exec(event)![1],
        data: JSON.parse(/^data: (.*)$/m.exec(event)![1]),
      }));
    const log = events.filter(({ event }) => event === 'log');
    assert.deepEqual(
      log.map(({ id }) => Number(id)),
      log.map((_, i) => i + 1),
    );
    assert.deepEqual(
      log.map(({ data }) => data.step ?? data.type),
      ['start', ...Array.from({ length: 20 }, (_, i) => i + 1)],
    );
    const states = events.filter(({ event }) => event === 'job').map(({ data }) => data.state);
    assert.equal(states.at(-1), 'done');
    const again = await call(`${url}/finetune/${body.id}/events`, { headers: { 'Last-Event-ID': '19' } });
    assert.deepEqual(again.text.match(/^id: \d+$/gm), ['id: 20', 'id: 21']);
  });

  it('answers HEAD for a job’s events at once', async () => {
    const { body } = await post(`${url}/finetune`, { settings: { behave: 'held' } });
    // The second request is answered when the first is through.
    const socket = net.connect(Number(new URL(url).port), '127.0.0.1');
    socket.write(`HEAD /finetune/${body.id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n`);
    socket.write('GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
    const answers = await textOf(socket);
    assert.match(
      answers,
      /^HTTP\/1\.1 200 OK\r\n[^]*^Content-Type: text\/event-stream[^]*^HTTP\/1\.1 200 OK\r\n/m,
    );
    const { body: job } = await call(`${url}/finetune/${body.id}`, { method: 'DELETE' });
    assert.equal(job.state, 'cancelled');
  });

  it('cancels, once', async () => {
    const { body } = await post(`${url}/finetune`, { settings: { behave: 'held' } });
    const { status, body: job } = await call(`${url}/finetune/${body.id}`, { method: 'DELETE' });
    assert.deepEqual([status, job.state], [200, 'cancelled']);
    const again = await call(`${url}/finetune/${body.id}`, { method: 'DELETE' });
    assert.deepEqual([again.status, again.body.error], [409, `job ${body.id} has ended already: cancelled`]);
  });

  it('says what a request has wrong', async () => {
    const refused: [body: object, status: number, words: RegExp][] = [
      [{ activate: 'always' }, 422, /activate/],
      [{ margin: 2 }, 422, /margin/],
      [{ preset: 7 }, 422, /preset/],
      [{ preset: 'contxt' }, 400, /^preset: expected context, pairs, came "contxt"$/],
      [{ settings: { lamda: 1 } }, 400, /^settings: lamda$/],
      [
        { settings: { 'a-b': 1 } },
        422,
        /^settings: expected names of settings, in letters alone, came "a-b"$/,
      ],
      [{ pairs: [['a']] }, 422, /pairs/],
      [{ epochs: 3 }, 422, /epochs/],
    ];
    for (const [body, status, words] of refused) {
      const answer = await post(`${url}/finetune`, body);
      assert.equal(answer.status, status, JSON.stringify(body));
      assert.match(answer.body.error, words);
    }
    for (const wrong of ['99', '99/events', '99/report'])
      assert.equal((await call(`${url}/finetune/${wrong}`)).status, 404);
    assert.equal((await call(`${url}/finetune/none`)).status, 422);
    assert.equal((await call(`${url}/finetune/99`, { method: 'DELETE' })).status, 404);
  });

  it('takes feedback: one, a list, a stream', async () => {
    const { body: before } = await call(`${url}/feedback`);
    const one = await post(`${url}/feedback`, { query: 'one more', id: 'd1', relevant: true });
    assert.deepEqual(one.body, { stored: 1, unknown: 0 });
    const list = [
      { query: 'two more', id: 'd1', relevant: false },
      { query: 'three more', id: 'd2', relevant: true },
    ];
    assert.deepEqual((await post(`${url}/feedback`, { feedback: list })).body, { stored: 2, unknown: 0 });
    const unknown = await post(`${url}/feedback`, {
      feedback: [list[0], { query: 'x', id: 'none', relevant: true }],
    });
    assert.deepEqual([unknown.status, unknown.body.param], [404, 'feedback[1].id']);
    const ndjson = { 'Content-Type': 'application/x-ndjson' };
    const lines = [
      ...list,
      { query: 'four more', id: 'none', relevant: true },
      { query: 'five more', id: 'd3', relevant: true },
    ];
    const stream = await post(
      `${url}/feedback`,
      lines.map((line) => JSON.stringify(line)).join('\n'),
      ndjson,
    );
    assert.deepEqual(stream.body, { stored: 3, unknown: 1 });
    const broken = await post(
      `${url}/feedback`,
      '{"query": "six more", "id": "d4", "relevant": true}\n{"query": 7}',
      ndjson,
    );
    assert.equal(broken.status, 422);
    assert.match(broken.body.error, /^line 2: /);
    const { body: now } = await call(`${url}/feedback`);
    // What was said before of the same two is replaced, and what came before a broken line is kept.
    assert.deepEqual([now.total - before.total, now.relevant - before.relevant], [5, 4]);
    assert.equal(now.queries.train + now.queries.dev + now.queries.test, DOCUMENTS + 5);
  });

  it('stores a stream of feedback in pieces of some size', async () => {
    const { collection } = test.around;
    const { addFeedback } = collection;
    const pieces: number[] = [];
    collection.addFeedback = (piece) => (pieces.push(piece.length), addFeedback.call(collection, piece));
    const line = JSON.stringify({ query: 'x'.repeat(100_000), id: 'd1', relevant: true });
    const answer = await post(`${url}/feedback`, `${line}\n`.repeat(25), {
      'Content-Type': 'application/x-ndjson',
    });
    collection.addFeedback = addFeedback;
    assert.deepEqual([answer.body, pieces], [{ stored: 25, unknown: 0 }, [11, 11, 3]]);
  });
});

describe('models over HTTP', () => {
  let test: Test;
  let url: string;
  before(async () => {
    test = await start(path.join(folder, 'models'));
    url = test.url;
  });
  after(() => test.server.close());

  it('are switched, and each answer names the one that it came from', async () => {
    assert.equal((await call(`${url}/models/rollback`, { method: 'POST' })).status, 404);
    const missing = await call(`${url}/models/finetuned-9/activate`, { method: 'POST' });
    assert.equal(missing.status, 404);
    const model = `finetuned-${await trained(test)}`;
    const { body } = await call(`${url}/models`);
    assert.deepEqual(
      body.models.map(({ name, state, served, vectors }: Record<string, unknown>) => [
        name,
        state,
        served,
        vectors,
      ]),
      [
        [LIVE, 'live', true, DOCUMENTS],
        [model, 'building', true, DOCUMENTS],
      ],
    );
    /** Of every route that has to do with vectors: the generation's header and, where the answer has them, its names. */
    const answers = async (named?: string): Promise<unknown[]> => {
      const query = 'how does subject7 do';
      const all = [
        await post(`${url}/embed`, { inputs: query, model: named }),
        await post(`${url}/search`, { query, model: named }),
        await call(`${url}/search?q=${encodeURIComponent(query)}${named ? `&model=${named}` : ''}`),
        await post(`${url}/duplicates`, { text: query, threshold: 0, model: named }),
      ];
      for (const { status, text } of all) assert.equal(status, 200, text);
      const [, found] = all;
      assert.equal(String(found.body.generation), found.headers.get('x-generation'));
      return [...new Set(all.map(({ headers }) => headers.get('x-generation'))), found.body.model];
    };
    assert.deepEqual(await answers(), ['1', LIVE]);
    assert.deepEqual(await answers(model), ['2', model]);
    const live = await call(`${url}/models/${model}/activate`, { method: 'POST' });
    assert.deepEqual([live.status, live.body], [200, { id: 2, model }]);
    assert.deepEqual(await answers(), ['2', model]);
    assert.deepEqual(await answers(LIVE), ['1', LIVE]);
    assert.equal((await call(`${url}/info`)).body.model_id, model);
    const back = await call(`${url}/models/rollback`, { method: 'POST' });
    assert.deepEqual([back.status, back.body], [200, { id: 1, model: LIVE }]);
    assert.deepEqual(await answers(), ['1', LIVE]);
    const unknown = await post(`${url}/search`, { query: 'x', model: 'other' });
    assert.deepEqual([unknown.status, unknown.body.param], [404, 'model']);
  });

  it('take vectors of their own alone', async () => {
    const query = 'how does subject9 do';
    const { body: info } = await call(`${url}/info`);
    const [vector] = (await post(`${url}/embed`, { inputs: [query] })).body as number[][];
    const by = (more: object) => post(`${url}/search`, { query, k: 3, ...more });
    const { fingerprint } = info as { fingerprint: string };
    assert.deepEqual((await by({ vector, fingerprint })).body.hits, (await by({})).body.hits);
    const refused: [more: object, status: number, param: string][] = [
      [{ vector, fingerprint: '0'.repeat(64) }, 409, 'fingerprint'],
      [{ vector }, 422, 'fingerprint'],
      [{ vector: vector.slice(1), fingerprint }, 422, 'vector'],
      [{ vector: vector.map(() => 0), fingerprint }, 422, 'vector'],
      [{ vector: ['a'], fingerprint }, 422, 'vector[0]'],
    ];
    for (const [more, status, param] of refused) {
      const answer = await by(more);
      assert.deepEqual([answer.status, answer.body.param], [status, param]);
    }
  });

  it('are in the metrics, with what a job found about them', async () => {
    await trained(test);
    const { text } = await call(`${url}/metrics`);
    assert.match(text, /sentence_jepa_jobs\{state="done"\} 2/);
    assert.match(
      text,
      /sentence_jepa_generation_vectors\{generation="1",model="beginner",state="live"\} 300/,
    );
    assert.match(text, /sentence_jepa_judged_map_at_100\{model="finetuned-2"\} 0\.\d+/);
    assert.match(text, /sentence_jepa_feedback_queries\{part="test"\} \d+/);
  });
});

describe('keys for training', () => {
  it('read may look, write may give feedback, admin may train and switch', async () => {
    const test = await start(path.join(folder, 'keys'), [
      'read:reader',
      'write:writer',
      'admin:boss',
      'bare',
    ]);
    const { url } = test;
    const as = (key: string) => ({ Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' });
    const statuses = async (key: string): Promise<number[]> => [
      (await call(`${url}/finetune`, { headers: as(key) })).status,
      (await call(`${url}/models`, { headers: as(key) })).status,
      (await send('POST', `${url}/feedback`, { query: 'a', id: 'd1', relevant: true }, as(key))).status,
      (await send('POST', `${url}/finetune`, { settings: { behave: 'slow' } }, as(key))).status,
      (await call(`${url}/finetune/99`, { method: 'DELETE', headers: as(key) })).status,
      (await call(`${url}/models/none/activate`, { method: 'POST', headers: as(key) })).status,
      (await call(`${url}/models/rollback`, { method: 'POST', headers: as(key) })).status,
    ];
    try {
      assert.deepEqual(await statuses('nobody'), Array(7).fill(401));
      assert.deepEqual(await statuses('reader'), [200, 200, 403, 403, 403, 403, 403]);
      assert.deepEqual(await statuses('writer'), [200, 200, 200, 403, 403, 403, 403]);
      for (const key of ['boss', 'bare'])
        assert.deepEqual(await statuses(key), [200, 200, 200, 202, 404, 404, 404]);
    } finally {
      await test.server.close();
    }
  });

  it('are not asked for where there is nothing to train on, but documents are', async () => {
    const around = await openAround(path.join(folder, 'empty'));
    const { collection, jobs } = around;
    const services = {
      inference: collection.served().inference,
      collection,
      jobs,
      maps: new Maps('/nowhere'),
    };
    const server = await startServer(testConfig, pino({ level: 'silent' }), async () => services);
    await server.ready;
    try {
      const { status, body } = await post(`${server.url}/finetune`, {});
      assert.deepEqual([status, body.error_type], [400, 'empty']);
      assert.match(body.error, /collection is empty: expected documents/);
    } finally {
      await server.close();
    }
  });
});
