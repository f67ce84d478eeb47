import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { VectorCache } from '../../trainer/vector-cache.js';

describe('the cache of vectors', () => {
  let home: string;
  let count = 0;
  const newFolder = (): string => path.join(home, `cache-${count++}`);
  before(async () => {
    home = await mkdtemp(path.join(tmpdir(), 'vectors-'));
  });
  after(() => rm(home, { recursive: true, force: true }));

  it('gives vectors back by their texts, in any order and as often as asked, also to a later process', async () => {
    const folder = newFolder();
    const first = await VectorCache.open(folder, 2);
    await first.add(['a', 'b'], Float32Array.of(1, 2, 3, 4));
    await first.add(['größer'], Float32Array.of(5, 6));
    assert.deepEqual([...(await first.read(['größer', 'a', 'a']))], [5, 6, 1, 2, 1, 2]);
    assert.deepEqual([first.has('b'), first.has('c')], [true, false]);
    await first.close();
    const later = await VectorCache.open(folder, 2);
    assert.deepEqual([...(await later.read(['b', 'größer']))], [3, 4, 5, 6]);
    await later.close();
  });

  it('is filled by two at once', async () => {
    const folder = newFolder();
    const [one, two] = [await VectorCache.open(folder, 1), await VectorCache.open(folder, 1)];
    await Promise.all([one.add(['a'], Float32Array.of(1)), two.add(['a', 'b'], Float32Array.of(1, 2))]);
    await Promise.all([one.close(), two.close()]);
    const both = await VectorCache.open(folder, 1);
    assert.deepEqual([...(await both.read(['a', 'b']))], [1, 2]);
    await both.close();
  });

  it('does not see what a killed process had not finished', async () => {
    const folder = newFolder();
    const cache = await VectorCache.open(folder, 1);
    await cache.add(['a'], Float32Array.of(1));
    await cache.close();
    await writeFile(path.join(folder, '.0123456789abcdef-9.vectors.ffffff.partial'), 'half');
    const again = await VectorCache.open(folder, 1);
    assert.equal(again.has('a'), true);
    await again.close();
  });

  it('refuses a segment of another size, and says that it can go', async () => {
    const folder = newFolder();
    const cache = await VectorCache.open(folder, 4);
    await cache.add(['a'], Float32Array.of(1, 2, 3, 4));
    await cache.close();
    const [segment] = await readdir(folder);
    await truncate(path.join(folder, segment), 20);
    await assert.rejects(VectorCache.open(folder, 4), {
      kind: 'corrupt',
      message: /expected 32 bytes for 1 vectors, found 20; remove it, it is made again/,
    });
  });
});
