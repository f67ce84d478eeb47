import { messageOf, UserError } from '../base/errors.js';
import type { Inference } from './batching/inference.js';
import type { Collection } from './search/collection.js';

/** Probes that come as close on each other as this share one answer. */
const FRESH_MS = 1_000;
const TEXT = 'Is anybody there?';

/**
 * Whether inference and search still answer: threads that hang in native code can't be replaced, the process can. A batch that was computed since the last check is proof enough; where there was
 * none, a short text goes through the queue, before everything else that may wait.
 */
export class HealthCheck {
  private batches = 0;
  private provenAt = -Infinity;
  private running: Promise<void> | undefined;

  /** @param seconds that a batch, or an answer of the search thread, may take before it counts as dead */
  constructor(private readonly seconds: number) {}

  /** @throws UserError `unavailable` when one of them does not answer within the time, or can't */
  async check(
    inference: Pick<Inference, 'encode' | 'stats'>,
    collection: Pick<Collection, 'answers'>,
  ): Promise<void> {
    await Promise.all([this.checkInference(inference), this.checkSearch(collection)]);
  }

  private async checkSearch(collection: Pick<Collection, 'answers'>): Promise<void> {
    const signal = AbortSignal.timeout(1000 * this.seconds);
    try {
      await collection.answers(signal);
    } catch (error) {
      const reason = signal.aborted ? `its thread did not within ${this.seconds} s` : messageOf(error);
      throw new UserError('unavailable', `search does not answer: ${reason}`, { cause: error });
    }
  }

  private async checkInference(inference: Pick<Inference, 'encode' | 'stats'>): Promise<void> {
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
