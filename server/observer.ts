import type { UserError } from '../base/errors.js';
import type { Priority } from './batching/inference.js';
import type { SearchMode } from './search/collection.js';

/** One call of `encode` that reached the encoder. Times are milliseconds, moments as performance.now() counts them. */
export interface EncodeTiming {
  texts: number;
  priority: Priority;
  start: number;
  end: number;
  /** When the first of its texts went to a worker; undefined when none did. */
  dispatched?: number;
  /** Means over its texts: waiting, in the tokenizer, in the model. */
  queue: number;
  tokenize: number;
  inference: number;
  /** Why it failed. */
  error?: unknown;
}

/** One search, its query's embedding left out. */
export interface SearchTiming {
  mode: SearchMode;
  start: number;
  end: number;
}

/** Is told of work that was done, in the asynchronous context of the request that it was done for. */
export interface Observer {
  encoded(timing: EncodeTiming): void;
  /** A batch was computed, of texts with so many tokens each; it belongs to no single request. */
  batch(batch: { lengths: readonly number[] }): void;
  /** An inference thread died or hung, and another one takes its place. */
  workerLost(reason: UserError): void;
  /** One could not be started, and is tried again in so many milliseconds. */
  workerNotStarted(reason: UserError, again: number): void;
  searched(timing: SearchTiming): void;
}

/** Tells all of them. */
export function observers(all: readonly Partial<Observer>[]): Observer {
  return {
    encoded: (timing) => all.forEach((each) => each.encoded?.(timing)),
    batch: (size) => all.forEach((each) => each.batch?.(size)),
    workerLost: (reason) => all.forEach((each) => each.workerLost?.(reason)),
    workerNotStarted: (...what) => all.forEach((each) => each.workerNotStarted?.(...what)),
    searched: (timing) => all.forEach((each) => each.searched?.(timing)),
  };
}
