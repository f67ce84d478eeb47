import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it, mock } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';

import { Random } from '../../base/random.js';
import { createDotKernel, ROW_ALIGNMENT } from '../../server/search/dot-kernel.js';
import { EF_LADDER, EfChoice } from '../../server/search/ef.js';
import { HnswGraph } from '../../server/search/hnsw.js';
import { fuse } from '../../server/search/hybrid.js';
import { recallOf, RecallSamples } from '../../server/search/recall.js';
import { TopK } from '../../server/search/top-k.js';
import { VectorIndex, type VectorIndexOptions } from '../../server/search/vector-index.js';
import { VectorTable } from '../../server/search/vectors.js';
import { clusters, type Keyed } from './clusters.js';

function dot(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, x, i) => sum + x * b[i], 0);
}

/** The k nearest by a plain loop and a sort. */
function nearest(points: readonly Keyed[], query: Float32Array, k: number): number[] {
  return points
    .map(({ key, vector }) => ({ key, score: dot(query, vector) }))
    .sort((a, b) => b.score - a.score)
    .slice(0, k)
    .map(({ key }) => key);
}

describe('dot kernel', () => {
  it('multiplies as a plain loop does', () => {
    const { memory, dots } = createDotKernel();
    const floats = new Float32Array(memory.buffer);
    const random = new Random(3);
    const row = (3 * ROW_ALIGNMENT) / 4;
    for (let i = 0; i < 8 * row; i++) floats[i] = random.normal();
    dots(0, 4 * row, 7, 4 * row, 4 * 8 * row);
    for (let r = 0; r < 7; r++) {
      const expected = dot(floats.slice(0, row), floats.slice((r + 1) * row, (r + 2) * row));
      assert.ok(Math.abs(floats[8 * row + r] - expected) < 1e-4);
    }
    assert.equal(floats[8 * row + 7], 0, 'writes n results and no more');
  });
});

describe('vector table', () => {
  for (const d of [1, 15, 16, 17, 384])
    it(`ranks ${d}-dimensional vectors exactly, through adding and removing`, () => {
      const table = new VectorTable(d);
      const random = new Random(d);
      let points = clusters(2500, d, d);
      for (const { key, vector } of points) table.add(key, vector);
      points = points.filter(({ key }) => random.below(3) > 0 || !table.remove(key));
      assert.equal(table.size, points.length);
      assert.equal(table.remove(99_999), false);
      const query = clusters(1, d, 99)[0].vector;
      const few = new Set(points.filter(({ key }) => key % 50 === 0).map(({ key }) => key));
      const many = new Set(points.filter(({ key }) => key % 2 === 0).map(({ key }) => key));
      const all = new Set(points.map(({ key }) => key));
      for (const among of [few, many, all]) {
        const found = among === all ? table.search(query, 10) : table.searchAmong(query, 10, among);
        const vectors = new Map(points.map(({ key, vector }) => [key, vector]));
        const expected = points.filter(({ key }) => among.has(key));
        const best = nearest(expected, query, 10).map((key) => dot(query, vectors.get(key)!));
        found.forEach(({ key, score }, i) => {
          assert.ok(among.has(key));
          assert.ok(Math.abs(score - best[i]) < 1e-5);
          assert.ok(Math.abs(score - dot(query, vectors.get(key)!)) < 1e-5);
        });
        assert.equal(found.length, 10);
      }
    });
});

describe('a full vector table', () => {
  it('holds as many as fit into 4 GiB, and says how many that is', () => {
    const dimensions = 2 ** 24;
    const table = new VectorTable(dimensions);
    // 64 MiB a row: the query's is one, and the scores take part of another. What is not written takes no memory.
    for (let key = 1; key <= 62; key++) table.add(key, Float32Array.of(key));
    for (const key of [1, 61, 62]) assert.equal(table.score(Float32Array.of(2), key), 2 * key);
    assert.throws(() => table.add(63, Float32Array.of(1)), {
      kind: 'too-large',
      message: /at most 62 documents.* 16777216 dimensions.*PostgreSQL.*fewer dimensions/,
    });
    assert.equal(table.size, 62);
    table.remove(1);
    table.add(63, Float32Array.of(63));
    assert.equal(table.score(Float32Array.of(2), 63), 126);
  });
});

describe('top k', () => {
  it('keeps the best, best first, equal ones by the order given', () => {
    const random = new Random(5);
    const scores = Array.from({ length: 500 }, () => random.below(100));
    const top = new TopK<number>(40, (a, b) => a - b);
    scores.forEach((score, i) => top.offer(score, i));
    const found = top.sorted();
    assert.deepEqual(
      found.map(({ score }) => score),
      [...scores].sort((a, b) => b - a).slice(0, 40),
    );
    found.slice(1).forEach(({ item, score }, i) => {
      assert.equal(scores[item], score);
      assert.ok(score < found[i].score || item > found[i].item);
    });
  });
});

describe('equal scores', () => {
  const d = 16;
  const points = clusters(12, d, 1);
  // Each vector three times, under keys in no order.
  const keys = new Random(2).shuffle(Array.from({ length: 36 }, (_, i) => i));
  const table = new VectorTable(d);
  keys.forEach((key, i) => table.add(key, points[i % 12].vector));
  const query = points[0].vector;
  const expected = keys
    .map((key, i) => ({ key, score: dot(query, points[i % 12].vector) }))
    .sort((a, b) => (Math.abs(a.score - b.score) < 1e-6 ? a.key - b.key : b.score - a.score))
    .map(({ key }) => key);

  it('are ranked by key at the end of a ranking, too: a shorter one is the beginning of a longer one', () => {
    for (let k = 1; k <= keys.length; k++) {
      const found = (among?: ReadonlySet<number>): number[] =>
        (among ? table.searchAmong(query, k, among) : table.search(query, k)).map(({ key }) => key);
      assert.deepEqual(found(), expected.slice(0, k));
      assert.deepEqual(found(new Set(keys)), expected.slice(0, k));
      const few = new Set(expected.slice(0, 3));
      assert.deepEqual(found(few), expected.slice(0, Math.min(k, 3)));
    }
  });
});

describe('the choice of ef', () => {
  const choiceOf = (recalls: (query: number, ef: number) => number): EfChoice => {
    const choice = new EfChoice();
    for (let query = 0; query < 100; query++) choice.add((ef) => recalls(query, ef));
    return choice;
  };

  it('is the least that holds the recall by a standard error', () => {
    // 1 in 50 queries finds half of what it should: the mean is 0.99, its standard error 0.007.
    const recalls = (query: number, ef: number): number =>
      ef >= 256 ? 1 : ef >= 96 ? (query % 50 === 0 ? 0.5 : 1) : 0.9;
    assert.equal(choiceOf(recalls).least(0.89)!.ef, EF_LADDER[0]);
    assert.equal(choiceOf(recalls).least(0.98)!.ef, 96);
    assert.equal(choiceOf(recalls).least(0.985)!.ef, 256);
  });

  it('is none where the highest does not hold it', () => {
    assert.equal(choiceOf((_, ef) => ef / 2048).least(0.6), undefined);
  });

  it('asks no more of a query once all is found', () => {
    const asked: number[] = [];
    new EfChoice().add((ef) => (asked.push(ef), ef >= 128 ? 1 : 0.5));
    assert.deepEqual(asked, [64, 96, 128]);
  });
});

describe('recall', () => {
  const scored = (...scores: number[]) => scores.map((score, key) => ({ key, score }));

  it('is the share of the exact nearest that was found, either of two that are equally near', () => {
    assert.equal(recallOf(scored(0.9, 0.8, 0.7, 0.6), scored(0.9, 0.7, 0.6, 0.5)), 0.75);
    assert.equal(
      recallOf(scored(0.9, 0.8), [
        { key: 7, score: 0.9 },
        { key: 8, score: 0.8 },
      ]),
      1,
    );
    assert.equal(recallOf([], []), 1);
  });

  it('is unknown until enough queries were sampled, and forgets old ones', () => {
    const samples = new RecallSamples();
    const query = new Float32Array(2);
    for (let i = 0; i < 49; i++) samples.add({ query, recall: 0 });
    assert.equal(samples.mean, undefined);
    samples.add({ query, recall: 0 });
    assert.equal(samples.mean, 0);
    for (let i = 0; i < 300; i++) samples.add({ query, recall: 1 });
    assert.equal(samples.mean, 1);
  });
});

describe('hybrid ranking', () => {
  it('adds BM25, scaled to 0..1 and weighted, to the cosine', () => {
    const dense = [
      { key: 1, score: 0.8 },
      { key: 2, score: 0.78 },
    ];
    const lexical = [
      { key: 2, score: 6 },
      { key: 3, score: 4 },
      { key: 4, score: 2 },
    ];
    const cosines = new Map([
      [3, 0.5],
      [4, 0.1],
    ]);
    const fused = fuse(dense, lexical, (key) => cosines.get(key)!, 0.05);
    assert.deepEqual(
      fused.map(({ key }) => key),
      [2, 1, 3, 4],
    );
    const expected = [0.83, 0.8, 0.525, 0.1];
    fused.forEach(({ score }, i) => assert.ok(Math.abs(score - expected[i]) < 1e-12));
  });

  it('is the dense ranking when no word matches', () => {
    const dense = [{ key: 1, score: 0.8 }];
    assert.deepEqual(
      fuse(dense, [], () => 0, 0.05),
      dense,
    );
  });
});

describe('vector index', () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'sentence-jepa-index-'));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  const d = 48;
  let count = 0;
  const freshFolder = async (): Promise<string> => mkdtemp(path.join(folder, String(count++)));

  async function load(
    points: readonly Keyed[],
    options: Partial<VectorIndexOptions> & { folder: string },
  ): Promise<{ index: VectorIndex; log: string[] }> {
    const log: string[] = [];
    const index = new VectorIndex({
      identity: { fingerprint: 'f', dimensions: d },
      exactUpTo: 500,
      recall: 0.99,
      measuringShare: 1,
      log: (line) => log.push(line),
      ...options,
    });
    await index.load([points]);
    index.follow();
    return { index, log };
  }

  const queries = clusters(100, d, 1).map(({ vector }) => vector);

  /** Of queries that were asked before, so that the index knows what it is asked, far from its vectors as they are. */
  async function recall(index: VectorIndex, points: readonly Keyed[], k = 10): Promise<number> {
    await ask(index, queries);
    return recallNow(index, points, k);
  }

  /** Each once, with its recall measured and what follows from it done. */
  async function ask(index: VectorIndex, asked: readonly Float32Array[]): Promise<void> {
    for (const query of asked) {
      index.search(query, 10);
      await nextTurn();
    }
    await index.settled();
  }

  function recallNow(index: VectorIndex, points: readonly Keyed[], k = 10): number {
    let found = 0;
    for (const query of queries) {
      const hits = new Set(index.search(query, k).map(({ key }) => key));
      found += nearest(points, query, k).filter((key) => hits.has(key)).length;
    }
    return found / (k * queries.length);
  }

  it('finds at least 99 of 100 nearest neighbours through the graph', async () => {
    const points = clusters(5000, d, 1);
    const { index } = await load(points, { folder: await freshFolder() });
    await index.settled();
    assert.equal(index.kind, 'hnsw');
    assert.equal(index.building, false);
    assert.ok((await recall(index, points)) >= 0.99);
    assert.ok((await recall(index, points, 100)) >= 0.99);
  });

  it('finds a vector at once, and never a removed one, while the graph is being built', async () => {
    const points = clusters(2000, d, 2);
    const { index } = await load([], { folder: await freshFolder() });
    for (const { key, vector } of points) index.add(key, vector);
    assert.equal(index.building, true);
    assert.equal(index.search(points[1999].vector, 1)[0].key, 2000);
    index.remove(2000);
    assert.notEqual(index.search(points[1999].vector, 1)[0].key, 2000);
    await index.settled();
    index.remove(1999);
    index.add(2001, points[1999].vector);
    assert.notEqual(index.search(points[1998].vector, 1)[0].key, 1999);
    assert.equal(index.search(points[1999].vector, 1)[0].key, 2001);
  });

  it('finds as many as are asked for while the graph is written, when the nearest were removed meanwhile', async () => {
    const points = clusters(2000, d, 13);
    let written = (): void => undefined;
    const saving = new Promise<void>((begun) =>
      mock.method(HnswGraph.prototype, 'save', () => {
        begun();
        return new Promise<void>((resolve) => (written = resolve));
      }),
    );
    const { index } = await load(points, { folder: await freshFolder() });
    await saving;
    assert.equal(index.kind, 'hnsw');
    const query = points[0].vector;
    const gone = new Set(nearest(points, query, 20));
    for (const key of gone) index.remove(key);
    const left = points.filter(({ key }) => !gone.has(key));
    const found = (k: number): number[] => index.search(query, k).map(({ key }) => key);
    const check = (): void => {
      const expected = new Set(nearest(left, query, 10));
      assert.equal(found(10).length, 10);
      assert.ok(found(10).filter((key) => expected.has(key)).length >= 9);
    };
    check();
    written();
    mock.restoreAll();
    await index.settled();
    check();
    await index.close();
  });

  it('forgets what is removed while it is loaded', async () => {
    const points = clusters(1500, d, 12);
    const dir = await freshFolder();
    const { index: first } = await load(points, { folder: dir });
    await first.settled();
    await first.close();
    const index = new VectorIndex({
      folder: dir,
      identity: { fingerprint: 'f', dimensions: d },
      exactUpTo: 500,
    });
    const loading = index.load([points.slice(0, 700), points.slice(700)]);
    await nextTurn();
    index.remove(3);
    await loading;
    index.follow();
    await index.settled();
    assert.equal(index.kind, 'hnsw');
    assert.equal(index.size, 1499);
    const found = index.search(points[2].vector, 10).map(({ key }) => key);
    assert.ok(!found.includes(3), found.join());
  });

  it('keeps the recall it is told to, by more candidates once questions are harder than stored vectors', async () => {
    const points = clusters(3000, d, 7);
    let measured = 0;
    const { index } = await load(points, { folder: await freshFolder(), onMeasured: () => measured++ });
    await index.settled();
    assert.equal(index.kind, 'hnsw');
    assert.equal(index.measuredRecall, undefined, 'nothing was asked yet');
    const before = recallNow(index, points);
    await index.settled();
    assert.ok(before < 0.99, `${before}: or this test shows nothing`);
    await ask(index, queries);
    assert.ok(measured >= queries.length);
    assert.ok(index.measuredRecall! >= 0.99);
    assert.ok(recallNow(index, points) >= 0.99);
    const dir = await freshFolder();
    assert.equal((await load(points, { folder: dir, recall: 1 })).index.kind, 'exact');
  });

  it('searches exactly where no graph holds the recall', async () => {
    // The same text over and over: copies fill each other's lists of neighbours, and no way leads out of them.
    const others = clusters(500, d, 8);
    const copy = clusters(1, d, 11)[0].vector;
    const points = Array.from({ length: 2000 }, (_, i) => ({
      key: i + 1,
      vector: i < 1500 ? copy : others[i - 1500].vector,
    }));
    const { index, log } = await load(points, { folder: await freshFolder() });
    await index.settled();
    assert.equal(index.kind, 'exact');
    assert.equal(index.building, false);
    assert.match(log.join('\n'), /no search through the graph holds recall@10 of 0.99 over 2000 vectors/);
    for (const { vector } of others.slice(0, 50))
      assert.deepEqual(
        index.search(vector, 10).map(({ key }) => key),
        nearest(points, vector, 10),
      );
    await index.close();
  });

  it('holds the recall while a large share of the vectors is deleted and replaced', async () => {
    let points = clusters(4000, d, 9);
    const { index } = await load(points, { folder: await freshFolder() });
    await index.settled();
    await ask(index, queries);
    assert.equal(index.kind, 'hnsw');
    assert.ok(recallNow(index, points) >= 0.99, 'before');
    const later = clusters(2400, d, 10).map(({ vector }, i) => ({ key: 4001 + i, vector }));
    // Below the share at which the graph is built again, at it, and beyond.
    for (const [from, to] of [
      [0, 1000],
      [1000, 1600],
      [1600, 2400],
    ]) {
      for (const { key } of points.slice(0, to - from)) index.remove(key);
      points = [...points.slice(to - from), ...later.slice(from, to)];
      for (const { key, vector } of later.slice(from, to)) index.add(key, vector);
      assert.equal(index.building, true);
      assert.ok(recallNow(index, points) >= 0.99, `${to} replaced, the graph behind`);
      await index.settled();
      await ask(index, queries);
      assert.equal(index.kind, 'hnsw');
      assert.ok(recallNow(index, points) >= 0.99, `${to} replaced`);
    }
    await index.close();
  });

  it('builds the graph again when much of it is deleted', async () => {
    const points = clusters(3000, d, 3);
    const { index } = await load(points, { folder: await freshFolder() });
    await index.settled();
    for (const { key } of points.slice(0, 2000)) index.remove(key);
    await index.settled();
    assert.equal(index.building, false);
    assert.ok((await recall(index, points.slice(2000))) >= 0.99);
  });

  it('searches few survivors exactly and many through the graph', async () => {
    const points = clusters(3000, d, 4);
    const { index } = await load(points, { folder: await freshFolder() });
    await index.settled();
    for (const modulus of [100, 2]) {
      const among = new Set(points.map(({ key }) => key).filter((key) => key % modulus === 0));
      const allowed = points.filter(({ key }) => among.has(key));
      let found = 0;
      for (const { vector } of points.slice(0, 100)) {
        const hits = index.search(vector, 10, among).map(({ key }) => key);
        assert.equal(hits.length, 10);
        assert.ok(hits.every((key) => among.has(key)));
        found += nearest(allowed, vector, 10).filter((key) => hits.includes(key)).length;
      }
      assert.ok(found >= (modulus === 100 ? 1000 : 990), `${found} of 1000 for every ${modulus}th`);
    }
  });

  it('opens again without building, and catches up with what was written since', async () => {
    const points = clusters(3000, d, 5);
    const dir = await freshFolder();
    const first = await load(points.slice(0, 2500), { folder: dir });
    await first.index.settled();
    await first.index.close();

    const again = await load(points.slice(0, 2500), { folder: dir });
    assert.deepEqual(again.log, []);
    assert.equal(again.index.building, false);
    assert.ok((await recall(again.index, points.slice(0, 2500))) >= 0.99);
    await again.index.close();

    const later = await load(points.slice(100), { folder: dir });
    assert.deepEqual(later.log, []);
    assert.ok((await recall(later.index, points.slice(100))) >= 0.99);
    await later.index.settled();
    assert.ok((await recall(later.index, points.slice(100))) >= 0.99);
    await later.index.close();

    const files = (await readdir(dir)).filter((name) => name.startsWith('hnsw'));
    assert.equal(files.length, 1, 'earlier files are removed');
  });

  const graphFile = async (dir: string): Promise<string> =>
    path.join(
      dir,
      (await readdir(dir)).find((name) => name.endsWith('.bin'))!,
    );
  const damages: [string, RegExp, (dir: string) => Promise<void>][] = [
    ['missing', /missing/, async (dir) => rm(await graphFile(dir))],
    ['cut off', /damaged/, async (dir) => truncate(await graphFile(dir), 1000)],
    [
      'changed in one byte',
      /damaged/,
      async (dir) => {
        const bytes = await readFile(await graphFile(dir));
        bytes[bytes.length >> 1] ^= 1;
        await writeFile(await graphFile(dir), bytes);
      },
    ],
    ['named by no manifest', /no index file/, async (dir) => rm(path.join(dir, 'index.json'))],
    [
      'named by a broken manifest',
      /expected JSON/,
      async (dir) => writeFile(path.join(dir, 'index.json'), '{'),
    ],
    [
      'of another encoder',
      /fingerprint/,
      async (dir) => {
        const manifest = path.join(dir, 'index.json');
        await writeFile(manifest, (await readFile(manifest, 'utf8')).replace('"f"', '"g"'));
      },
    ],
  ];
  for (const [name, reason, damage] of damages)
    it(`builds the graph again when its file is ${name}`, async () => {
      const points = clusters(1500, d, 6);
      const dir = await freshFolder();
      const first = await load(points, { folder: dir });
      await first.index.settled();
      await first.index.close();
      await damage(dir);

      const second = await load(points, { folder: dir });
      assert.equal(second.log.length, 1);
      assert.match(second.log[0], reason);
      assert.ok(recallNow(second.index, points) >= 0.99);
      await second.index.settled();
      assert.ok((await recall(second.index, points)) >= 0.99);
      await second.index.close();

      const third = await load(points, { folder: dir });
      assert.deepEqual(third.log, []);
      await third.index.close();
    });
});
