import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

import { pino } from 'pino';

import { Random } from '../../base/random.js';
import { startServer, type RunningServer } from '../../server/main.js';
import { findClusters, nameClusters } from '../../server/map/clusters.js';
import { alignTo, pcaLayout, umapLayout, type Places } from '../../server/map/layout.js';
import { readMap, writeMap } from '../../server/map/map-file.js';
import { Maps } from '../../server/map/maps.js';
import { findNeighbours } from '../../server/map/neighbours.js';
import { indexFolder } from '../../server/search/engine.js';
import type { TrainableCollection } from '../../server/search/collection.js';
import { openCollection } from '../../server/search/open-collection.js';
import { fakeInference } from './fake-inference.js';
import { call, fakeServices, testConfig } from './http-support.js';

const TOPICS = ['printer paper', 'wifi network', 'usb disk', 'screen colour'];
const D = 16;

/** Points in as many heaps as there are topics, rows of length 1. */
function heaps(n: number, seed: number): Float32Array {
  const random = new Random(seed);
  const centres = TOPICS.map(() => Array.from({ length: D }, () => random.normal()));
  const vectors = new Float32Array(n * D);
  for (let i = 0; i < n; i++) {
    const row = centres[i % TOPICS.length].map((c) => c + 0.4 * random.normal());
    const norm = Math.hypot(...row);
    vectors.set(
      row.map((value) => value / norm),
      i * D,
    );
  }
  return vectors;
}

/** Of how many points' five nearest on the map one reads that they are of the same heap, as a share. */
function purity({ x, y }: Places): number {
  const n = x.length;
  let same = 0;
  for (let i = 0; i < n; i++) {
    const near = Array.from({ length: n }, (_, j) => j)
      .filter((j) => j !== i)
      .sort((a, b) => Math.hypot(x[a] - x[i], y[a] - y[i]) - Math.hypot(x[b] - x[i], y[b] - y[i]))
      .slice(0, 5);
    same += near.filter((j) => j % TOPICS.length === i % TOPICS.length).length;
  }
  return same / (5 * n);
}

describe('the layout of a map', () => {
  const n = 200;
  const vectors = heaps(n, 3);
  const neighbours = findNeighbours(vectors, { n, d: D, k: 15 }, () => undefined);
  const pca = pcaLayout(vectors, n, D);

  it('keeps neighbours together', () => {
    const random = new Random(1);
    const scattered = (): Float32Array => Float32Array.from({ length: n }, () => random.float());
    assert.ok(purity({ x: scattered(), y: scattered() }) < 0.4);
    assert.ok(purity(umapLayout(neighbours, pca, 1)) > 0.95);
  });

  it('is the same for the same seed, and another for another', () => {
    const one = umapLayout(neighbours, pca, 1);
    assert.deepEqual(umapLayout(neighbours, pca, 1), one);
    assert.notDeepEqual(umapLayout(neighbours, pca, 2), one);
  });

  it('has the directions of the greatest variance in PCA', () => {
    // Three numbers of which the second varies most and the third hardly.
    const random = new Random(5);
    const rows = new Float32Array(300);
    for (let i = 0; i < 100; i++)
      rows.set([random.normal(), 5 * random.normal(), 0.01 * random.normal()], 3 * i);
    const { x, y } = pcaLayout(rows, 100, 3);
    const scale = Math.abs((x[1] - x[0]) / (rows[4] - rows[1]));
    for (let i = 1; i < 100; i++) {
      const near = (of: Float32Array, column: number): boolean =>
        Math.abs(Math.abs(of[i] - of[0]) - scale * Math.abs(rows[3 * i + column] - rows[column])) < 1;
      assert.ok(near(x, 1) && near(y, 0));
    }
  });

  it('is laid on another one: turned, mirrored, scaled and shifted', () => {
    const random = new Random(9);
    const other: Places = {
      x: Float32Array.from({ length: 20 }, () => random.normal()),
      y: Float32Array.from({ length: 20 }, () => random.normal()),
    };
    for (const sign of [1, -1]) {
      const moved = {
        x: other.x.map((x, i) => 3 * (0.6 * x - 0.8 * sign * other.y[i]) + 7),
        y: other.y.map((y, i) => 3 * (0.8 * other.x[i] + 0.6 * sign * y) - 2),
      };
      const pairs = Array.from({ length: 20 }, (_, i) => [i, { x: other.x[i], y: other.y[i] }] as const);
      const aligned = alignTo(moved, pairs);
      for (let i = 0; i < 20; i++)
        assert.ok(Math.hypot(aligned.x[i] - other.x[i], aligned.y[i] - other.y[i]) < 1e-4);
    }
  });

  it('is parted into clusters that are named by their own words', () => {
    const texts = Array.from({ length: n }, (_, i) => `how to use the ${TOPICS[i % TOPICS.length]}`);
    const clusters = findClusters(umapLayout(neighbours, pca, 1), 1);
    for (const { words, size } of nameClusters(clusters, texts)) {
      assert.ok(size > 0);
      const topic = TOPICS.find((each) => each.includes(words[0]));
      assert.ok(topic, words.join());
      assert.ok(words.every((word) => topic.includes(word)));
    }
  });
});

describe('/map', () => {
  let folder: string;
  let dataDir: string;
  let collection: TrainableCollection;
  let server: RunningServer;
  let maps: Maps;
  const inference = fakeInference();
  const documents = Array.from({ length: 60 }, (_, i) => ({
    id: `d${i}`,
    text: `${TOPICS[i % 4]} question ${i}`,
    metadata: { topic: TOPICS[i % 4], tags: ['a', 'b'] },
  }));
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'map-'));
    dataDir = path.join(folder, 'data');
    collection = await openCollection({ dataDir, inference });
    maps = new Maps(dataDir);
    const services = Object.assign(fakeServices(inference, collection), { maps });
    server = await startServer(
      { ...testConfig, apiKeys: ['boss', 'read:looker'] },
      pino({ level: 'silent' }),
      async () => services,
    );
    await server.ready;
  });
  after(async () => {
    await server.close();
    await rm(folder, { recursive: true, force: true });
  });

  const headers = { Authorization: 'Bearer boss' };
  const get = (route: string): ReturnType<typeof call> => call(server.url + route, { headers });
  const make = (key = 'boss'): ReturnType<typeof call> =>
    call(`${server.url}/map`, { method: 'POST', headers: { Authorization: `Bearer ${key}` } });
  async function made(): Promise<void> {
    assert.equal((await make()).status, 202);
    while ((await get('/map')).body.state === 'building') await sleep(50);
  }

  it('wants documents to show, and a key that writes', async () => {
    const { status, body } = await make();
    assert.deepEqual([status, body.error_type], [400, 'empty']);
    assert.equal((await make('looker')).status, 403);
    await collection.upsert(documents);
  });

  it('says that there is none, and what to do', async () => {
    assert.deepEqual((await get('/map')).body, { model: 'fake-a', generation: 1, state: 'none' });
    const { status, body } = await get('/map/points');
    assert.equal(status, 404);
    assert.match(body.error, /POST \/map/);
    assert.equal((await get('/map?model=other')).status, 404);
  });

  it('is there as a draft by PCA while UMAP takes its time', async () => {
    // A map of another generation to begin with: the build waits at it until something is written.
    const pipe = path.join(indexFolder(dataDir, 99), 'map.json');
    await mkdir(path.dirname(pipe), { recursive: true });
    await promisify(execFile)('mkfifo', [pipe]);
    maps.start(collection.served(), [99]);
    let state: { state: string; layouts?: string[]; points?: number };
    do {
      await sleep(10);
      state = (await get('/map')).body;
    } while (!state.layouts);
    assert.deepEqual([state.state, state.layouts, state.points], ['building', ['pca'], 60]);
    const { body } = await get('/map/points');
    assert.equal(body.umap, undefined);
    for (const column of [body.pca.x, body.pca.y, body.cluster]) assert.equal(column.length, 60);
    await writeFile(pipe, 'no map');
    while ((await get('/map')).body.state === 'building') await sleep(10);
    assert.deepEqual((await get('/map')).body.layouts, ['pca', 'umap']);
    await rm(path.dirname(pipe), { recursive: true });
  });

  it('is none when nobody goes on with the draft', async () => {
    const map = (await readMap(dataDir, 1))!;
    await writeMap(dataDir, 1, { ...map, umap: undefined });
    assert.deepEqual((await get('/map')).body, { model: 'fake-a', generation: 1, state: 'none' });
    await rm(path.join(indexFolder(dataDir, 1), 'map.json'));
  });

  it('is made, with a column for each thing', async () => {
    await made();
    const { body: state } = await get('/map');
    assert.deepEqual([state.state, state.points, state.since], ['ready', 60, 0]);
    const { body } = await get('/map/points?field=topic');
    assert.deepEqual(
      body.ids,
      documents.map(({ id }) => id),
    );
    assert.deepEqual(
      body.values,
      documents.map(({ metadata }) => metadata.topic),
    );
    assert.deepEqual(body.fields, ['tags', 'topic']);
    for (const column of [body.umap.x, body.umap.y, body.pca.x, body.pca.y, body.cluster])
      assert.equal(column.length, 60);
    assert.equal((await get('/map/points?field=tags')).body.values[0], 'a, b');
    assert.equal((await get('/map/points?field=toString')).body.values[0], null);
  });

  it('leaves out what was deleted, and counts what came since', async () => {
    await collection.delete('d7');
    await collection.upsert([{ id: 'late', text: 'a late one' }]);
    const { body: state } = await get('/map');
    assert.deepEqual([state.state, state.since], ['stale', 1]);
    const { body } = await get('/map/points');
    assert.equal(body.ids.length, 59);
    assert.ok(!body.ids.includes('d7') && !body.ids.includes('late'));
    assert.ok(!('values' in body));
  });

  it('is none when its file is damaged, and is made again', async () => {
    const file = path.join(indexFolder(dataDir, 1), 'map.json');
    const bytes = await readFile(file);
    bytes[bytes.length >> 1] ^= 1;
    await writeFile(file, bytes);
    assert.equal((await get('/map')).body.state, 'none');
    await made();
    assert.deepEqual((await get('/map')).body.state, 'ready');
    assert.ok((await get('/map/points')).body.ids.includes('late'));
  });

  it('of another model is laid on the first one', async () => {
    const before = (await get('/map/points')).body;
    const other = await collection.prepare({ inference: fakeInference({ seed: 'b' }) });
    await collection.embedMissing(other);
    await collection.activate(other);
    await made();
    const { body } = await get('/map/points');
    assert.deepEqual([body.model, body.ids], ['fake-b', before.ids]);
    const alike = (a: number[], b: number[]): number => {
      const mean = (of: number[]): number => of.reduce((sum, value) => sum + value, 0) / of.length;
      const [ma, mb] = [mean(a), mean(b)];
      const dot = (p: number[], mp: number, q: number[], mq: number): number =>
        p.reduce((sum, value, i) => sum + (value - mp) * (q[i] - mq), 0);
      return dot(a, ma, b, mb) / Math.sqrt(dot(a, ma, a, ma) * dot(b, mb, b, mb));
    };
    assert.ok(alike(body.umap.x, before.umap.x) > 0.3);
    assert.ok(alike(body.umap.y, before.umap.y) > 0.3);
    assert.equal((await get('/map/points?model=fake-a')).body.model, 'fake-a');
  });

  it('ends with the server, half made or not', async () => {
    assert.equal((await make()).status, 202);
    await maps.close();
    await sleep(0);
    await assert.rejects(maps.status(collection.served()), /shutting down/);
  });
});

describe('maps of a collection on a shared store', () => {
  it('are refused before a thread is started for them', async () => {
    const maps = new Maps(undefined);
    const generation = { id: 1, model: 'fake-a', inference: fakeInference() };
    await assert.rejects(maps.status(generation), { kind: 'usage', message: /no maps .*--store/ });
    assert.throws(() => maps.points(generation), { kind: 'usage' });
    assert.equal((maps as unknown as { reader?: unknown }).reader, undefined);
    await maps.close();
  });
});
