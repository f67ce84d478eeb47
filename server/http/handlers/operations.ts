import { messageOf } from '../../../base/errors.js';
import { version } from '../../../base/paths.js';
import type { Metrics } from '../../metrics.js';
import { oneTextBytes } from '../body.js';
import { docsHtml } from '../docs.js';
import { generationFor, type Handlers } from '../handler.js';
import { sendPages } from '../pages.js';
import { specText } from '../spec.js';

export function operationHandlers(around: {
  metrics: Metrics;
  health(): Promise<void>;
}): Handlers<'info' | 'health' | 'ready' | 'metrics' | 'openapi' | 'docs' | 'home'> {
  return {
    info(call) {
      const { limits, services } = call;
      const { id: generation, inference } = generationFor(call);
      const { documents, index: counted } = services.collection.info();
      const { recallAt10, ...index } = counted;
      const { workers, threadsPerWorker } = inference.stats();
      return {
        model_id: inference.name,
        generation,
        model_dtype: inference.precision,
        backend: inference.backend,
        model_type: { embedding: { pooling: inference.pooling } },
        ...(inference.cosineToFp32 !== undefined && { cosine_to_fp32: inference.cosineToFp32 }),
        fingerprint: inference.fingerprint,
        dimensions: inference.dimensions,
        max_input_length: inference.maxTokens,
        max_client_batch_size: limits.texts,
        auto_truncate: true,
        documents,
        index: { ...index, recall_at_10: recallAt10 },
        training: { presets: [...services.jobs.presets] },
        inference: { workers, threads_per_worker: threadsPerWorker },
        limits: {
          max_texts: limits.texts,
          max_text_characters: limits.characters,
          max_body_bytes: limits.bytes,
          max_one_text_body_bytes: oneTextBytes(limits),
        },
        version,
      };
    },

    async health({ request }) {
      try {
        await around.health();
      } catch (error) {
        // Probes are left out of the log; one that fails is what an operator looks for.
        request.log.error({ reason: messageOf(error) }, 'not healthy');
        throw error;
      }
      return { status: 'ok' };
    },

    // Where it is not, the request has not come this far.
    ready: () => ({ status: 'ready' }),

    async metrics({ response }) {
      response.set('Content-Type', around.metrics.contentType).send(await around.metrics.text());
      return undefined;
    },

    openapi({ response }) {
      response.type('application/yaml').send(specText);
      return undefined;
    },

    docs({ response }) {
      response.type('html').send(docsHtml);
      return undefined;
    },

    async home({ request, response }) {
      await sendPages(request, response);
      return undefined;
    },
  };
}
