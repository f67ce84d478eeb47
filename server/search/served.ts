import { UserError } from '../../base/errors.js';
import type { ServedGeneration } from './collection.js';

/**
 * The generation of a model's name, as requests spell it: exactly, or else by its last part.
 *
 * @param served the live one first
 * @throws UserError `not-found`, naming those that are served
 */
export function servedNamed(served: readonly ServedGeneration[], model: string): ServedGeneration {
  const named =
    served.find((each) => each.model === model) ??
    served.find((each) => lastSegment(each.model) === lastSegment(model));
  if (named) return named;
  const names = served.map((each) => JSON.stringify(each.model)).join(' or ');
  const which = served.length > 1 ? 'the models that are served' : 'the model that is served';
  throw new UserError('not-found', `model: expected ${names}, ${which}, came ${JSON.stringify(model)}`);
}

/** "sentence-transformers/all-MiniLM-L6-v2" and "all-MiniLM-L6-v2" are the same model. */
function lastSegment(name: string): string {
  return name.slice(name.lastIndexOf('/') + 1);
}

/** Why a model can't answer for vectors that another one made. */
export function fingerprintMismatch(
  live: { model: string; fingerprint: string },
  model: { name: string; fingerprint: string },
): UserError {
  return new UserError(
    'fingerprint-mismatch',
    `the collection's vectors were made by ${live.model} (${live.fingerprint.slice(0, 12)}), the model is ${model.name} (${model.fingerprint.slice(0, 12)}), and vectors of two encoders can't be compared. Start with --reembed to embed the collection with ${model.name}, or with --model ${live.model} and the --precision of then`,
  );
}
