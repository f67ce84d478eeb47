import assert from 'node:assert/strict';
import { once, EventEmitter } from 'node:events';
import { after, describe, it } from 'node:test';

import { UserError } from '../../base/errors.js';
import { Thread } from '../../server/threads.js';
import type { EchoHandlers } from './echo-worker.js';

const script = new URL('./echo-worker.js', import.meta.url);

describe('thread', () => {
  const events = new EventEmitter();
  const thread = new Thread<EchoHandlers>(script, 'echo', {
    onEvent: (event) => events.emit(event as string),
  });
  after(() => thread.terminate());

  it('takes and gives typed arrays', async () => {
    const doubled = await thread.call('double', Float32Array.of(1, 2, 3));
    assert.deepEqual(doubled, Float32Array.of(2, 4, 6));
  });

  it('keeps the kind of a user error, and the class name of any other', async () => {
    await assert.rejects(thread.call('refuse', undefined), (error) => {
      assert.ok(error instanceof UserError);
      assert.deepEqual([error.kind, error.message], ['corrupt', 'model.safetensors: truncated']);
      return true;
    });
    await assert.rejects(thread.call('fail', undefined), { name: 'TypeError', message: 'not foreseen' });
  });

  it('hears what no call asked for', async () => {
    const heard = once(events, 'hello');
    await thread.call('announce', 'hello');
    await heard;
  });

  it('tells the thread that a call was given up', async () => {
    const controller = new AbortController();
    const cancelled = once(events, 'cancelled');
    const call = thread.call('untilCancelled', undefined, { signal: controller.signal });
    controller.abort(new Error('gone'));
    await assert.rejects(call, /gone/);
    await cancelled;
  });

  it('fails what is under way at once when it is told to end, however long it takes to do so', async () => {
    const busy = new Thread<EchoHandlers>(script, 'echo');
    const waiting = busy.call('untilCancelled', undefined);
    let ended = false;
    void busy.ended.then(() => (ended = true));
    const terminated = busy.terminate();
    await assert.rejects(waiting, { kind: 'backend', message: 'the echo thread stopped: it was told to' });
    assert.equal(ended, false);
    await terminated;
  });

  it('fails what is under way, and what comes after, when it dies', async () => {
    const mortal = new Thread<EchoHandlers>(script, 'echo');
    const waiting = assert.rejects(
      mortal.call('untilCancelled', undefined),
      /echo thread stopped: exit code 9/,
    );
    await assert.rejects(mortal.call('crash', undefined), UserError);
    await waiting;
    assert.equal((await mortal.ended).kind, 'backend');
    await assert.rejects(mortal.call('announce', 'x'), UserError);
  });
});
