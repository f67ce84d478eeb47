import type { WorkerModel } from '../../server/batching/pool.js';

/** What a worker that no model is loaded for says of it. */
export const WORKER_MODEL: WorkerModel = {
  name: 'fake',
  dimensions: 2,
  maxTokens: 8,
  fingerprint: 'f',
  folder: '/nowhere',
  pooling: 'mean',
  normalizes: true,
  backend: 'onnxruntime',
};
