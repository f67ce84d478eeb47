import { UserError } from '../../base/errors.js';
import type { Document } from '../search/collection.js';

/** PostgreSQL's text ends there. */
export const NUL = '\u0000';

/** Whether a text has a character that PostgreSQL's jsonb can't hold: NUL, or half of a surrogate pair. */
export function isStrange(text: string): boolean {
  return /[\0\p{Surrogate}]/u.test(text);
}

/**
 * A text with half of a surrogate pair is kept with U+FFFD in its place, as the embedded store keeps it.
 *
 * @throws UserError `invalid` for NUL in a document, and in its metadata for half of a surrogate pair as well
 */
export function checkCharacters({ id, text, metadata = {} }: Document): void {
  const name = JSON.stringify(id);
  if (id.includes(NUL) || text.includes(NUL))
    throw new UserError(
      'invalid',
      `document ${name}: expected a text without the character U+0000, which PostgreSQL can't hold; leave it out`,
    );
  for (const [field, value] of Object.entries(metadata))
    if (
      [field, ...(Array.isArray(value) ? value : [value])].some(
        (it) => typeof it === 'string' && isStrange(it),
      )
    )
      throw new UserError(
        'invalid',
        `document ${name}, metadata ${JSON.stringify(field)}: expected no U+0000 and no half of a surrogate pair, which PostgreSQL can't hold; leave it out`,
      );
}
