import { Counter, exponentialBuckets, Histogram, type Registry } from 'prom-client';

import { UserError } from '../base/errors.js';
import type { Observer } from './observer.js';

/** Seconds. */
export const DURATION_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** text-embeddings-inference's words where it has one, else our own kinds. */
function failureOf(error: unknown): string {
  if (error instanceof UserError) return error.kind === 'backend' ? 'inference' : error.kind;
  return (error as Partial<Error> | undefined)?.name === 'AbortError' ? 'dropped' : 'inference';
}

/**
 * Counts what is embedded and searched. Under text-embeddings-inference's names what means the same there, so that its
 * dashboards and alerts go on working; its durations are seconds, though no name says so.
 */
export function workMetrics(registers: Registry[]): Omit<Observer, 'workerNotStarted'> {
  const counter = <Label extends string>(name: string, help: string, label: Label): Counter<Label> =>
    new Counter({ name, help, labelNames: [label], registers });
  const duration = (name: string, help: string): Histogram =>
    new Histogram({ name, help, buckets: DURATION_BUCKETS, registers });

  const count = counter('te_request_count', 'Requests for vectors that reached the encoder.', 'method');
  const success = counter('te_request_success', 'Those that got them.', 'method');
  const failure = counter('te_request_failure', 'Those that did not, and why.', 'err');
  const whole = duration('te_request_duration', 'Seconds from the arrival at the encoder to the vectors.');
  const queue = duration('te_request_queue_duration', 'Of these, waiting: the mean of its texts.');
  const tokenize = duration('te_request_tokenization_duration', 'In the tokenizer: the mean of its texts.');
  const inference = duration(
    'te_request_inference_duration',
    "In the model, their batches' other texts included: the mean.",
  );
  const length = new Histogram({
    name: 'te_request_input_length',
    help: 'Tokens of a text, as many as the model read.',
    buckets: exponentialBuckets(4, 2, 8),
    registers,
  });
  const size = new Histogram({
    name: 'te_batch_next_size',
    help: 'Texts of a batch. The sum is all texts embedded, the count all batches.',
    buckets: exponentialBuckets(1, 2, 10),
    registers,
  });
  const tokens = new Histogram({
    name: 'te_batch_next_tokens',
    help: 'Tokens of a batch. The sum is all tokens embedded.',
    buckets: exponentialBuckets(1, 2, 13),
    registers,
  });
  const lost = new Counter({
    name: 'sentence_jepa_workers_lost_total',
    help: 'Inference threads that died or hung, and were replaced.',
    registers,
  });
  const search = new Histogram({
    name: 'sentence_jepa_search_duration_seconds',
    help: "A search in the collection, its query's embedding left out.",
    labelNames: ['mode'] as const,
    buckets: [0.0001, 0.00025, 0.0005, ...DURATION_BUCKETS],
    registers,
  });

  return {
    encoded(timing) {
      const method = timing.texts === 1 ? 'single' : 'batch';
      count.inc({ method });
      if (timing.error !== undefined) {
        failure.inc({ err: failureOf(timing.error) });
        return;
      }
      success.inc({ method });
      whole.observe((timing.end - timing.start) / 1000);
      queue.observe(timing.queue / 1000);
      tokenize.observe(timing.tokenize / 1000);
      inference.observe(timing.inference / 1000);
    },
    batch(batch) {
      let sum = 0;
      for (const each of batch.lengths) {
        length.observe(each);
        sum += each;
      }
      size.observe(batch.lengths.length);
      tokens.observe(sum);
    },
    workerLost: () => lost.inc(),
    searched: ({ mode, start, end }) => search.observe({ mode }, (end - start) / 1000),
  };
}
