import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import type { Priority } from '../../server/batching/inference.js';
import { BatchQueue, type QueuedRequest } from '../../server/batching/queue.js';

interface Named extends QueuedRequest {
  name: string;
}

function request(name: string, costs: number[], priority: Priority = 'interactive', task = 'encode'): Named {
  return { name, task, costs, priority };
}

/** A batch as "a0 b0 a1": the request's name and the text's place. */
function shown(queue: BatchQueue<Named>): string {
  return queue
    .next()
    .map(({ request: { name }, index }) => `${name}${index}`)
    .join(' ');
}

describe('batch queue', () => {
  it('cuts a request of any length into batches within the budget', () => {
    const queue = new BatchQueue<Named>(10);
    queue.add(request('a', [4, 4, 4, 4, 4]));
    assert.deepEqual([shown(queue), shown(queue), shown(queue), shown(queue)], ['a0 a1', 'a2 a3', 'a4', '']);
  });

  it('gives a text beyond the budget a batch of its own', () => {
    const queue = new BatchQueue<Named>(10);
    queue.add(request('a', [100, 3]));
    assert.deepEqual([shown(queue), shown(queue), shown(queue)], ['a1', 'a0', '']);
  });

  it('puts texts of like length together', () => {
    const queue = new BatchQueue<Named>(10);
    queue.add(request('a', [9, 1, 8, 2, 1]));
    assert.deepEqual([shown(queue), shown(queue), shown(queue)], ['a1 a4 a3', 'a2', 'a0']);
  });

  it('lets requests take turns, a text each, across batches', () => {
    const queue = new BatchQueue<Named>(3);
    queue.add(request('a', [1, 1, 1, 1, 1, 1, 1]));
    queue.add(request('b', [1, 1]));
    queue.add(request('c', [1]));
    assert.deepEqual([shown(queue), shown(queue), shown(queue)], ['a0 b0 c0', 'a1 b1 a2', 'a3 a4 a5']);
  });

  it('serves interactive requests first, and never in one batch with bulk ones', () => {
    const queue = new BatchQueue<Named>(10);
    queue.add(request('b', [3, 3, 3, 3], 'bulk'));
    assert.equal(shown(queue), 'b0 b1 b2');
    queue.add(request('i', [3]));
    assert.deepEqual([shown(queue), shown(queue)], ['i0', 'b3']);
  });

  it('lets bulk work through now and then while interactive work never ends', () => {
    const queue = new BatchQueue<Named>(1);
    queue.add(request('b', [1, 1], 'bulk'));
    for (let i = 0; i < 20; i++) queue.add(request('i', [1]));
    const batches = Array.from({ length: 22 }, () => shown(queue));
    assert.deepEqual(
      batches.flatMap((batch, i) => (batch.startsWith('b') ? [i] : [])),
      [8, 17],
    );
  });

  it('makes batches of texts with which the same is done, each task in turn', () => {
    const queue = new BatchQueue<Named>(3);
    queue.add(request('a', [1, 1, 1]));
    queue.add(request('t', [1, 1], 'interactive', 'tokenize'));
    queue.add(request('b', [1, 1, 1]));
    queue.add(request('c', [1], 'bulk', 'tokenize'));
    assert.deepEqual(
      Array.from({ length: 5 }, () => shown(queue)),
      ['a0 b0 a1', 't0 t1', 'b1 a2 b2', 'c0', ''],
    );
  });

  it('counts what waits, and forgets a request that is given up', () => {
    const queue = new BatchQueue<Named>(2);
    const [a, b] = [request('a', [1, 1, 1]), request('b', [1])];
    queue.add(a);
    queue.add(b);
    queue.add(request('c', [2, 5], 'bulk'));
    assert.equal(queue.size, 6);
    assert.deepEqual(queue.waiting, { interactive: 4, bulk: 7 });
    assert.equal(shown(queue), 'a0 b0');
    assert.deepEqual(queue.waiting, { interactive: 2, bulk: 7 });
    queue.remove(a);
    queue.remove(b);
    assert.equal(queue.size, 2);
    assert.deepEqual([shown(queue), shown(queue)], ['c0', 'c1']);
    assert.deepEqual(queue.waiting, { interactive: 0, bulk: 0 });
    assert.equal(shown(queue), '');
  });
});
