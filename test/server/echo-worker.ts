import { setTimeout as sleep } from 'node:timers/promises';

import { UserError } from '../../base/errors.js';
import { answerCalls, emitEvent, type CallContext } from '../../server/threads.js';

const handlers = {
  double(vector: Float32Array, { transfer }: CallContext): Float32Array {
    const doubled = vector.map((x) => 2 * x);
    transfer.push(doubled.buffer as ArrayBuffer);
    return doubled;
  },
  refuse(_input: undefined): never {
    throw new UserError('corrupt', 'model.safetensors: truncated');
  },
  fail(_input: undefined): never {
    throw new TypeError('not foreseen');
  },
  announce(event: string): void {
    emitEvent(event);
  },
  /** Says when it was cancelled, and waits for that for as long as it takes. */
  async untilCancelled(_input: undefined, { signal }: CallContext): Promise<void> {
    await sleep(1 << 30, undefined, { signal }).catch(() => emitEvent('cancelled'));
  },
  crash(_input: undefined): void {
    process.exit(9);
  },
};

export type EchoHandlers = typeof handlers;

answerCalls(handlers);
