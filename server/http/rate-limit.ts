import type express from 'express';
import { ipKeyGenerator, rateLimit } from 'express-rate-limit';

import type { RateLimit } from '../config.js';
import { HttpError } from './errors.js';

/**
 * Counts a request of a client, and sets the headers RateLimit and RateLimit-Policy (IETF
 * draft-ietf-httpapi-ratelimit-headers-08).
 * @param client what the key check found; undefined where there are no keys: then it is the address
 * @throws HttpError `rate-limited` for one too many
 */
export type CountRequest = (
  request: express.Request,
  response: express.Response,
  client: string | undefined,
) => Promise<void>;

/** So many requests of each client in so many seconds, which begin with its first one. */
export function rateLimiter({ requests, seconds }: RateLimit): CountRequest {
  const clients = new WeakMap<express.Request, string>();
  const count = rateLimit({
    limit: requests,
    windowMs: seconds * 1000,
    standardHeaders: 'draft-8',
    legacyHeaders: false,
    keyGenerator: (request) => clients.get(request)!,
    handler(_request, response, next) {
      const wait = String(response.getHeader('Retry-After'));
      const message = `expected at most ${requests} requests a ${seconds === 1 ? 'second' : 'minute'} (--rate-limit), came more; send it again in ${wait} s`;
      next(new HttpError('rate-limited', message, { headers: { 'Retry-After': wait } }));
    },
    // It would tell the console, not the log, about headers of proxies that are not looked at here.
    validate: false,
  });
  return (request, response, client) =>
    new Promise((resolve, reject) => {
      clients.set(request, client ?? ipKeyGenerator(request.socket.remoteAddress ?? ''));
      count(request, response, (error?: unknown) => (error ? reject(error as Error) : resolve()));
    });
}
