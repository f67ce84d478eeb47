import { setImmediate as nextTurn } from 'node:timers/promises';

import { messageOf, UserError } from '../../base/errors.js';
import type { Precision } from '../../encoder/graph-file.js';
import type { Pooling } from '../../encoder/model-folder.js';
import type { Backend } from '../../encoder/backend.js';
import type { EncodeTiming, Observer } from '../observer.js';
import { Admission, type QueueLimits } from './admission.js';
import type {
  Encoded,
  Inference,
  InferenceOptions,
  InferenceStats,
  Priority,
  QueueOptions,
  Token,
} from './inference.js';
import { meanCosine } from './probe.js';
import { BatchQueue, type QueuedText } from './queue.js';

/** What a worker says of the model it has loaded. */
export interface WorkerModel {
  name: string;
  dimensions: number;
  maxTokens: number;
  fingerprint: string;
  folder: string;
  pooling: Pooling;
  /** Whether vectors are scaled to length 1 unless a request says otherwise. */
  normalizes: boolean;
  backend: Backend;
}

/** What comes back for a batch. */
export interface WorkerBatch {
  /** As the model pools them, n x d. */
  vectors: Float32Array;
  /** Tokens read of each text. */
  lengths: number[];
  /** Milliseconds that the tokenizer took. */
  tokenizeMs: number;
  /**
   * Milliseconds of it all in the thread. The pool's may come to the first answer late, with many requests to read at once: by its
   * clock the first batch of a burst would seem slow, and the burst be refused.
   */
  totalMs: number;
}

/** What a worker does with a batch, and what comes back: of each text, in order. */
interface Made {
  run: WorkerBatch;
  tokenize: Token[][];
  countTokens: number[];
}
type Task = keyof Made;

/** One thread with the model loaded. */
export interface ModelWorker {
  readonly model: WorkerModel;
  /** Resolves when the thread is gone, whatever the cause. */
  readonly ended: Promise<UserError>;
  run(texts: readonly string[]): Promise<WorkerBatch>;
  tokenize(texts: readonly string[]): Promise<Token[][]>;
  countTokens(texts: readonly string[]): Promise<number[]>;
  close(): Promise<void>;
}

export interface PoolOptions {
  workers: number;
  threadsPerWorker: number;
  precision: Precision;
  /** Estimated tokens in a batch: how long an interactive text may wait behind a bulk one. */
  batchTokens: number;
  /** What may wait. */
  queue: QueueLimits;
  /** A batch that takes longer is given up, and its worker replaced: it hangs. */
  batchSeconds: number;
  observer?: Omit<Observer, 'searched'>;
}

/** Characters of English a WordPiece token covers, about; only the sizes of batches and of the queue depend on it. */
const CHARACTERS_PER_TOKEN = 4;
/** Characters that are tokenized in the time in which a token is encoded, about: what they cost where that is all. */
const CHARACTERS_TOKENIZED = 64;

/** What a batch may seem to take, of what it takes in its thread: that this one stalls now and then is not its speed. */
const STALLED_AT_MOST = 2;

/** Before a worker that could not be started is tried again; doubled each time. */
const FIRST_RESTART_MS = 1_000;
const LAST_RESTART_MS = 60_000;

interface Request {
  readonly task: Task;
  readonly priority: Priority;
  readonly costs: Uint32Array;
  readonly texts: readonly string[];
  /**
   * Takes of what came back for a batch what is for the text `index`, in place i there.
   *
   * @throws what the request fails with
   */
  take(made: Made[Task], i: number, index: number): void;
  left: number;
  /** Answered, failed or given up: what still comes back for it is dropped. */
  settled: boolean;
  settle(error?: unknown): void;
  /** Sums over its texts until the end, then means. */
  readonly timing: EncodeTiming;
}

function startTiming(texts: readonly string[], { priority = 'interactive' }: QueueOptions): EncodeTiming {
  const start = performance.now();
  return {
    ...{ texts: texts.length, priority, start, end: start },
    ...{ queue: 0, tokenize: 0, inference: 0 },
  };
}

/** @throws UserError `backend` when a number of the row is not finite */
function copyRow(row: Float32Array, to: Float32Array, normalize: boolean): void {
  const norm = Math.sqrt(row.reduce((sum, x) => sum + x * x, 0));
  if (!Number.isFinite(norm)) throw new UserError('backend', `the model returned a vector of length ${norm}`);
  const scale = normalize && norm > 0 ? 1 / norm : 1;
  for (let j = 0; j < row.length; j++) to[j] = row[j] * scale;
}

type Batch = { texts: QueuedText<Request>[]; isRetry: boolean };

function costOf({ texts }: Batch): number {
  return texts.reduce((sum, { request, index }) => sum + request.costs[index], 0);
}

/**
 * Workers that take a batch whenever they are free. A batch that fails, or whose worker dies, is tried
 * once more, each request's texts apart from the others': one request can't take others down with it.
 */
export class InferencePool implements Inference {
  private readonly queue: BatchQueue<Request>;
  private readonly admission: Admission;
  /** Estimated tokens in batches that workers have. */
  private underway = 0;
  private readonly retries: Batch[] = [];
  private readonly workers = new Set<ModelWorker>();
  private readonly idle: ModelWorker[] = [];
  private readonly requests = new Set<Request>();
  private readonly totals = { texts: 0, tokens: 0, batches: 0 };
  private readonly model: WorkerModel;
  /** Said while there is no worker left and none can be started. */
  private broken: UserError | undefined;
  private cosine: number | undefined;
  private comparing: Promise<void> | undefined;
  private closing = false;
  private drained: (() => void) | undefined;

  /**
   * Works with one worker while it starts the others.
   *
   * @param startWorker with the model of `first`; tried again, less and less often, when it throws
   */
  constructor(
    first: ModelWorker,
    private readonly startWorker: () => Promise<ModelWorker>,
    private readonly options: PoolOptions,
  ) {
    this.model = first.model;
    this.queue = new BatchQueue(options.batchTokens);
    this.admission = new Admission(options.queue);
    this.employ(first);
    for (let i = 1; i < options.workers; i++) void this.startAnother();
  }

  get name(): string {
    return this.model.name;
  }

  get dimensions(): number {
    return this.model.dimensions;
  }

  get maxTokens(): number {
    return this.model.maxTokens;
  }

  get folder(): string {
    return this.model.folder;
  }

  get pooling(): Pooling {
    return this.model.pooling;
  }

  get precision(): Precision {
    return this.options.precision;
  }

  get backend(): Backend {
    return this.model.backend;
  }

  get cosineToFp32(): number | undefined {
    return this.cosine;
  }

  /**
   * Measures, beside the requests, how near vectors are to another worker's.
   *
   * @param startFp32 that worker
   */
  compareWith(startFp32: () => Promise<ModelWorker>): void {
    const [worker] = this.workers;
    this.comparing = meanCosine(worker, startFp32).then(
      (cosine) => void (this.cosine = cosine),
      // A folder may have only a rounded graph, and a worker may die: the figure is for people, and they go without.
      () => undefined,
    );
  }

  get fingerprint(): string {
    return this.model.fingerprint;
  }

  async encode(texts: readonly string[], options?: InferenceOptions): Promise<Float32Array> {
    return (await this.encodeWithLengths(texts, options)).vectors;
  }

  async encodeWithLengths(texts: readonly string[], options: InferenceOptions = {}): Promise<Encoded> {
    const { normalize = this.model.normalizes } = options;
    const d = this.dimensions;
    const vectors = new Float32Array(texts.length * d);
    const lengths = new Uint32Array(texts.length);
    const timing = startTiming(texts, options);
    try {
      await this.enqueue('run', texts, options, timing, (made, i, index) => {
        const row = made.vectors.subarray(i * d, (i + 1) * d);
        copyRow(row, vectors.subarray(index * d, (index + 1) * d), normalize);
        lengths[index] = made.lengths[i];
      });
      return { vectors, lengths };
    } catch (error) {
      timing.error = error;
      throw error;
    } finally {
      timing.end = performance.now();
      for (const part of ['queue', 'tokenize', 'inference'] as const) timing[part] /= texts.length || 1;
      this.options.observer?.encoded(timing);
    }
  }

  async tokenize(texts: readonly string[], options: QueueOptions = {}): Promise<Token[][]> {
    const tokens = new Array<Token[]>(texts.length);
    await this.enqueue('tokenize', texts, options, startTiming(texts, options), (made, i, index) => {
      tokens[index] = made[i];
    });
    return tokens;
  }

  async countTokens(texts: readonly string[], options: QueueOptions = {}): Promise<number[]> {
    const counts = new Array<number>(texts.length);
    await this.enqueue('countTokens', texts, options, startTiming(texts, options), (made, i, index) => {
      counts[index] = made[i];
    });
    return counts;
  }

  /** Resolves when the last text has been taken. */
  private async enqueue<T extends Task>(
    task: T,
    texts: readonly string[],
    { probe = false, signal }: InferenceOptions,
    timing: EncodeTiming,
    take: (made: Made[T], i: number, index: number) => void,
  ): Promise<void> {
    const { priority } = timing;
    signal?.throwIfAborted();
    this.checkOpen();
    const costs = Uint32Array.from(texts, (text) => this.estimateTokens(task, text));
    const tokens = costs.reduce((sum, cost) => sum + cost, 0);
    if (!probe)
      this.admission.check(priority, tokens, this.queue.waiting, this.options.workers, this.underway);
    if (texts.length === 0) return;

    let abort: (() => void) | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        const request: Request = {
          task,
          priority,
          costs,
          texts,
          take,
          left: texts.length,
          settled: false,
          settle: (error) => {
            if (request.settled) return;
            request.settled = true;
            this.queue.remove(request);
            this.requests.delete(request);
            if (error === undefined) resolve();
            else reject(error);
            if (this.requests.size === 0) this.drained?.();
          },
          timing,
        };
        abort = (): void => request.settle(signal?.reason);
        signal?.addEventListener('abort', abort, { once: true });
        this.requests.add(request);
        this.queue.add(request);
        this.dispatch();
      });
    } finally {
      if (abort) signal?.removeEventListener('abort', abort);
    }
  }

  stats(): InferenceStats {
    return {
      workers: this.workers.size,
      workersWanted: this.options.workers,
      threadsPerWorker: this.options.threadsPerWorker,
      queuedTexts: this.queue.size,
      queuedTokens: { ...this.queue.waiting },
      tokensPerSecond: this.admission.rate(this.workers.size),
      ...this.totals,
    };
  }

  /** Refuses what comes, answers what is there, then ends the threads. */
  async close(): Promise<void> {
    this.closing = true;
    if (this.requests.size > 0) await new Promise<void>((resolve) => (this.drained = resolve));
    await this.comparing;
    await Promise.all([...this.workers].map((worker) => worker.close()));
  }

  private estimateTokens(task: Task, text: string): number {
    return task === 'run'
      ? Math.min(this.maxTokens, 2 + Math.ceil(text.length / CHARACTERS_PER_TOKEN))
      : 1 + Math.ceil(text.length / CHARACTERS_TOKENIZED);
  }

  private dispatch(): void {
    while (this.idle.length > 0) {
      const batch = this.nextBatch();
      if (!batch) return;
      void this.work(this.idle.pop()!, batch);
    }
  }

  /** Until nothing waits, or the worker is gone. */
  private async work(worker: ModelWorker, first: Batch): Promise<void> {
    let since: number | undefined;
    for (let batch: Batch | undefined = first; batch;) {
      await this.runBatch(worker, batch, since);
      since = performance.now();
      batch = this.workers.has(worker) ? this.nextBatch() : undefined;
      // Of a batch that failed others may have to be tried again as well.
      this.dispatch();
    }
    if (this.workers.has(worker)) this.idle.push(worker);
  }

  private nextBatch(): Batch | undefined {
    for (let batch; (batch = this.retries.shift());)
      if (batch.texts.some(({ request }) => !request.settled)) return batch;
    const texts = this.queue.next();
    return texts.length > 0 ? { texts, isRetry: false } : undefined;
  }

  /** @param since when the batch was done that this one follows on; missing when the worker was idle */
  private async runBatch(worker: ModelWorker, batch: Batch, since?: number): Promise<void> {
    const cost = costOf(batch);
    this.underway += cost;
    try {
      const dispatched = performance.now();
      for (const { request } of batch.texts) request.timing.dispatched ??= dispatched;
      const { task } = batch.texts[0].request;
      const texts = batch.texts.map(({ request, index }) => request.texts[index]);
      const made = await this.inTime<Made[Task]>(worker, worker[task](texts));
      if (task === 'run') this.count(batch, made as WorkerBatch, { cost, dispatched, since });
      this.hand(batch.texts, made);
    } catch (error) {
      // A thread that died rejects its calls and says so on `ended` in the same turn: that goes first.
      await nextTurn();
      this.recover(batch, error);
    }
    this.underway -= cost;
  }

  /** @throws UserError `backend` when the worker hangs; it is replaced then */
  private async inTime<T>(worker: ModelWorker, answer: Promise<T>): Promise<T> {
    const { batchSeconds } = this.options;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        const message = `the encoder did not answer within ${batchSeconds} s (--batch-seconds) and was started again`;
        const error = new UserError('backend', message);
        reject(error);
        // Not waited for: a thread that hangs in native code ends when that returns, if ever.
        void worker.close();
        void this.replace(worker, error);
      }, batchSeconds * 1000);
    });
    try {
      return await Promise.race([answer, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  private count(
    { texts }: Batch,
    { lengths, tokenizeMs, totalMs }: WorkerBatch,
    { cost, dispatched, since }: { cost: number; dispatched: number; since?: number },
  ): void {
    this.totals.batches++;
    this.totals.texts += texts.length;
    this.totals.tokens += lengths.reduce((sum, length) => sum + length, 0);
    this.options.observer?.batch({ lengths });
    const now = performance.now();
    // Where batches follow on one another, what passes between them is part of what those that wait will have to wait.
    const elapsedMs = since === undefined ? totalMs : Math.min(now - since, STALLED_AT_MOST * totalMs);
    this.admission.measured(cost, elapsedMs / 1000);
    const inferenceMs = now - dispatched - tokenizeMs;
    for (const { request } of texts) {
      request.timing.queue += dispatched - request.timing.start;
      request.timing.tokenize += tokenizeMs / texts.length;
      request.timing.inference += inferenceMs;
    }
  }

  private hand(texts: readonly QueuedText<Request>[], made: Made[Task]): void {
    texts.forEach(({ request, index }, i) => {
      if (request.settled) return;
      try {
        request.take(made, i, index);
        if (--request.left === 0) request.settle();
      } catch (error) {
        request.settle(error);
      }
    });
  }

  private recover(batch: Batch, error: unknown): void {
    const byRequest = new Map<Request, QueuedText<Request>[]>();
    for (const text of batch.texts) {
      const texts = byRequest.get(text.request);
      if (texts) texts.push(text);
      else byRequest.set(text.request, [text]);
    }
    for (const [request, texts] of byRequest)
      if (batch.isRetry) request.settle(error);
      else this.retries.push({ texts, isRetry: true });
  }

  private employ(worker: ModelWorker): void {
    this.workers.add(worker);
    this.idle.push(worker);
    void worker.ended.then((reason) => this.replace(worker, reason));
    this.dispatch();
  }

  private async replace(worker: ModelWorker, reason: UserError): Promise<void> {
    // One that was given up ends as well, when it can.
    if (!this.workers.delete(worker)) return;
    const at = this.idle.indexOf(worker);
    if (at >= 0) this.idle.splice(at, 1);
    if (!this.isDone) this.options.observer?.workerLost(reason);
    await this.startAnother();
  }

  /** Tries until one starts. */
  private async startAnother(): Promise<void> {
    for (let wait = FIRST_RESTART_MS; !this.isDone; wait = Math.min(2 * wait, LAST_RESTART_MS)) {
      try {
        const worker = await this.startAlike();
        this.broken = undefined;
        // Closed meanwhile: nobody would end this one.
        if (this.isDone) await worker.close();
        else this.employ(worker);
        return;
      } catch (error) {
        const reason =
          error instanceof UserError ? error : new UserError('backend', messageOf(error), { cause: error });
        this.options.observer?.workerNotStarted(reason, wait);
        if (this.workers.size === 0) this.fail(reason, wait / 1000);
      }
      await new Promise((resolve) => setTimeout(resolve, wait).unref());
    }
  }

  /** @throws UserError `fingerprint-mismatch` when the model folder was overwritten meanwhile */
  private async startAlike(): Promise<ModelWorker> {
    const worker = await this.startWorker();
    const { folder, fingerprint } = worker.model;
    if (fingerprint === this.fingerprint) return worker;
    await worker.close();
    throw new UserError(
      'fingerprint-mismatch',
      `${folder}: expected the model that is served, of fingerprint ${this.fingerprint}, found another one, ${fingerprint}; restart the server to serve that`,
    );
  }

  /** No worker is left: what waits is not answered, nor is what comes until one can be started. */
  private fail(cause: UserError, retryAfter: number): void {
    // The cause is for the log: it names files of the server, and is not about what was asked for.
    const message = `no inference thread can be started, for a reason that the log has; it is tried again in ${retryAfter} s`;
    this.broken = new UserError('unavailable', message, { cause, retryAfter });
    for (const request of [...this.requests]) request.settle(this.broken);
  }

  private get isDone(): boolean {
    return this.closing && this.requests.size === 0;
  }

  private checkOpen(): void {
    if (this.closing) throw new UserError('not-ready', 'the server is shutting down');
    if (this.broken) throw this.broken;
  }
}
