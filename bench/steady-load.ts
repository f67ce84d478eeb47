import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';

/** Requests that are sent at their times, whether earlier ones are answered or not. */
export interface SteadyLoad {
  /** The server's. */
  url: string;
  /** Searched for in turn. */
  queries: readonly string[];
  searchesPerSecond: number;
  /** Documents a second that are added, one a request: w0, w1, ... */
  writesPerSecond: number;
}

/** What came of a request. Times are milliseconds of the system's clock. */
export interface SteadyAnswer {
  kind: 'search' | 'write';
  /** When it was to be sent: a delay of the sender counts. */
  due: number;
  answered: number;
  /** 0: no answer. */
  status: number;
  /** The X-Generation header. */
  generation?: number;
  /** Of a search. */
  search?: { query: string; model: string; generation: number; hits: { text: string; score: number }[] };
  /** Of a write that was acknowledged. */
  written?: { id: string; text: string };
  error?: string;
}

/** A load that runs in a process of its own until it is stopped. */
export class RunningLoad {
  readonly answers: SteadyAnswer[] = [];
  private readonly child: ChildProcess;

  constructor(load: SteadyLoad) {
    this.child = fork(new URL('./steady-worker.js', import.meta.url));
    this.child.on('message', (answers: SteadyAnswer[]) => this.answers.push(...answers));
    this.child.send(load);
    process.once('exit', this.kill);
  }

  private readonly kill = (): void => void this.child.kill('SIGKILL');

  /** Waits for what was sent. */
  async stop(): Promise<void> {
    if (this.child.exitCode !== null) return;
    const gone = once(this.child, 'exit');
    this.child.send('stop');
    await gone;
    process.off('exit', this.kill);
  }
}
