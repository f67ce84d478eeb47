import { fork, type ChildProcess, type ForkOptions } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

import type { ServerConfig } from '../../server/config.js';
import type { Fault } from './faults.js';

export interface ServerOptions extends Partial<Omit<ServerConfig, 'model' | 'limits'>> {
  /** A model folder. */
  model: string;
  dataDir: string;
  /** Up to this many vectors are searched exactly, beyond through the graph. */
  exactUpTo: number;
  limits?: Partial<ServerConfig['limits']>;
}

/** Bytes, after garbage was collected; how many things keep the event loop alive. */
export interface Usage {
  rss: number;
  heapUsed: number;
  external: number;
  handles: number;
}

export type ToServer = { usage: true } | { fault: Fault };
export type FromServer = { url: string } | { usage: Usage };

/** Of the log, kept for messages. */
const KEPT_CHARACTERS = 1 << 20;
const script = fileURLToPath(new URL('./server-process.js', import.meta.url));
const faults = new URL('./faults.js', import.meta.url).href;

/** A real server in a process of its own, to be killed, damaged, starved and asked. It ends with this process. */
export class Server {
  private stderr = '';
  private readonly gone: Promise<number | null>;

  private constructor(private readonly child: ChildProcess) {
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.stderr = (this.stderr + text).slice(-KEPT_CHARACTERS);
    });
    this.gone = once(child, 'close').then(([code]) => code as number | null);
    process.once('exit', this.killNow);
    void this.gone.then(() => process.off('exit', this.killNow));
  }

  url = '';

  /**
   * @param shell a command that starts another one (`ulimit -f 100; exec "$@"`), for limits
   * @throws ServerRefused when it ends before it serves
   */
  static async start(options: ServerOptions, shell?: string): Promise<Server> {
    const fromShell: ForkOptions = shell
      ? {
          execPath: '/bin/sh',
          execArgv: ['-c', shell, 'sh', process.execPath, '--import', faults],
        }
      : { execArgv: ['--import', faults] };
    const child = fork(script, [JSON.stringify(options)], {
      ...fromShell,
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    const server = new Server(child);
    const started = once(child, 'message').then(([message]) => message as { url: string });
    const ended = server.gone.then((code) => {
      if (!server.url) throw new ServerRefused(code, server.log);
    });
    ended.catch(() => undefined);
    server.url = ((await Promise.race([started, ended])) as { url: string }).url;
    return server;
  }

  get log(): string {
    return this.stderr;
  }

  get pid(): number {
    return this.child.pid!;
  }

  /** Resolves with the exit code, null after a signal. */
  async kill(signal: NodeJS.Signals): Promise<number | null> {
    this.child.kill(signal);
    return this.gone;
  }

  async usage(): Promise<Usage> {
    const answer = once(this.child, 'message');
    this.child.send({ usage: true } satisfies ToServer);
    return ((await answer)[0] as { usage: Usage }).usage;
  }

  fail(fault: Fault): void {
    this.child.send({ fault } satisfies ToServer);
  }

  private readonly killNow = (): void => void this.child.kill('SIGKILL');
}

export class ServerRefused extends Error {
  constructor(
    readonly code: number | null,
    readonly log: string,
  ) {
    super(`the server ended with ${code}: ${log}`);
  }

  /** What a person would read. */
  get reason(): string {
    return /^error: (.*)$/m.exec(this.log)?.[1] ?? '';
  }
}
