import { setPriority } from 'node:os';
import { parentPort, Worker } from 'node:worker_threads';

import { messageOf, UserError, type ErrorKind } from '../base/errors.js';

/** As `nice` counts it, 0 to 19: of what gives way to requests. */
export const BACKGROUND_NICE = 15;

/**
 * Lets this thread, and those that it starts from here on, give way to others; for good, since going back up is for root
 * alone. Only Linux has priorities of threads; elsewhere it would be the whole process's.
 */
export function giveWay(): void {
  if (process.platform === 'linux') setPriority(0, BACKGROUND_NICE);
}

/** What a handler in a thread knows of the call it answers. */
export interface CallContext {
  signal: AbortSignal;
  /** Buffers of the answer that are moved to the caller instead of copied. */
  transfer: ArrayBuffer[];
}

/** The calls a thread answers, by name; one argument each, so that it crosses as one message. */
export type Handlers = Record<string, (input: never, context: CallContext) => unknown>;

type Input<H extends Handlers, K extends keyof H> = Parameters<H[K]>[0];
type Output<H extends Handlers, K extends keyof H> = Awaited<ReturnType<H[K]>>;

type ToThread = { call: number; name: string; input: unknown } | { cancel: number };
type FromThread =
  { call: number; output: unknown } | { call: number; error: ThreadError } | { event: unknown };

/** An error's parts that survive a message: structured cloning drops the class and the kind. */
interface ThreadError {
  kind?: ErrorKind;
  name: string;
  message: string;
  stack?: string;
}

function packError(error: unknown): ThreadError {
  return {
    ...(error instanceof UserError && { kind: error.kind }),
    name: error instanceof Error ? error.name : 'Error',
    message: messageOf(error),
    ...(error instanceof Error && { stack: error.stack }),
  };
}

function unpackError(packed: ThreadError): Error {
  if (packed.kind) return new UserError(packed.kind, packed.message);
  const error = new Error(packed.message);
  error.name = packed.name;
  error.stack = packed.stack;
  return error;
}

/** A worker thread that answers calls. `H` is the type of the object that it passes to `answerCalls`. */
export class Thread<H extends Handlers> {
  private readonly worker: Worker;
  private readonly waiting = new Map<number, Waiting>();
  private lastCall = 0;
  private stopped: UserError | undefined;
  /** Resolves when the thread is gone, with the reason; every open call has been rejected with it. */
  readonly ended: Promise<UserError>;

  /** @param what what the thread does, for messages: "inference" */
  constructor(
    script: URL,
    private readonly what: string,
    options: { workerData?: unknown; onEvent?: (event: unknown) => void } = {},
  ) {
    this.worker = new Worker(script, { workerData: options.workerData });
    this.worker.on('message', (message: FromThread) => {
      if ('event' in message) return options.onEvent?.(message.event);
      const waiting = this.waiting.get(message.call);
      if ('error' in message) waiting?.reject(unpackError(message.error));
      else waiting?.resolve(message.output);
    });
    let cause: unknown;
    this.worker.on('error', (error) => (cause = error));
    this.ended = new Promise((resolve) => {
      this.worker.once('exit', (code) => {
        const reason = cause === undefined ? `exit code ${code}` : messageOf(cause);
        resolve(this.stop(reason, cause));
      });
    });
  }

  private stop(reason: string, cause?: unknown): UserError {
    this.stopped ??= new UserError('backend', `the ${this.what} thread stopped: ${reason}`, { cause });
    for (const waiting of this.waiting.values()) waiting.reject(this.stopped);
    return this.stopped;
  }

  /** @throws what the handler threw; UserError `backend` when the thread died; the signal's reason */
  async call<K extends keyof H & string>(
    name: K,
    input: Input<H, K>,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<Output<H, K>> {
    signal?.throwIfAborted();
    if (this.stopped) throw this.stopped;
    const call = ++this.lastCall;
    let cancel: (() => void) | undefined;
    try {
      return await new Promise<Output<H, K>>((resolve, reject) => {
        this.waiting.set(call, { resolve: resolve as (output: unknown) => void, reject });
        cancel = (): void => {
          this.worker.postMessage({ cancel: call } satisfies ToThread);
          reject(signal?.reason);
        };
        signal?.addEventListener('abort', cancel, { once: true });
        this.worker.postMessage({ call, name, input } satisfies ToThread);
      });
    } finally {
      this.waiting.delete(call);
      if (cancel) signal?.removeEventListener('abort', cancel);
    }
  }

  /** Whether it answers no more, and never will. */
  get hasStopped(): boolean {
    return this.stopped !== undefined;
  }

  /** Rejects the open calls at once; resolves when the thread is gone, which one that hangs in native code never is. */
  async terminate(): Promise<void> {
    this.stop('it was told to');
    await this.worker.terminate();
    await this.ended;
  }
}

interface Waiting {
  resolve(output: unknown): void;
  reject(error: unknown): void;
}

class RunningCall implements CallContext {
  readonly transfer: ArrayBuffer[] = [];
  private controller: AbortController | undefined;

  /** Made when it is asked for: most calls are over before anybody could cancel them. */
  get signal(): AbortSignal {
    return (this.controller ??= new AbortController()).signal;
  }

  cancel(): void {
    (this.controller ??= new AbortController()).abort();
  }
}

/** In the thread: answers calls until the thread ends. Handlers may overlap where they await. */
export function answerCalls(handlers: Handlers): void {
  const port = parentPort;
  if (!port) throw new Error('answerCalls runs in a worker thread');
  const running = new Map<number, RunningCall>();
  port.on('message', (message: ToThread) => {
    if ('cancel' in message) return running.get(message.cancel)?.cancel();
    const { call, name, input } = message;
    const context = new RunningCall();
    running.set(call, context);
    void (async () => {
      try {
        const output = await handlers[name](input as never, context);
        port.postMessage({ call, output } satisfies FromThread, context.transfer);
      } catch (error) {
        port.postMessage({ call, error: packError(error) } satisfies FromThread);
      } finally {
        running.delete(call);
      }
    })();
  });
}

/** In the thread: tells the main thread something that no call asked for. */
export function emitEvent(event: unknown): void {
  parentPort?.postMessage({ event } satisfies FromThread);
}
