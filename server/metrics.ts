import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';

import type { Services } from './services.js';

export interface Metrics {
  observe(method: string, route: string, status: number, seconds: number): void;
  /** Prometheus' text format. */
  text(): Promise<string>;
  contentType: string;
}

/** @param services undefined until the model is loaded */
export function createMetrics(services: () => Services | undefined): Metrics {
  const registers = [new Registry()];
  collectDefaultMetrics({ register: registers[0] });
  const duration = new Histogram({
    name: 'http_request_duration_seconds',
    help: 'Time from the arrival of a request to the end of its answer.',
    labelNames: ['method', 'route', 'status'] as const,
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    registers,
  });

  const gauge = (name: string, help: string, value: (s: Services) => number): void => {
    new Gauge({
      name: `sentence_jepa_${name}`,
      help,
      registers,
      collect() {
        const ready = services();
        this.set(ready ? value(ready) : 0);
      },
    });
  };
  gauge('queued_texts', 'Texts that wait for inference.', (s) => s.inference.stats().queuedTexts);
  gauge('inference_workers', 'Inference threads.', (s) => s.inference.stats().workers);
  gauge('documents', 'Documents in the collection.', (s) => s.collection.info().documents);
  gauge('index_vectors', 'Vectors in the index.', (s) => s.collection.info().index.vectors);
  gauge('index_building', '1 while the index is built.', (s) => Number(s.collection.info().index.building));
  gauge('ready', '1 when requests are served.', () => 1);
  new Gauge({
    name: 'sentence_jepa_index_kind',
    help: '1 for the kind of index that answers searches.',
    labelNames: ['kind'] as const,
    registers,
    collect() {
      this.reset();
      const ready = services();
      if (ready) this.set({ kind: ready.collection.info().index.kind }, 1);
    },
  });

  const counter = (name: string, help: string, value: (s: Services) => number): void => {
    new Counter({
      name: `sentence_jepa_${name}_total`,
      help,
      registers,
      collect() {
        const ready = services();
        this.reset();
        if (ready) this.inc(value(ready));
      },
    });
  };
  counter('texts', 'Texts embedded.', (s) => s.inference.stats().texts);
  counter('tokens', 'Tokens embedded.', (s) => s.inference.stats().tokens);
  counter('batches', 'Batches run.', (s) => s.inference.stats().batches);

  counter(
    'vector_cache_hits',
    'Texts whose vectors were remembered.',
    (s) => s.inference.stats().cache?.hits ?? 0,
  );
  counter(
    'vector_cache_misses',
    'Texts whose vectors were not.',
    (s) => s.inference.stats().cache?.misses ?? 0,
  );
  gauge('vector_cache_bytes', 'Memory of remembered vectors.', (s) => s.inference.stats().cache?.bytes ?? 0);

  return {
    observe: (method, route, status, seconds) => duration.observe({ method, route, status }, seconds),
    text: () => registers[0].metrics(),
    contentType: registers[0].contentType,
  };
}
