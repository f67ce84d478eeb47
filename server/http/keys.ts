import { createHash, timingSafeEqual } from 'node:crypto';

import { UserError } from '../../base/errors.js';
import { HttpError } from './errors.js';

/** What a key is for; each may do what those before it may. */
export const SCOPES = ['read', 'write', 'admin'] as const;
export type Scope = (typeof SCOPES)[number];

const digest = (text: string): Buffer => createHash('sha256').update(text).digest();

/** `read:KEY` may read, `write:KEY` may change the collection too, `admin:KEY` and KEY alone may do all. */
function parseKey(text: string): { scope: Scope; digest: Buffer } {
  const [, scope = 'admin', key = text] = /^(read|write|admin):(.+)$/.exec(text) ?? [];
  return { scope: scope as Scope, digest: digest(key) };
}

/**
 * For a key as it is given at start: in a header, none with a space or a letter beyond ASCII would be the same.
 *
 * @param source where it came from, which the message has instead of it
 * @throws UserError `usage`
 */
export function checkKey(key: string, source: string): void {
  if (!/^[\x21-\x7e]+$/.test(key))
    throw new UserError(
      'usage',
      `${source}: expected an API key of ASCII letters, digits and punctuation, without spaces, came one that no request could carry`,
    );
  // As of a variable that is not set: it would be a key for all, which is "read:".
  if (SCOPES.some((scope) => key === `${scope}:`))
    throw new UserError('usage', `${source}: expected a key behind ${key}, came none`);
}

/**
 * A check of the Authorization header against the server's keys, of which only digests are kept. It
 * takes the same time whichever key it is and however much of it is right. Without keys everybody may.
 * It returns who asks: the digest of the key, undefined without keys.
 *
 * @param keys as they are given at start: KEY, read:KEY, write:KEY or admin:KEY
 * @throws (from the check) HttpError `unauthorized`, or `forbidden` for a key whose scope is too small
 */
export function keyCheck(
  keys: readonly string[],
): (authorization: string | undefined, scope: Scope) => string | undefined {
  const known = keys.map(parseKey);
  return (authorization, wanted) => {
    if (known.length === 0) return undefined;
    const headers = { 'WWW-Authenticate': 'Bearer' };
    const key = /^bearer +(\S+) *$/i.exec(authorization ?? '')?.[1];
    if (key === undefined)
      throw new HttpError(
        'unauthorized',
        `expected the header "Authorization: Bearer KEY", came ${authorization === undefined ? 'none' : 'another form'}`,
        { headers },
      );
    const sent = digest(key);
    let scope = -1;
    for (const one of known)
      if (timingSafeEqual(one.digest, sent)) scope = Math.max(scope, SCOPES.indexOf(one.scope));
    if (scope < 0)
      throw new HttpError('unauthorized', "expected one of the server's API keys, came an unknown one", {
        headers,
      });
    if (scope < SCOPES.indexOf(wanted))
      throw new HttpError(
        'forbidden',
        `expected an API key that may ${wanted}, came one that may ${SCOPES[scope]}`,
      );
    return sent.toString('hex');
  };
}
