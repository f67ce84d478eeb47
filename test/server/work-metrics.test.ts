import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { Registry } from 'prom-client';

import { UserError } from '../../base/errors.js';
import type { EncodeTiming } from '../../server/observer.js';
import { workMetrics } from '../../server/work-metrics.js';

const timing: EncodeTiming = {
  ...{ texts: 1, priority: 'interactive', start: 1000, end: 1500 },
  ...{ queue: 100, tokenize: 50, inference: 350 },
};

describe('metrics of the work', () => {
  it("have text-embeddings-inference's names, and seconds", async () => {
    const registry = new Registry();
    const { encoded, batch, searched } = workMetrics([registry]);
    encoded(timing);
    encoded({ ...timing, texts: 3 });
    batch({ lengths: [3, 5, 30, 2] });
    searched({ mode: 'hybrid', start: 0, end: 20 });
    const text = await registry.metrics();
    for (const line of [
      'te_request_count{method="single"} 1',
      'te_request_count{method="batch"} 1',
      'te_request_success{method="batch"} 1',
      'te_request_duration_sum 1',
      'te_request_queue_duration_sum 0.2',
      'te_request_tokenization_duration_sum 0.1',
      'te_request_inference_duration_sum 0.7',
      'te_request_input_length_sum 40',
      'te_request_input_length_bucket{le="4"} 2',
      'te_batch_next_size_sum 4',
      'te_batch_next_size_count 1',
      'te_batch_next_tokens_sum 40',
      'sentence_jepa_search_duration_seconds_sum{mode="hybrid"} 0.02',
    ])
      assert.ok(text.includes(`${line}\n`), line);
  });

  it('say why a request failed, and leave its time out', async () => {
    const registry = new Registry();
    const { encoded } = workMetrics([registry]);
    const errors = [
      new UserError('overloaded', 'too much waits'),
      new UserError('backend', 'out of memory'),
      new DOMException('gone', 'AbortError'),
      new TypeError('not foreseen'),
    ];
    for (const error of errors) encoded({ ...timing, error });
    const text = await registry.metrics();
    for (const line of [
      'te_request_count{method="single"} 4',
      'te_request_failure{err="overloaded"} 1',
      'te_request_failure{err="inference"} 2',
      'te_request_failure{err="dropped"} 1',
      'te_request_duration_count 0',
    ])
      assert.ok(text.includes(`${line}\n`), line);
  });
});
