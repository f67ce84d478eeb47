import { UserError } from '../../base/errors.js';
import type { Document } from './collection.js';

/** @throws UserError `empty` for a text with nothing but white space, `invalid` for what is no text */
export function checkText(text: unknown, what: string): string {
  if (typeof text !== 'string')
    throw new UserError('invalid', `${what}: expected a string, found ${typeof text}`);
  if (text.trim() === '') throw new UserError('empty', `${what}: expected a text, found an empty one`);
  return text;
}

/** @throws UserError `invalid` unless k is a whole number from 1 up */
export function checkK(k: unknown, what: string): number {
  if (!Number.isSafeInteger(k) || (k as number) < 1)
    throw new UserError('invalid', `${what}: expected a whole number from 1 up, found ${String(k)}`);
  return k as number;
}

/** @throws UserError `invalid` unless it is a number that a cosine can be */
export function checkThreshold(threshold: unknown): number {
  if (typeof threshold !== 'number' || !(threshold >= -1 && threshold <= 1))
    throw new UserError('invalid', `threshold: expected a cosine, -1 to 1, found ${String(threshold)}`);
  return threshold;
}

/** @throws UserError `invalid` unless it is a number from 0 to 1 */
export function checkWeight(weight: unknown): number {
  if (typeof weight !== 'number' || !(weight >= 0 && weight <= 1))
    throw new UserError('invalid', `lexical_weight: expected a number from 0 to 1, found ${String(weight)}`);
  return weight;
}

/** @throws UserError `invalid` or `empty`, naming the document */
export function checkDocuments(documents: readonly Document[]): void {
  const ids = new Set<string>();
  documents.forEach((document, i) => {
    const { id, text, metadata } = document;
    if (typeof id !== 'string' || id === '')
      throw new UserError('invalid', `document ${i + 1} of ${documents.length}: expected an id`);
    if (Buffer.from(id).toString() !== id)
      throw new UserError(
        'invalid',
        `document ${i + 1} of ${documents.length}: expected an id that UTF-8 can hold, found ${JSON.stringify(id)}`,
      );
    if (ids.has(id))
      throw new UserError('invalid', `document ${JSON.stringify(id)} occurs twice: an id names one document`);
    ids.add(id);
    checkText(text, `document ${JSON.stringify(id)}`);
    if (metadata !== undefined) checkMetadata(id, metadata);
  });
}

function checkMetadata(id: string, metadata: unknown): void {
  if (typeof metadata !== 'object' || metadata === null || Array.isArray(metadata))
    throw new UserError('invalid', `document ${JSON.stringify(id)}: expected metadata to be an object`);
  for (const [field, value] of Object.entries(metadata))
    if (!isFlat(value))
      throw new UserError(
        'invalid',
        `document ${JSON.stringify(id)}, metadata ${JSON.stringify(field)}: expected a string, a finite number, a boolean, null or a list of strings`,
      );
}

function isFlat(value: unknown): boolean {
  return (
    value === null ||
    typeof value === 'string' ||
    typeof value === 'boolean' ||
    Number.isFinite(value) ||
    (Array.isArray(value) && value.every((item) => typeof item === 'string'))
  );
}
