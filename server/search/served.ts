import { UserError } from '../../base/errors.js';
import type { ServedGeneration } from './collection.js';

/**
 * The generation of a model's name, as requests spell it.
 *
 * @param served the live one first
 * @throws UserError `not-found`, naming those that are served
 */
export function servedNamed(served: readonly ServedGeneration[], model: string): ServedGeneration {
  const named = served.find((each) => lastSegment(each.model) === lastSegment(model));
  if (named) return named;
  const names = served.map((each) => JSON.stringify(each.model)).join(' or ');
  const which = served.length > 1 ? 'the models that are served' : 'the model that is served';
  throw new UserError('not-found', `model: expected ${names}, ${which}, came ${JSON.stringify(model)}`);
}

/** "sentence-transformers/all-MiniLM-L6-v2" and "all-MiniLM-L6-v2" are the same model. */
function lastSegment(name: string): string {
  return name.slice(name.lastIndexOf('/') + 1);
}
