import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { cachedInference } from '../../server/batching/cached-inference.js';
import type { Inference } from '../../server/batching/inference.js';
import { fakeInference } from './fake-inference.js';

const D = 16;

function open(bytes = 1e6): { cached: Inference; plain: Inference; asked: string[][] } {
  const asked: string[][] = [];
  const plain = fakeInference({ dimensions: D });
  const inner = fakeInference({ dimensions: D, onEncode: (texts) => asked.push([...texts]) });
  return { cached: cachedInference(inner, bytes), plain, asked };
}

describe('remembered vectors', () => {
  it('are those of the encoder, whichever of them were known', async () => {
    const { cached, plain, asked } = open();
    for (const texts of [['a', 'b'], ['b', 'c', 'b', 'a'], ['c']])
      assert.deepEqual(await cached.encode(texts), await plain.encode(texts));
    assert.deepEqual(asked, [['a', 'b'], ['c']]);
    assert.deepEqual({ ...cached.stats().cache, bytes: 0 }, { hits: 4, misses: 3, vectors: 3, bytes: 0 });
  });

  it('have the lengths of their texts beside them', async () => {
    const { cached } = open();
    await cached.encode(['one two']);
    const { lengths } = await cached.encodeWithLengths(['three', 'one two', 'three']);
    assert.deepEqual([...lengths], [1, 2, 1]);
  });

  it('are computed again after they were forgotten, and for a probe', async () => {
    const { cached, asked } = open();
    await cached.encode(['a']);
    await cached.encode(['a'], { probe: true });
    assert.equal(asked.length, 2);
    cached.forget?.();
    assert.equal(cached.stats().cache?.bytes, 0);
    await cached.encode(['a']);
    assert.equal(asked.length, 3);
  });

  it("are not the caller's to change", async () => {
    const { cached, plain } = open();
    (await cached.encode(['a'])).fill(9);
    (await cached.encode(['a'])).fill(9);
    assert.deepEqual(await cached.encode(['a']), await plain.encode(['a']));
  });

  it('differ by what was asked for: at length 1 or not', async () => {
    const { cached, asked } = open();
    await cached.encode(['a'], { normalize: true });
    await cached.encode(['a'], { normalize: false });
    await cached.encode(['a'], { normalize: false });
    assert.equal(asked.length, 2);
  });

  it('leave when there are too many, what was used longest ago first', async () => {
    const each = D * 4 + 200 + 2 * 3;
    const { cached, asked } = open(2 * each);
    for (const text of ['aa', 'bb', 'aa', 'cc', 'aa', 'bb']) await cached.encode([text]);
    assert.deepEqual(asked.flat(), ['aa', 'bb', 'cc', 'bb']);
    assert.ok(cached.stats().cache!.bytes <= 2 * each);
  });

  it('are none of bulk work, of very long texts, or with no memory', async () => {
    const { cached, asked } = open();
    const long = 'long '.repeat(1000);
    for (let i = 0; i < 2; i++) {
      await cached.encode(['a'], { priority: 'bulk' });
      await cached.encode([long]);
    }
    assert.equal(asked.length, 4);
    const { cached: off } = open(0);
    assert.equal(off.stats().cache, undefined);
  });

  it('are not of what failed or was given up', async () => {
    const { cached, asked } = open();
    const gone = new AbortController();
    gone.abort();
    await assert.rejects(cached.encode(['a'], { signal: gone.signal }), { name: 'AbortError' });
    await cached.encode(['a']);
    assert.deepEqual(asked, [['a']]);
  });
});
