import { UserError } from '../../base/errors.js';
import type { Priority } from './inference.js';

/** Bulk work may wait longer than what somebody looks at, and one request of it is large. */
const BULK_SHARE = 4;
/** How much of what was measured still counts after another batch: that of about the last twenty. */
const DECAY = 0.95;

/** Of work, so many seconds are a stretch, whose speed is one of so many that are known. */
const STRETCH_SECONDS = 0.25;
const STRETCHES = 20;
/** How many of them may be slower than what is counted on: one is an accident. */
const SLOWER = 1;

export interface QueueLimits {
  /** Estimated tokens that interactive requests may have waiting, for the sake of memory; bulk ones four times as many. */
  tokens: number;
  /** How long an interactive request may have to wait, by a speed that can be counted on: it varies within seconds. */
  seconds: number;
}

/**
 * Decides what may wait. Each priority has an allowance of estimated tokens of its own, so that bulk work never keeps
 * short requests out; what is refused is told when there will be room, from the speed of the last batches.
 */
export class Admission {
  private tokens = 0;
  private seconds = 0;
  private stretch = { tokens: 0, seconds: 0 };
  /** Estimated tokens a second of a worker, the latest stretch last. */
  private readonly speeds: number[] = [];
  /** That nearly all of them reach. */
  private slowSpeed = Infinity;

  constructor(private readonly limits: QueueLimits) {}

  /** A worker took so long for a batch of so many estimated tokens. */
  measured(tokens: number, seconds: number): void {
    this.tokens = DECAY * this.tokens + tokens;
    this.seconds = DECAY * this.seconds + seconds;
    this.stretch.tokens += tokens;
    this.stretch.seconds += seconds;
    if (this.stretch.seconds < STRETCH_SECONDS) return;
    this.speeds.push(this.stretch.tokens / this.stretch.seconds);
    if (this.speeds.length > STRETCHES) this.speeds.shift();
    this.slowSpeed = this.speeds.toSorted((a, b) => a - b).at(SLOWER) ?? Infinity;
    this.stretch = { tokens: 0, seconds: 0 };
  }

  /** Estimated tokens a second of so many workers; 0 before anything was measured. */
  rate(workers: number): number {
    return this.seconds > 0 ? (workers * this.tokens) / this.seconds : 0;
  }

  /**
   * A request larger than the allowance gets in when nothing of its priority waits: its size is the caller's to limit.
   *
   * @param tokens of the request
   * @param waiting tokens that wait already
   * @param underway tokens that are computed: what comes waits for them, too
   * @throws UserError `overloaded` when it would wait behind too many
   */
  check(
    priority: Priority,
    tokens: number,
    waiting: Readonly<Record<Priority, number>>,
    workers: number,
    underway = 0,
  ): void {
    const { allowed, option } = this.allowance(priority, workers, underway);
    const ahead = waiting[priority];
    if (ahead === 0 || ahead + tokens <= allowed) return;
    const tooMany = Math.min(ahead, ahead + tokens - allowed);
    // Interactive requests go first.
    const before = tooMany + (priority === 'bulk' ? waiting.interactive : 0);
    const rate = this.rate(workers);
    const retryAfter = rate > 0 ? Math.max(1, Math.ceil(before / rate)) : 1;
    throw new UserError(
      'overloaded',
      `about ${ahead} tokens are waiting and ${tokens} more would pass the limit of ${allowed} for ${priority} requests (${option}); send it again in ${retryAfter} s`,
      { retryAfter },
    );
  }

  private allowance(
    priority: Priority,
    workers: number,
    underway: number,
  ): { allowed: number; option: string } {
    const { tokens, seconds } = this.limits;
    if (priority === 'bulk') return { allowed: BULK_SHARE * tokens, option: '--max-queue-tokens' };
    const rate = Math.min(this.rate(workers), workers * this.slowSpeed);
    const inTime = rate > 0 ? Math.max(0, Math.floor(seconds * rate) - underway) : Infinity;
    return inTime < tokens
      ? { allowed: inTime, option: `--max-queue-seconds ${seconds}` }
      : { allowed: tokens, option: '--max-queue-tokens' };
  }
}
