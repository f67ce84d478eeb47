import type { Priority } from './inference.js';

/** What the queue needs to know of a request: what is done with its texts, and the cost of each. */
export interface QueuedRequest {
  readonly task: string;
  readonly priority: Priority;
  /** Estimated tokens of each text. */
  readonly costs: ArrayLike<number>;
}

/** One text of one request. */
export interface QueuedText<R> {
  request: R;
  /** The text's place in its request. */
  index: number;
}

interface Waiting<R> {
  request: R;
  /** Places of its texts, cheapest last: taken from the end, so that a batch has texts of like length. */
  order: number[];
  /** Estimated tokens of all that waits of it. */
  tokens: number;
  /** When its portion is due, by the clock of its line. */
  due: number;
  /** Estimated tokens of its portion that wait. */
  portion: number;
}

/** The requests of a priority. */
interface Line<R> {
  /** The soonest due first. */
  readonly waiting: Waiting<R>[];
  /** Estimated tokens that were taken of it. */
  clock: number;
}

/** The share of a batch below which portions count alike: among short texts the shorter ones do not pass the others. */
const LEAST = 1 / 8;

/** The share of a batch up to which a rest comes along: of its own it would be a small batch, and those it is of wait for another. */
const REST = 1 / 8;

/** How many times its tokens are done until a portion is due: more, and small requests pass more of what came before them. */
const DUE_AFTER = 8;

/** Bulk work gets a batch after this many interactive ones in a row, so that it is slow but never stuck. */
const INTERACTIVE_IN_A_ROW = 8;

/**
 * Which texts go into the next batch. Interactive requests come before bulk ones, and never share a batch with them. With all
 * texts of a batch the same is done.
 *
 * Requests of one priority are served in portions of at most a batch, the earliest due first. A portion is due when eight times
 * its tokens have been done since its request came, or since the portion before was due. So a small request passes large ones,
 * and one of thousands of texts makes nobody wait for more than a portion. Nothing passes a portion that comes when it is due:
 * under load a request waits for what was there before it, which is what admission limits, and for what takes eight times as long
 * as itself at most. (By fair queueing each would have a like share, and wait as much longer than the others as it is larger.)
 * Requests of one size are done in the order in which they came.
 */
export class BatchQueue<R extends QueuedRequest> {
  private readonly lines: Record<Priority, Line<R>> = {
    interactive: { waiting: [], clock: 0 },
    bulk: { waiting: [], clock: 0 },
  };
  private interactiveInARow = 0;
  private count = 0;
  private readonly tokens: Record<Priority, number> = { interactive: 0, bulk: 0 };

  /** @param budget estimated tokens in a batch, but for a rest that comes along; a text beyond it is a batch of its own */
  constructor(private readonly budget: number) {}

  /** Texts waiting. */
  get size(): number {
    return this.count;
  }

  /** Estimated tokens waiting. */
  get waiting(): Readonly<Record<Priority, number>> {
    return this.tokens;
  }

  add(request: R): void {
    const { costs, priority } = request;
    const order = Array.from({ length: costs.length }, (_, i) => i).sort(
      (a, b) => costs[b] - costs[a] || b - a,
    );
    const tokens = order.reduce((sum, index) => sum + costs[index], 0);
    if (order.length > 0) {
      const line = this.lines[priority];
      this.queueUp(line, { request, order, tokens, due: line.clock, portion: 0 });
    }
    this.count += order.length;
    this.tokens[priority] += tokens;
  }

  /** Forgets what of a request is still waiting. */
  remove(request: R): void {
    const { waiting } = this.lines[request.priority];
    const at = waiting.findIndex((each) => each.request === request);
    if (at < 0) return;
    const [{ order, tokens }] = waiting.splice(at, 1);
    this.count -= order.length;
    this.tokens[request.priority] -= tokens;
  }

  /** The next batch; empty when nothing waits. */
  next(): QueuedText<R>[] {
    const { interactive, bulk } = this.lines;
    const bulkIsDue = this.interactiveInARow >= INTERACTIVE_IN_A_ROW;
    if (interactive.waiting.length > 0 && !(bulk.waiting.length > 0 && bulkIsDue)) {
      this.interactiveInARow++;
      return this.take(interactive);
    }
    this.interactiveInARow = 0;
    return this.take(bulk);
  }

  /** Begins a portion of it, behind those that are due as soon. */
  private queueUp({ waiting }: Line<R>, one: Waiting<R>): void {
    one.portion = one.tokens <= (1 + REST) * this.budget ? one.tokens : this.budget;
    one.due += DUE_AFTER * Math.max(one.portion, LEAST * this.budget);
    let at = waiting.length;
    while (at > 0 && waiting[at - 1].due > one.due) at--;
    waiting.splice(at, 0, one);
  }

  private take(line: Line<R>): QueuedText<R>[] {
    const { waiting } = line;
    const batch: QueuedText<R>[] = [];
    const task = waiting[0]?.request.task;
    let left = this.budget;
    for (let at; (at = waiting.findIndex(({ request }) => request.task === task)) >= 0;) {
      const one = waiting[at];
      const { request, order } = one;
      const index = order[order.length - 1];
      const cost = request.costs[index];
      if (batch.length > 0 && cost > left) {
        const isBegun = batch[batch.length - 1].request === request;
        const rest = isBegun ? one.tokens : this.tokens[request.priority];
        if (rest > left + REST * this.budget) break;
      }
      left -= cost;
      this.tokens[request.priority] -= cost;
      line.clock += cost;
      batch.push({ request, index });
      order.pop();
      one.tokens -= cost;
      one.portion -= cost;
      if (order.length > 0 && one.portion > 0) continue;
      waiting.splice(at, 1);
      if (order.length > 0) this.queueUp(line, one);
    }
    this.count -= batch.length;
    return batch;
  }
}
