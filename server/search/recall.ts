import type { Scored } from './vectors.js';

/** Recall is that of the ten nearest. */
export const RECALL_K = 10;
/** Sampled queries that are remembered, with their vectors. */
const SAMPLES = 300;
/** A mean of fewer says nothing yet. */
const ENOUGH_SAMPLES = 50;
/** Cosines that differ by less are equal: exact search and a plain loop round differently. */
const TIE = 1e-5;

/**
 * Share of the exact nearest that was found. What is as near as the last of them counts like it: between
 * equal vectors no ranking decides.
 *
 * @param found with exact cosines
 */
export function recallOf(exact: readonly Scored[], found: readonly Scored[]): number {
  if (exact.length === 0) return 1;
  const least = exact[exact.length - 1].score - TIE;
  return Math.min(1, found.filter(({ score }) => score >= least).length / exact.length);
}

export interface RecallSample {
  query: Float32Array;
  recall: number;
}

/** The recall of the last sampled queries. */
export class RecallSamples {
  private samples: RecallSample[] = [];

  add(sample: RecallSample): void {
    if (this.samples.length === SAMPLES) this.samples.shift();
    this.samples.push(sample);
  }

  /** What was measured of another graph, or with another ef, says nothing of this one. */
  replace(samples: RecallSample[]): void {
    this.samples = samples;
  }

  /** The latest, `limit` at most. */
  queries(limit: number): Float32Array[] {
    return this.samples.slice(-limit).map(({ query }) => query);
  }

  /** undefined until there are enough samples. */
  get mean(): number | undefined {
    const n = this.samples.length;
    return n < ENOUGH_SAMPLES ? undefined : this.samples.reduce((sum, { recall }) => sum + recall, 0) / n;
  }
}

/** Lets something that is not urgent have a share of the time. */
export class Pace {
  private next = 0;

  /** @param share 1 for all of it */
  constructor(private readonly share: number) {}

  get isTime(): boolean {
    return performance.now() >= this.next;
  }

  /** Does it, and waits by its share. */
  run(work: () => void): void {
    const begin = performance.now();
    work();
    const end = performance.now();
    this.next = end + (end - begin) * (1 / this.share - 1);
  }
}
