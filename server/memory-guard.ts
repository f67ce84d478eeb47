import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import { UserError } from '../base/errors.js';

const EVERY_MS = 1_000;
/** While memory stays above the limit, what can be given back is given back every so many samples. */
const FREE_EVERY = 10;

/** What a guard does beside refusing. */
export interface MemoryGuardOptions {
  /** Empties what can be computed again. */
  forget(): void;
  /** Of the process, in bytes. */
  residentBytes?: () => number;
  collectGarbage?: () => void;
}

/**
 * Keeps the process below the memory at which the system would kill it: above the limit caches are emptied, and when
 * that is not enough, new work is refused until it is.
 */
export class MemoryGuard {
  private samplesAbove = 0;
  private timer: NodeJS.Timeout | undefined;

  /** @param limit bytes; undefined: none */
  constructor(
    private readonly limit: number | undefined,
    private readonly options: MemoryGuardOptions,
  ) {}

  start(): void {
    if (this.limit !== undefined) this.timer = setInterval(() => this.sample(), EVERY_MS).unref();
  }

  stop(): void {
    clearInterval(this.timer);
  }

  get refuses(): boolean {
    return this.samplesAbove > 1;
  }

  /** @throws UserError `overloaded` */
  check(): void {
    if (this.refuses)
      throw new UserError(
        'overloaded',
        `the server is at its limit of memory (${Math.round(this.limit! / 2 ** 20)} MiB, --max-memory-mib); send it again in a few seconds`,
        { retryAfter: 5 },
      );
  }

  /** Reads the memory; by itself once a second. */
  sample(): void {
    const {
      forget,
      residentBytes = process.memoryUsage.rss,
      collectGarbage = collectAllGarbage,
    } = this.options;
    if (residentBytes() <= this.limit!) {
      this.samplesAbove = 0;
      return;
    }
    if (this.samplesAbove++ % FREE_EVERY > 0) return;
    forget();
    // Where no work comes in any more, nothing else makes V8 look for garbage.
    collectGarbage();
  }
}

function collectAllGarbage(): void {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
}
