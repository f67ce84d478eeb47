import type express from 'express';

import { HttpError } from './errors.js';

/**
 * Bytes of bodies that requests in flight hold, all together: a flood of large requests is refused before
 * it fills the memory.
 */
export class HeldBytes {
  private bytes = 0;

  constructor(private readonly most: number) {}

  /**
   * @returns a function that counts bytes of one request, until its response is closed; it throws HttpError
   *   `overloaded` when others hold so many that these are too many. Alone, any request gets in.
   */
  counterFor(response: express.Response): (bytes: number) => void {
    let mine = 0;
    response.once('close', () => (this.bytes -= mine));
    return (bytes) => {
      if (response.closed) return;
      if (this.bytes > mine && this.bytes + bytes > this.most)
        throw new HttpError(
          'overloaded',
          `the bodies of requests in progress have ${this.bytes} bytes and this one would pass the limit of ${this.most}; send it again in a second`,
        );
      mine += bytes;
      this.bytes += bytes;
    };
  }
}
