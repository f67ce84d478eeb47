import { createHash, timingSafeEqual } from 'node:crypto';

import { HttpError } from './errors.js';

const digest = (text: string): Buffer => createHash('sha256').update(text).digest();

/**
 * A check of the Authorization header against the server's keys, of which only digests are kept. It
 * takes the same time whichever key it is and however much of it is right. Without keys everybody may.
 *
 * @throws (from the check) HttpError `unauthorized`
 */
export function keyCheck(keys: readonly string[]): (authorization: string | undefined) => void {
  const digests = keys.map(digest);
  return (authorization) => {
    if (digests.length === 0) return;
    const headers = { 'WWW-Authenticate': 'Bearer' };
    const key = /^bearer +(\S+) *$/i.exec(authorization ?? '')?.[1];
    if (key === undefined)
      throw new HttpError(
        'unauthorized',
        `expected the header "Authorization: Bearer KEY", came ${authorization === undefined ? 'none' : 'another form'}`,
        { headers },
      );
    const sent = digest(key);
    let known = false;
    for (const digest of digests) known = timingSafeEqual(digest, sent) || known;
    if (!known)
      throw new HttpError('unauthorized', "expected one of the server's API keys, came an unknown one", {
        headers,
      });
  };
}
