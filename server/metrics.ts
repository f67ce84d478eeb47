import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';

import { ingestMetrics } from './ingest-metrics.js';
import type { MemoryGuard } from './memory-guard.js';
import type { Observer } from './observer.js';
import type { Services } from './services.js';
import { trainingMetrics } from './training-metrics.js';
import { DURATION_BUCKETS, workMetrics } from './work-metrics.js';

export interface Metrics {
  /** Counts the work that it is told of. */
  observer: Partial<Observer>;
  observe(method: string, route: string, status: number, seconds: number): void;
  /** Prometheus' text format. */
  text(): Promise<string>;
  contentType: string;
}

/** @param services undefined until the model is loaded */
export function createMetrics(
  services: () => Services | undefined,
  memory: Pick<MemoryGuard, 'refuses'>,
): Metrics {
  const registers = [new Registry()];
  collectDefaultMetrics({ register: registers[0] });
  const duration = new Histogram({
    name: 'http_request_duration_seconds',
    help: 'Time from the arrival of a request to the end of its answer.',
    labelNames: ['method', 'route', 'status'] as const,
    buckets: DURATION_BUCKETS,
    registers,
  });

  const gauge = (name: string, help: string, value: (s: Services) => number): void => {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        const ready = services();
        this.set(ready ? value(ready) : 0);
      },
    });
  };
  gauge('te_queue_size', 'Texts that wait for inference.', (s) => s.inference.stats().queuedTexts);
  gauge(
    'sentence_jepa_tokens_per_second',
    'Estimated, of the last batches: what Retry-After is reckoned from.',
    (s) => s.inference.stats().tokensPerSecond,
  );
  gauge('sentence_jepa_inference_workers', 'Inference threads.', (s) => s.inference.stats().workers);
  gauge('sentence_jepa_documents', 'Documents in the collection.', (s) => s.collection.info().documents);
  gauge('sentence_jepa_index_vectors', 'Vectors in the index.', (s) => s.collection.info().index.vectors);
  gauge('sentence_jepa_index_building', '1 while the index is built.', (s) =>
    Number(s.collection.info().index.building),
  );
  gauge(
    'sentence_jepa_search_recall_at_10',
    'recall@10 of the graph on the last sampled queries; NaN until measured, and where search is exact.',
    (s) => s.collection.info().index.recallAt10 ?? NaN,
  );
  gauge('sentence_jepa_ready', '1 when requests are served.', () => 1);
  gauge('sentence_jepa_memory_exceeded', '1 while work is refused because of --max-memory-mib.', () =>
    Number(memory.refuses),
  );
  new Gauge({
    name: 'sentence_jepa_queue_tokens',
    help: 'Estimated tokens that wait for inference.',
    labelNames: ['priority'] as const,
    registers,
    collect() {
      for (const [priority, tokens] of Object.entries(services()?.inference.stats().queuedTokens ?? {}))
        this.set({ priority }, tokens);
    },
  });
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
      name,
      help,
      registers,
      collect() {
        const ready = services();
        this.reset();
        if (ready) this.inc(value(ready));
      },
    });
  };
  counter(
    'sentence_jepa_vector_cache_hits_total',
    'Texts whose vectors were remembered.',
    (s) => s.inference.stats().cache?.hits ?? 0,
  );
  counter(
    'sentence_jepa_vector_cache_misses_total',
    'Texts whose vectors were not.',
    (s) => s.inference.stats().cache?.misses ?? 0,
  );
  gauge(
    'sentence_jepa_vector_cache_bytes',
    'Memory of remembered vectors.',
    (s) => s.inference.stats().cache?.bytes ?? 0,
  );

  trainingMetrics(registers, services);
  ingestMetrics(registers, services);
  return {
    observer: workMetrics(registers),
    observe: (method, route, status, seconds) => duration.observe({ method, route, status }, seconds),
    text: () => registers[0].metrics(),
    contentType: registers[0].contentType,
  };
}
