import type { Inference } from './batching/inference.js';
import type { Jobs } from './jobs/jobs.js';
import type { Maps } from './map/maps.js';
import type { TrainableCollection } from './search/collection.js';

/** What the routes work with, once the model is loaded and the collection is open. */
export interface Services {
  /** Of the live generation. */
  readonly inference: Inference;
  collection: TrainableCollection;
  jobs: Jobs;
  maps: Maps;
}
