import type express from 'express';

import { HttpError } from './errors.js';

/** Requests that are read, wait or are worked on, all together. */
export class RequestsInProgress {
  private count = 0;

  constructor(private readonly most: number) {}

  /** Counts a request until its response is closed. @throws HttpError `overloaded` for one too many */
  enter(response: express.Response): void {
    if (response.closed) return;
    if (this.count >= this.most)
      throw new HttpError(
        'overloaded',
        `${this.count} requests are in progress, which is the limit (--max-requests); send it again in a second`,
      );
    this.count++;
    response.once('close', () => this.count--);
  }
}
