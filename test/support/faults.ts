import { BroadcastChannel, isMainThread } from 'node:worker_threads';

/**
 * Loaded before everything else (`node --import`) into every thread of a server that is to be tried: makes a thread end
 * or hang, and the clock jump. Told by messages on a channel that all threads of the process hear.
 */
export type Fault =
  | { thread: 'search' | 'batching'; fault: 'end' | 'hang' }
  /** Milliseconds that the system's clock is wrong by, from now on. */
  | { clock: number };

const channel = new BroadcastChannel('faults');
let offset = 0;

const SystemDate = Date;
globalThis.Date = class extends SystemDate {
  constructor(...parts: unknown[]) {
    if (parts.length === 0) super(SystemDate.now() + offset);
    else super(...(parts as [number]));
  }
  static override now(): number {
    return SystemDate.now() + offset;
  }
} as DateConstructor;

channel.onmessage = (event: unknown) => {
  const fault = (event as { data: Fault }).data;
  if ('clock' in fault) {
    offset = fault.clock;
    return;
  }
  const script = process.argv[1] ?? '';
  if (isMainThread || !script.endsWith(`server/${fault.thread}/worker.js`)) return;
  if (fault.fault === 'end') process.exit(9);
  // Until the thread is terminated.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
};
(channel as unknown as { unref(): void }).unref();

/** In the main thread: lets it happen in all threads. */
export function tell(fault: Fault): void {
  channel.postMessage(fault);
  // A channel does not hear itself.
  if ('clock' in fault) offset = fault.clock;
}
