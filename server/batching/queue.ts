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
}

/** Bulk work gets a batch after this many interactive ones in a row, so that it is slow but never stuck. */
const INTERACTIVE_IN_A_ROW = 8;

/**
 * Which texts go into the next batch. Interactive requests come before bulk ones, and never share a
 * batch with them; requests of one priority take turns, a text each, until the token budget is used.
 * With all texts of a batch the same is done.
 */
export class BatchQueue<R extends QueuedRequest> {
  private readonly lines: Record<Priority, Waiting<R>[]> = { interactive: [], bulk: [] };
  private interactiveInARow = 0;
  private count = 0;
  private readonly tokens: Record<Priority, number> = { interactive: 0, bulk: 0 };

  /** @param budget estimated tokens in a batch; a text beyond it is a batch of its own */
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
    if (order.length > 0) this.lines[priority].push({ request, order });
    this.count += order.length;
    for (const index of order) this.tokens[priority] += costs[index];
  }

  /** Forgets what of a request is still waiting. */
  remove(request: R): void {
    const line = this.lines[request.priority];
    const at = line.findIndex((waiting) => waiting.request === request);
    if (at < 0) return;
    this.count -= line[at].order.length;
    for (const index of line[at].order) this.tokens[request.priority] -= request.costs[index];
    line.splice(at, 1);
  }

  /** The next batch; empty when nothing waits. */
  next(): QueuedText<R>[] {
    const { interactive, bulk } = this.lines;
    const bulkIsDue = this.interactiveInARow >= INTERACTIVE_IN_A_ROW;
    if (interactive.length > 0 && !(bulk.length > 0 && bulkIsDue)) {
      this.interactiveInARow++;
      return this.take(interactive);
    }
    this.interactiveInARow = 0;
    return this.take(bulk);
  }

  private take(line: Waiting<R>[]): QueuedText<R>[] {
    const batch: QueuedText<R>[] = [];
    const task = line[0]?.request.task;
    let left = this.budget;
    for (let at; (at = line.findIndex(({ request }) => request.task === task)) >= 0;) {
      const { request, order } = line[at];
      const index = order[order.length - 1];
      const cost = request.costs[index];
      if (batch.length > 0 && cost > left) break;
      left -= cost;
      this.tokens[request.priority] -= cost;
      batch.push({ request, index });
      order.pop();
      // The next text is another request's, in this batch and across batches.
      const [waiting] = line.splice(at, 1);
      if (order.length > 0) line.push(waiting);
    }
    this.count -= batch.length;
    return batch;
  }
}
