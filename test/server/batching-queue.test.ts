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

  it('takes a rest along, of all that waits or of a request, up to an eighth of the budget', () => {
    const queue = new BatchQueue<Named>(8);
    for (let i = 0; i < 9; i++) queue.add(request('a', [1]));
    assert.equal(shown(queue).split(' ').length, 9);
    for (let i = 0; i < 10; i++) queue.add(request('a', [1]));
    assert.equal(shown(queue).split(' ').length, 8);
    assert.equal(shown(queue).split(' ').length, 2);

    queue.add(request('b', Array<number>(9).fill(1)));
    queue.add(request('c', Array<number>(9).fill(1)));
    assert.match(shown(queue), /^(b\d ?){9}$/);
    assert.match(shown(queue), /^(c\d ?){9}$/);
    queue.add(request('d', Array<number>(10).fill(1)));
    assert.match(shown(queue), /^(d\d ?){8}$/);
    assert.match(shown(queue), /^(d\d ?){2}$/);
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

  it('serves requests of one size whole, in the order in which they came', () => {
    const queue = new BatchQueue<Named>(3);
    queue.add(request('a', [1, 1]));
    queue.add(request('b', [1, 1]));
    assert.equal(shown(queue), 'a0 a1 b0');
    queue.add(request('c', [1, 1]));
    assert.deepEqual([shown(queue), shown(queue)], ['b1 c0 c1', '']);
  });

  it('lets small requests pass a large one, which has its share all the same', () => {
    const queue = new BatchQueue<Named>(4);
    queue.add(request('a', Array<number>(12).fill(1)));
    queue.add(request('b', [1, 1]));
    queue.add(request('c', [1]));
    assert.equal(shown(queue), 'c0 b0 b1 a0', 'what is done sooner goes first');
    const batches: string[] = [];
    for (let i = 0; i < 8; i++) {
      queue.add(request('d', [1, 1]));
      batches.push(shown(queue));
    }
    // Half of the tokens are its own for as long as it is there: what the others leave.
    const served = batches.join(' ').split(' ');
    assert.equal(served.filter((text) => text.startsWith('a')).length, 11, batches.join(' | '));
    assert.ok(
      batches.slice(0, 5).every((batch) => batch.includes('a')),
      batches.join(' | '),
    );
  });

  it('makes a small request wait for one portion of a large one at most', () => {
    const queue = new BatchQueue<Named>(4);
    queue.add(request('a', Array<number>(100).fill(1)));
    for (let i = 0; i < 10; i++) {
      assert.equal(shown(queue).split(' ').length, 4);
      queue.add(request('b', [1]));
      assert.match(shown(queue), /b0/, 'the next batch has it');
    }
  });

  it('lets nobody wait forever for small requests that never end', () => {
    const queue = new BatchQueue<Named>(10);
    queue.add(request('m', [10]));
    let batches = 0;
    do {
      for (let i = 0; i < 10; i++) queue.add(request('s', [1]));
      // Ten at a time: after eight times its tokens.
      assert.ok(++batches <= 9, 'm waits still');
    } while (!shown(queue).includes('m'));
    assert.ok(batches > 5, 'they pass it');
  });

  it('makes no request wait for more than what was there before it and eight times as much as itself', () => {
    const queue = new BatchQueue<Named & { left: number; latest: number }>(100);
    let done = 0;
    for (let i = 0; done < 50_000;) {
      while (queue.waiting.interactive < 2_000) {
        const tokens = [20, 25, 30, 40][i++ % 4];
        // It may be passed by what comes until eight times its tokens were done.
        const latest = done + 2_040 + 9 * tokens;
        queue.add({ ...request(`r${i}`, Array<number>(tokens / 5).fill(5)), left: tokens, latest });
      }
      for (const { request: each } of queue.next()) {
        done += 5;
        each.left -= 5;
        if (each.left === 0) assert.ok(done <= each.latest, `${done} for ${each.latest} tokens`);
      }
    }
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
      ['t0 t1', 'a0 a1 a2', 'b0 b1 b2', 'c0', ''],
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
    assert.equal(shown(queue), 'b0 a0');
    assert.deepEqual(queue.waiting, { interactive: 2, bulk: 7 });
    queue.remove(a);
    queue.remove(b);
    assert.equal(queue.size, 2);
    assert.deepEqual([shown(queue), shown(queue)], ['c0', 'c1']);
    assert.deepEqual(queue.waiting, { interactive: 0, bulk: 0 });
    assert.equal(shown(queue), '');
  });
});
