import { messageOf, UserError } from '../base/errors.js';
import type { Inference } from './batching/inference.js';

/** Probes that come as close on each other as this share one answer. */
const FRESH_MS = 1_000;
const TEXT = 'Is anybody there?';

/**
 * Whether inference still answers. A batch that was computed since the last check is proof enough; where there was
 * none, a short text goes through the queue, before everything else that may wait.
 */
export class HealthCheck {
  private batches = 0;
  private provenAt = -Infinity;
  private running: Promise<void> | undefined;

  /** @param seconds that a batch may take before inference counts as dead */
  constructor(private readonly seconds: number) {}

  /** @throws UserError `unavailable` when no batch is computed within the time, or none can be */
  async check(inference: Pick<Inference, 'encode' | 'stats'>): Promise<void> {
    if (inference.stats().batches !== this.batches) return this.pass(inference);
    if (performance.now() - this.provenAt < FRESH_MS) return;
    this.running ??= this.prove(inference).finally(() => (this.running = undefined));
    await this.running;
  }

  private async prove(inference: Pick<Inference, 'encode' | 'stats'>): Promise<void> {
    const signal = AbortSignal.timeout(1000 * this.seconds);
    try {
      await inference.encode([TEXT], { probe: true, signal });
    } catch (error) {
      // It waited in vain, but others did not.
      if (signal.aborted && inference.stats().batches !== this.batches) return this.pass(inference);
      const reason = signal.aborted ? `nothing was computed within ${this.seconds} s` : messageOf(error);
      throw new UserError('unavailable', `inference does not answer: ${reason}`, { cause: error });
    }
    this.pass(inference);
  }

  private pass(inference: Pick<Inference, 'stats'>): void {
    this.batches = inference.stats().batches;
    this.provenAt = performance.now();
  }
}
