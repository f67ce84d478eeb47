import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';

import { UserError } from '../../base/errors.js';
import type { InferenceOptions } from '../../server/batching/inference.js';
import { HealthCheck } from '../../server/health.js';
import { call, fakeInference, startTestServer } from './http-support.js';

/** Inference whose batches and answers the test makes. */
function controlled() {
  const inner = fakeInference();
  const state = { batches: 0, probes: [] as InferenceOptions[], answer: () => Promise.resolve() };
  return {
    state,
    inference: {
      stats: () => ({ ...inner.stats(), batches: state.batches }),
      async encode(_texts: readonly string[], options: InferenceOptions = {}) {
        state.probes.push(options);
        await Promise.race([
          state.answer(),
          new Promise((_, reject) =>
            options.signal?.addEventListener('abort', () => reject(options.signal!.reason)),
          ),
        ]);
        return new Float32Array(8);
      },
    },
  };
}

const search = { answers: async () => undefined };
const never = (): Promise<void> => new Promise(() => undefined);
const dead = { kind: 'unavailable', message: /^inference does not answer: / };

describe('the check of inference and search', () => {
  // AbortSignal.timeout alone keeps no process alive.
  let alive: NodeJS.Timeout;
  before(() => (alive = setInterval(() => undefined, 1_000)));
  after(() => clearInterval(alive));

  it('computes a text where nothing was computed, which waits for no room and is not remembered', async () => {
    const { inference, state } = controlled();
    await new HealthCheck(5).check(inference, search);
    assert.equal(state.probes.length, 1);
    assert.equal(state.probes[0].probe, true);
    assert.notEqual(state.probes[0].priority, 'bulk');
  });

  it('takes a batch since the last check for proof', async () => {
    const { inference, state } = controlled();
    state.answer = never;
    const check = new HealthCheck(0.01);
    for (let i = 0; i < 3; i++) {
      state.batches++;
      await check.check(inference, search);
    }
    assert.equal(state.probes.length, 0);
  });

  it('computes once for checks that come together, or soon after each other', async () => {
    const { inference, state } = controlled();
    const check = new HealthCheck(5);
    await Promise.all([check.check(inference, search), check.check(inference, search)]);
    await check.check(inference, search);
    assert.equal(state.probes.length, 1);
  });

  it('fails when nothing is computed in time, and passes again when something is', async () => {
    const { inference, state } = controlled();
    state.answer = never;
    const check = new HealthCheck(0.01);
    for (let i = 0; i < 2; i++)
      await assert.rejects(check.check(inference, search), {
        ...dead,
        message: /nothing was computed within 0.01 s/,
      });
    state.answer = () => Promise.resolve();
    await check.check(inference, search);
  });

  it('passes when its own text waited in vain but others did not', async () => {
    const { inference, state } = controlled();
    state.answer = () => {
      state.batches++;
      return never();
    };
    await new HealthCheck(0.01).check(inference, search);
  });

  it('fails when the thread that searches does not answer', async () => {
    const { inference } = controlled();
    const hung = {
      answers: (signal: AbortSignal) =>
        new Promise<void>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
    };
    await assert.rejects(new HealthCheck(0.01).check(inference, hung), {
      kind: 'unavailable',
      message: 'search does not answer: its thread did not within 0.01 s',
    });
    await assert.rejects(
      new HealthCheck(5).check(inference, { answers: () => Promise.reject(new Error('the disk is full')) }),
      { kind: 'unavailable', message: 'search does not answer: the disk is full' },
    );
  });

  it('fails with the reason when nothing can be computed', async () => {
    const { inference, state } = controlled();
    state.answer = () => Promise.reject(new UserError('corrupt', 'model.safetensors: truncated'));
    await assert.rejects(new HealthCheck(5).check(inference, search), { ...dead, message: /truncated/ });
  });
});

describe('/health', () => {
  it('is 200 while the model loads, 503 when inference hangs, and never asks for a key', async () => {
    let loaded = (): void => undefined;
    const loading = new Promise<void>((resolve) => (loaded = resolve));
    const test = await startTestServer({ healthSeconds: 0.01, apiKeys: ['key'] }, loading);
    const { inference, state } = controlled();
    state.answer = never;
    test.inference.encode = inference.encode;
    assert.deepEqual((await call(`${test.url}/health`)).body, { status: 'ok' });
    assert.equal((await call(`${test.url}/ready`)).status, 503);
    loaded();
    await test.server.ready;
    const { status, body } = await call(`${test.url}/health`);
    assert.deepEqual(
      [status, body],
      [
        503,
        {
          error: 'inference does not answer: nothing was computed within 0.01 s',
          error_type: 'unavailable',
        },
      ],
    );
    assert.equal((await call(`${test.url}/ready`)).status, 200);
    await test.server.close();
  });
});
