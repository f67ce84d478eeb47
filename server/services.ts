import type { Inference } from './batching/inference.js';
import type { Collection } from './search/collection.js';

/** What the routes work with, once the model is loaded and the collection is open. */
export interface Services {
  inference: Inference;
  collection: Collection;
}
