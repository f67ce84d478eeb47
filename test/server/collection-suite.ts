import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';

import { UserError } from '../../base/errors.js';
import type { Inference } from '../../server/batching/inference.js';
import type {
  Collection,
  Filter,
  SearchRequest,
  TrainableCollection,
} from '../../server/search/collection.js';
import type { CollectionOptions } from '../../server/search/open-collection.js';
import { fakeInference, wordVector } from './fake-inference.js';

/** What every store understands. */
export type StoreOptions = Pick<
  CollectionOptions,
  'inference' | 'reembed' | 'onProgress' | 'exactUpTo' | 'recall'
>;

/** A kind of store, as the suite knows it. */
export interface TestStore {
  /** Where an empty collection can be. */
  fresh(): Promise<string>;
  open(at: string, options: StoreOptions): Promise<TrainableCollection>;
}

export function isUserError(kind: string, ...words: (RegExp | string)[]) {
  return (error: unknown): boolean => {
    assert.ok(error instanceof UserError, String(error));
    assert.equal(error.kind, kind);
    for (const word of words) assert.match(error.message, new RegExp(word));
    return true;
  };
}

export async function ids(collection: Collection, request: Partial<SearchRequest>): Promise<string[]> {
  const hits = await collection.search({ query: 'java', k: 10, mode: 'dense', ...request });
  return hits.map(({ id }) => id);
}

export const questions = [
  {
    id: 'java',
    text: 'how to install java',
    metadata: { year: 2012, tags: ['java', 'install'], open: true },
  },
  { id: 'jdk', text: 'install java jdk on ubuntu', metadata: { year: 2014, tags: ['java'], open: false } },
  { id: 'wifi', text: 'wifi is slow after suspend', metadata: { year: 2014, tags: ['network'], open: true } },
  { id: 'boot', text: 'stuck at boot screen' },
];

/** What a collection does, whatever it is kept in. */
export function collectionSuite(store: TestStore): void {
  const opened: Collection[] = [];
  after(() => Promise.all(opened.map((collection) => collection.close().catch(() => undefined))));

  async function open(options: Partial<StoreOptions> & { at?: string } = {}): Promise<TrainableCollection> {
    const { at = await store.fresh(), ...rest } = options;
    const collection = await store.open(at, { inference: fakeInference(), ...rest });
    opened.push(collection);
    return collection;
  }

  describe('documents', () => {
    it('come back as they went in, in the order of their ids', async () => {
      const collection = await open();
      assert.deepEqual(await collection.upsert(questions), { inserted: 4, replaced: 0 });
      assert.deepEqual(await collection.get('jdk'), questions[1]);
      assert.equal(await collection.get('none'), undefined);
      assert.deepEqual(
        (await collection.list({ limit: 2 })).map(({ id }) => id),
        ['boot', 'java'],
      );
      assert.deepEqual(
        (await collection.list({ after: 'java', limit: 10 })).map(({ id }) => id),
        ['jdk', 'wifi'],
      );
    });

    it('are replaced as a whole by the same id', async () => {
      const collection = await open();
      await collection.upsert(questions);
      assert.deepEqual(
        await collection.upsert([
          { id: 'java', text: 'printer does not print' },
          { id: 'other', text: 'cups' },
        ]),
        { inserted: 1, replaced: 1 },
      );
      assert.deepEqual(await collection.get('java'), { id: 'java', text: 'printer does not print' });
      assert.deepEqual(await ids(collection, { query: 'printer', k: 1 }), ['java']);
      assert.deepEqual(await ids(collection, { query: 'install java', mode: 'lexical' }), ['jdk']);
      assert.equal(collection.info().documents, 5);
    });

    it('are told apart from ids that there is nothing of', async () => {
      const collection = await open();
      await collection.upsert([{ id: 'there', text: 'one' }]);
      const ids = ['there', 'not there', 'a\0b', 'there'];
      assert.deepEqual([...(await collection.existing(ids))], ['there']);
      assert.equal((await collection.existing([])).size, 0);
    });

    it('are gone from every search once deleted', async () => {
      const collection = await open();
      await collection.upsert(questions);
      assert.equal(await collection.delete('java'), true);
      assert.equal(await collection.delete('java'), false);
      assert.equal(await collection.get('java'), undefined);
      for (const mode of ['dense', 'lexical', 'hybrid'] as const)
        assert.ok(!(await ids(collection, { query: 'how to install java', mode })).includes('java'));
    });

    it('hold one of the texts when the same id is written many times at once', async () => {
      const collection = await open();
      const results = await Promise.all(
        Array.from({ length: 50 }, (_, i) => collection.upsert([{ id: 'same', text: `text number${i}` }])),
      );
      assert.equal(
        results.reduce((sum, { inserted }) => sum + inserted, 0),
        1,
      );
      assert.equal(collection.info().documents, 1);
      const text = (await collection.get('same'))!.text;
      const [hit] = await collection.search({ query: text, k: 5, mode: 'dense' });
      assert.equal(hit.text, text);
      assert.ok(Math.abs(hit.score - 1) < 1e-6);
    });

    it('are refused when they have no id, no text, an id twice or metadata that is not flat', async () => {
      const collection = await open();
      const upsert = (...documents: unknown[]): Promise<unknown> => collection.upsert(documents as never);
      await assert.rejects(upsert({ id: '', text: 'a' }), isUserError('invalid', 'expected an id'));
      await assert.rejects(upsert({ id: '\ud800', text: 'a' }), isUserError('invalid', 'UTF-8'));
      await assert.rejects(upsert({ id: 'a', text: '  ' }), isUserError('empty', '"a"'));
      await assert.rejects(upsert({ id: 'a', text: 7 }), isUserError('invalid', '"a"', 'number'));
      await assert.rejects(
        upsert({ id: 'a', text: 'x' }, { id: 'a', text: 'y' }),
        isUserError('invalid', '"a" occurs twice'),
      );
      for (const value of [{ deep: 1 }, [1], NaN])
        await assert.rejects(
          upsert({ id: 'a', text: 'x', metadata: { field: value } }),
          isUserError('invalid', '"a"', '"field"'),
        );
      assert.equal(collection.info().documents, 0);
    });

    it('are refused with a vector that has no direction, and nothing of the call is stored', async () => {
      const broken = (value: number): Inference => ({
        ...fakeInference(),
        encode: async (texts) => new Float32Array(texts.length * 16).fill(value),
      });
      for (const value of [NaN, 0, Infinity]) {
        const collection = await open({ inference: broken(value) });
        await assert.rejects(collection.upsert(questions), isUserError('backend', 'length'));
        assert.equal(await collection.get('java'), undefined);
      }
    });
  });

  describe('search', () => {
    it('ranks by cosine, by words, or by both', async () => {
      const collection = await open();
      await collection.upsert(questions);
      const dense = await collection.search({ query: 'how to install java', k: 2, mode: 'dense' });
      assert.equal(dense[0].id, 'java');
      assert.ok(Math.abs(dense[0].score - 1) < 1e-6);
      assert.deepEqual(await ids(collection, { query: 'java jdk', mode: 'lexical' }), ['jdk', 'java']);
      const hybrid = await collection.search({ query: 'how to install java', k: 4, mode: 'hybrid' });
      assert.equal(hybrid[0].id, 'java');
      assert.ok(Math.abs(hybrid[0].score - 1.05) < 1e-6, 'cosine 1 and the full weight of BM25');
    });

    it('gives all there are when k is more than that', async () => {
      const collection = await open();
      assert.deepEqual(await ids(collection, { k: 10 }), []);
      await collection.upsert(questions);
      assert.equal((await ids(collection, { k: 1_000_000 })).length, 4);
      assert.equal((await ids(collection, { k: 1_000_000, mode: 'hybrid' })).length, 4);
    });

    it('refuses a k that is not a whole number from 1, and an empty query', async () => {
      const collection = await open();
      for (const k of [0, -1, 1.5, NaN, '3'])
        await assert.rejects(
          collection.search({ query: 'x', k: k as number, mode: 'dense' }),
          isUserError('invalid', 'whole number', `found ${k}`),
        );
      await assert.rejects(
        collection.search({ query: ' ', k: 1, mode: 'lexical' }),
        isUserError('empty', 'query'),
      );
    });

    it('leaves out what it is told to, without returning fewer', async () => {
      const collection = await open();
      await collection.upsert(questions);
      for (const mode of ['dense', 'hybrid'] as const)
        assert.deepEqual(
          (
            await ids(collection, { query: 'how to install java', k: 3, mode, exclude: ['java', 'none'] })
          ).sort(),
          ['boot', 'jdk', 'wifi'],
        );
    });

    it('scales words by what is not left out', async () => {
      const collection = await open();
      await collection.upsert(questions);
      const [dense, hybrid] = await Promise.all(
        (['dense', 'hybrid'] as const).map((mode) =>
          collection.search({ query: 'how to install java', k: 1, mode, exclude: ['java'] }),
        ),
      );
      assert.deepEqual([dense[0].id, hybrid[0].id], ['jdk', 'jdk']);
      assert.ok(Math.abs(hybrid[0].score - dense[0].score - 0.05) < 1e-6, 'the best of the rest by words');
    });

    it('reads no operator in a query', async () => {
      const collection = await open();
      await collection.upsert(questions);
      for (const query of [
        'java"',
        'NEAR(java install, 2)',
        'java*',
        'text:java',
        '-java',
        '(java',
        'java AND',
        "j'ava java",
        'JAVA',
      ])
        assert.ok((await ids(collection, { query, mode: 'lexical' })).includes('java'), query);
      for (const query of ['"', '*', '😀', '()', '--', '^'])
        assert.deepEqual(await ids(collection, { query, mode: 'lexical' }), [], query);
      assert.equal((await ids(collection, { query: '😀 "', mode: 'hybrid' })).length, 4);
      await ids(collection, { query: 'word '.repeat(50_000), mode: 'lexical' });
    });

    it('finds what else is in a query with a token, an address or a path of any length', async () => {
      const collection = await open();
      await collection.upsert(questions);
      for (const name of [
        `a1-${'x'.repeat(2100)}`,
        `https://host/${'segment/'.repeat(1000)}last`,
        `${'a.'.repeat(30_000)}b`,
        Array.from({ length: 16 }, (_, i) => `n${i}.${`${'x'.repeat(2000)}.`.repeat(50)}y`).join(' '),
      ])
        for (const mode of ['lexical', 'hybrid'] as const)
          assert.ok(
            (await ids(collection, { query: `java ${name}`, mode })).includes('java'),
            name.slice(0, 20),
          );
    });

    it('stops when the caller has gone', async () => {
      const collection = await open();
      await collection.upsert(questions);
      const signal = AbortSignal.abort(new Error('the client left'));
      await assert.rejects(
        collection.search({ query: 'java', k: 1, mode: 'dense', signal }),
        /the client left/,
      );
      await assert.rejects(collection.duplicatePairs({ threshold: 0, limit: 9, signal }), /the client left/);
    });
  });

  describe('filters', () => {
    let collection: Collection;
    before(async () => {
      collection = await open();
      await collection.upsert(questions);
    });
    const found = async (filter: unknown): Promise<string> =>
      (await ids(collection, { filter: filter as Filter })).sort().join(' ');

    it('compare, and all must hold', async () => {
      assert.equal(await found({ year: 2014 }), 'jdk wifi');
      assert.equal(await found({ year: 2014, open: true }), 'wifi');
      assert.equal(await found({ year: { gt: 2012 } }), 'jdk wifi');
      assert.equal(await found({ year: { gte: 2012, lt: 2014 } }), 'java');
      assert.equal(await found({ year: { lte: 2012 } }), 'java');
      assert.equal(await found({ year: { in: [2012, 2013] } }), 'java');
      assert.equal(await found({}), 'boot java jdk wifi');
    });

    it('match a list when one of its values does', async () => {
      assert.equal(await found({ tags: 'java' }), 'java jdk');
      assert.equal(await found({ tags: { in: ['network', 'install'] } }), 'java wifi');
      assert.equal(await found({ tags: { ne: 'java' } }), 'boot wifi');
    });

    it('take a missing field for null, and for unlike every value', async () => {
      assert.equal(await found({ year: null }), 'boot');
      assert.equal(await found({ year: { ne: 2014 } }), 'boot java');
    });

    it('do not mix types', async () => {
      assert.equal(await found({ year: '2014' }), '');
      assert.equal(await found({ open: 1 }), '');
      assert.equal(await found({ year: { gt: '2000' } }), '');
    });

    it('take any name and value for what it is', async () => {
      for (const field of [
        '"',
        "'",
        '$',
        '$.year',
        'a.b',
        "x') OR 1=1 --",
        '__proto__',
        'constructor',
        '\u0000',
        '',
      ]) {
        assert.equal(await found(Object.fromEntries([[field, 'x']])), '');
        assert.equal(await found(Object.fromEntries([[field, null]])), 'boot java jdk wifi');
      }
      assert.equal(await found({ tags: `' OR '1'='1` }), '');
      const hostile = JSON.parse('{"__proto__": "x", "a.b\\"": 1}') as Record<string, string | number>;
      await collection.upsert([{ id: 'odd', text: 'odd metadata', metadata: hostile }]);
      assert.equal(await found(JSON.parse('{"__proto__": "x"}')), 'odd');
      assert.equal(await found({ 'a.b"': 1 }), 'odd');
      assert.deepEqual((await collection.get('odd'))?.metadata, hostile);
      await collection.delete('odd');
    });

    it('are refused when they make no sense, naming the field', async () => {
      for (const condition of [
        {},
        [1],
        { like: 'x' },
        { in: 'x' },
        { in: [{}] },
        { gt: true },
        { eq: null },
        { constructor: 1 },
      ])
        await assert.rejects(found({ year: condition }), isUserError('invalid', 'filter on "year"'));
    });

    it('hold for words and for both as well', async () => {
      for (const mode of ['lexical', 'hybrid'] as const)
        assert.deepEqual(
          await ids(collection, { query: 'install java', mode, filter: { year: 2014, open: false } }),
          ['jdk'],
        );
    });
  });

  describe('duplicates', () => {
    it('of a text are the hits that reach the threshold', async () => {
      const collection = await open();
      await collection.upsert(questions);
      const hits = await collection.duplicatesOf('how to install java', { threshold: 0.999, k: 10 });
      assert.deepEqual(
        hits.map(({ id }) => id),
        ['java'],
      );
      for (const threshold of [2, NaN, '1'])
        await assert.rejects(
          collection.duplicatesOf('x', { threshold: threshold as number, k: 1 }),
          isUserError('invalid', 'threshold'),
        );
    });

    for (const [name, exactUpTo] of [
      ['exactly', 1000],
      ['through the graph', 50],
    ] as const)
      it(`are paired once, best first (${name})`, async () => {
        const collection = await open({ exactUpTo });
        const documents = Array.from({ length: 120 }, (_, i) => ({
          id: `d${i}`,
          text: `topic${i % 60} topic${i % 60}a topic${i % 60}b ${i < 60 ? '' : 'please'}`,
        }));
        await collection.upsert(documents);
        const vectors = documents.map(({ text }) => wordVector(text, 16, 'a'));
        const expected = vectors.flatMap((a, i) =>
          vectors.slice(i + 1).filter((b) => a.reduce((sum, x, j) => sum + x * b[j], 0) >= 0.8),
        ).length;
        assert.ok(expected > 30);
        const pairs = await collection.duplicatePairs({ threshold: 0.8, limit: 1000 });
        assert.equal(pairs.length, expected);
        assert.equal(new Set(pairs.map(({ a, b }) => `${a.id} ${b.id}`)).size, pairs.length);
        assert.ok(pairs.every(({ score }, i) => score >= 0.8 && (i === 0 || score <= pairs[i - 1].score)));
        assert.deepEqual(await collection.duplicatePairs({ threshold: 0.8, limit: 3 }), pairs.slice(0, 3));
      });
  });

  describe('opening', () => {
    it('refuses vectors of another encoder and names both and the ways out', async () => {
      const at = await store.fresh();
      const first = await open({ at });
      await first.upsert(questions);
      await first.close();
      await assert.rejects(
        open({ at, inference: fakeInference({ seed: 'b' }) }),
        isUserError('fingerprint-mismatch', 'fake-a', 'fake-b', '--reembed', '--model'),
      );
      const same = await open({ at });
      assert.equal(same.info().documents, 4);
    });

    it('embeds again when asked to, other dimensions included', async () => {
      const at = await store.fresh();
      const first = await open({ at });
      await first.upsert(questions);
      await first.close();
      const progress: number[][] = [];
      const inference = fakeInference({ seed: 'b', dimensions: 24 });
      const second = await open({
        at,
        inference,
        reembed: true,
        onProgress: (done, total) => progress.push([done, total]),
      });
      assert.deepEqual(progress, [[4, 4]]);
      assert.deepEqual(second.info().generation, {
        model: 'fake-b',
        fingerprint: inference.fingerprint,
        dimensions: 24,
      });
      assert.deepEqual(await ids(second, { query: 'how to install java', k: 1 }), ['java']);
    });

    it('answers nothing after it is closed', async () => {
      const collection = await open();
      await collection.close();
      await assert.rejects(collection.get('a'), isUserError('not-ready', 'closed'));
      await assert.rejects(collection.search({ query: 'x', k: 1, mode: 'dense' }), UserError);
    });
  });
}
