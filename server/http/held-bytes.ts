import type express from 'express';

import { HttpError } from './errors.js';

/**
 * Counts bytes that one request holds, negative ones that it lets go.
 * @throws HttpError `overloaded` when others hold so many that these are too many
 */
export type CountBytes = (bytes: number) => void;

/**
 * Bytes of bodies that requests in flight hold, all together: a flood of large requests is refused before
 * it fills the memory.
 */
export class HeldBytes {
  private bytes = 0;

  constructor(private readonly most: number) {}

  /** Until the response is closed, what is not let go before. Alone, any request gets in. */
  counterFor(response: express.Response): CountBytes {
    let mine = 0;
    response.once('close', () => (this.bytes -= mine));
    return (bytes) => {
      if (response.closed) return;
      if (bytes > 0 && this.bytes > mine && this.bytes + bytes > this.most)
        throw new HttpError(
          'overloaded',
          `the bodies of requests in progress have ${this.bytes} bytes and this one would pass the limit of ${this.most}; send it again in a second`,
        );
      mine += bytes;
      this.bytes += bytes;
    };
  }
}
