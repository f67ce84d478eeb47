import { Counter, Gauge, type Registry } from 'prom-client';

import type { Services } from './services.js';

/** What is told of documents that are embedded behind the answer. Nothing where the collection has no queue. */
export function ingestMetrics(registers: Registry[], services: () => Services | undefined): void {
  new Gauge({
    name: 'sentence_jepa_ingest_jobs',
    help: 'Batches of documents to embed: that wait for a worker, that one has, and that were given up in the last day. The same from every process.',
    labelNames: ['state'] as const,
    registers,
    async collect() {
      this.reset();
      const counts = await services()
        ?.collection.ingests?.counts()
        // PostgreSQL is away: better no sample than a queue that looks empty.
        .catch(() => undefined);
      for (const [state, n] of Object.entries(counts ?? {}))
        this.set({ state: state as keyof typeof counts }, n);
    },
  });
  new Counter({
    name: 'sentence_jepa_ingested_documents_total',
    help: 'Documents from the queue that this process has embedded and stored.',
    registers,
    collect() {
      this.reset();
      this.inc(services()?.collection.ingests?.ingested ?? 0);
    },
  });
}
