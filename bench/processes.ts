import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

import { messageOf, UserError } from '../base/errors.js';

/** How long a process may take to load its model. */
const START_SECONDS = 120;
/** How exactly the time until a process answers is known. */
const POLL_MS = 20;
/** Of its stderr, shown when a process fails. */
const KEPT_CHARACTERS = 2000;
const FIRST_PORT = 20_000;
const LAST_PORT = 32_000;

/** A process of the benchmark's own; it ends with the benchmark, however that ends. */
export class BenchProcess {
  private readonly child: ChildProcess;
  private readonly gone: Promise<unknown>;
  private readonly lines: AsyncIterator<string>;
  private stderr = '';

  constructor(
    readonly name: string,
    command: string,
    args: readonly string[],
  ) {
    this.child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    this.child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.stderr = (this.stderr + text).slice(-KEPT_CHARACTERS);
    });
    // A process that died is found out by its missing answer.
    this.child.stdin!.on('error', () => undefined);
    this.gone = once(this.child, 'exit').catch((error: unknown) => (this.stderr += messageOf(error)));
    this.lines = createInterface({ input: this.child.stdout! })[Symbol.asyncIterator]();
    process.once('exit', this.kill);
  }

  private readonly kill = (): void => void this.child.kill('SIGKILL');

  /** Nothing where the system has no /proc. */
  usage(): { cpuSeconds: number; memoryMiB: number } | undefined {
    return processUsage(this.child.pid!);
  }

  /** Waits until the address answers 200. @throws UserError `unavailable` with the end of its stderr */
  async answers(url: string): Promise<void> {
    const deadline = Date.now() + START_SECONDS * 1000;
    while (Date.now() < deadline) {
      const answer = fetch(url).then(
        ({ ok }) => ok,
        () => false,
      );
      if (await Promise.race([answer, this.gone.then(() => this.fail('ended before it served'))])) return;
      await sleep(POLL_MS);
    }
    this.fail(`does not answer at ${url} after ${START_SECONDS} s`);
  }

  /** Sends a line, waits for one. @throws UserError `unavailable` when the process ends instead */
  async ask(line: string): Promise<string> {
    this.child.stdin!.write(line + '\n');
    const { value, done } = await this.lines.next();
    if (done) {
      await this.gone;
      this.fail('ended before it answered');
    }
    return value;
  }

  async stop(): Promise<void> {
    process.off('exit', this.kill);
    this.child.stdin!.end();
    this.child.kill('SIGTERM');
    const inTime = await Promise.race([this.gone.then(() => true), sleep(5000, false, { ref: false })]);
    if (!inTime) this.kill();
    await this.gone;
  }

  private fail(what: string): never {
    throw new UserError('unavailable', `${this.name} ${what}: ${this.stderr.trim() || 'it said nothing'}`);
  }
}

const given = new Set<number>();

/** By itself or by a signal. */
export function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null;
}

/**
 * A port of 127.0.0.1 that is free, for a process that is yet to begin. It is below those that the system gives by
 * itself (net.ipv4.ip_local_port_range), to whoever asks for port 0 or connects, before that process has taken it.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(FIRST_PORT, LAST_PORT + 1);
    if (given.has(port) || !(await isFree(port))) continue;
    given.add(port);
    return port;
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer().listen(port, '127.0.0.1');
  try {
    await once(server, 'listening');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') return false;
    throw error;
  }
  server.close();
  await once(server, 'close');
  return true;
}

function processUsage(pid: number): { cpuSeconds: number; memoryMiB: number } | undefined {
  try {
    // proc(5): after the name in parentheses, utime and stime are the 12th and 13th field, in 1/100 s.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
    const resident = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
    return {
      cpuSeconds: (Number(fields[11]) + Number(fields[12])) / 100,
      memoryMiB: Number(resident?.[1]) / 1024,
    };
  } catch {
    return undefined;
  }
}
