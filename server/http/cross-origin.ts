import cors from 'cors';
import type express from 'express';

/**
 * Lets pages of other origins ask the server from a browser (CORS). There are no cookies to be sent: who may
 * is decided by the key alone.
 *
 * @param origins such as https://example.org, or * for every one
 */
export function crossOrigin(origins: readonly string[]): express.RequestHandler {
  return cors({
    origin: origins.includes('*') ? '*' : [...origins],
    methods: ['GET', 'HEAD', 'POST', 'PUT', 'DELETE'],
    exposedHeaders: ['X-Request-Id', 'X-Generation', 'Retry-After', 'RateLimit', 'RateLimit-Policy'],
    maxAge: 600,
  });
}
