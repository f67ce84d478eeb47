import { isIP } from 'node:net';

import type express from 'express';

import { isLoopback, type ServerConfig } from '../config.js';
import { HttpError } from './errors.js';

/** name:port, or [address]:port. */
const HOST = /^(?:\[([^\]]*)\]|([^:]*))(?::\d*)?$/;

/**
 * For a server without keys on a loopback address, which any page in a browser on this machine could ask if its own name led
 * here (DNS rebinding): the browser would take both for one origin. So such a server goes by no other name than localhost,
 * what it listens on, and those that it was given. An address can't be made to lead elsewhere.
 *
 * @returns undefined where the check is not needed
 * @throws (from the check) HttpError `forbidden`
 */
export function hostCheck({
  host,
  apiKeys,
  allowedHosts = [],
}: Pick<ServerConfig, 'host' | 'apiKeys' | 'allowedHosts'>): express.RequestHandler | undefined {
  if (apiKeys.length > 0 || !isLoopback(host)) return undefined;
  const known = new Set(['localhost', host, ...allowedHosts].map((name) => name.toLowerCase()));
  return ({ headers }, _response, next) => {
    // What has none is no browser; `checkHead` looks to the rest.
    if (headers.host === undefined) return next();
    const [, address, name = ''] = HOST.exec(headers.host.toLowerCase()) ?? [];
    if (address === undefined ? isIP(name) !== 0 || known.has(name.replace(/\.$/, '')) : isIP(address) !== 0)
      return next();
    throw new HttpError(
      'forbidden',
      `the header Host: expected ${[...known].join(', ')} or an address, came ${JSON.stringify(headers.host)}; ` +
        'a server without API keys answers to no other name: start it with --allow-host NAME, or with --api-key',
    );
  };
}
