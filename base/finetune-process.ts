import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

import { messageOf } from './errors.js';

/** How a training's process ended. */
export type Ending =
  | { status: 'finished'; cpuSeconds?: number }
  | { status: 'interrupted' }
  | { status: 'failed'; message: string };

/**
 * Runs `finetune --json` in a process of its own, so that TensorFlow's memory goes back. When the signal comes, or
 * this process ends in whatever way, the other one notices that nobody is there any more and stops behind its step,
 * with a checkpoint.
 *
 * @param command the program and what comes before the command's arguments
 * @param onLine takes what the process tells, a line at a time
 */
export async function runFinetune(
  [program, ...before]: readonly string[],
  args: readonly string[],
  {
    signal,
    nice,
    onStart,
    onLine,
  }: {
    signal?: AbortSignal;
    /** How much it gives way to other processes, 0 to 19, where the system has `nice`. */
    nice?: number;
    onStart(pid: number): Promise<void>;
    onLine?(line: string): void;
  },
): Promise<Ending> {
  if (signal?.aborted) return { status: 'interrupted' };
  const cpuBefore = childrenCpuSeconds();
  const line = [program, ...before, 'finetune', ...args, '--json'];
  let child: ChildProcess;
  try {
    child = await start(line, nice);
  } catch (error) {
    return { status: 'failed', message: `the trainer can not be started: ${messageOf(error)}` };
  }
  const stop = (): void => {
    if (child.connected) child.disconnect();
  };
  signal?.addEventListener('abort', stop);
  if (signal?.aborted) stop();
  let answer = '';
  let lastLine = 'it said nothing';
  child.stdout!.setEncoding('utf8').on('data', (text: string) => (answer += text));
  createInterface({ input: child.stderr! }).on('line', (line) => {
    // What comes behind an error is how to ask for help.
    if (line.startsWith('error: ') || !lastLine.startsWith('error: ')) lastLine = line;
    onLine?.(line);
  });
  const exit = once(child, 'exit');
  const [[code, killedBy]] = (await Promise.all([
    // Its event "close" would do, but Node 20 leaves that out after a disconnect.
    exit,
    once(child.stdout!, 'close'),
    once(child.stderr!, 'close'),
    onStart(child.pid!),
  ]).finally(async () => {
    stop();
    signal?.removeEventListener('abort', stop);
    // Before that it may write to its folders, whatever went wrong.
    await exit;
  })) as [[number | null, string | null], unknown, unknown, void];

  if (code === 0) return { status: 'finished', cpuSeconds: difference(childrenCpuSeconds(), cpuBefore) };
  if (signal?.aborted || /"status":"interrupted"/.test(answer)) return { status: 'interrupted' };
  if (killedBy !== null) return { status: 'failed', message: `its process was ended by ${killedBy}` };
  return { status: 'failed', message: lastLine.replace(/^error: /, '') };
}

/** @throws what the system says when there can be no process */
async function start(line: readonly string[], nice?: number): Promise<ChildProcess> {
  const run = async ([program, ...args]: readonly string[]): Promise<ChildProcess> => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
    await once(child, 'spawn');
    return child;
  };
  if (nice === undefined || process.platform === 'win32') return run(line);
  try {
    // By the command, which all its threads inherit from; setting it later would miss those that are there already.
    return await run(['nice', '-n', String(nice), ...line]);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    // An image without coreutils.
    return run(line);
  }
}

/**
 * Waits for a process that an experiment left behind when it was killed: it is about to stop. Where there is no /proc
 * nothing is known of it.
 *
 * @param mark in its command line: another process may have its number
 */
export async function waitUntilGone(pid: number, mark: string, signal?: AbortSignal): Promise<void> {
  const runs = (): boolean => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(mark);
    } catch {
      return false;
    }
  };
  while (runs() && !signal?.aborted) await sleep(100);
}

/** Of the processes that this one has started and seen end, on all cores. Nothing where there is no /proc. */
function childrenCpuSeconds(): number | undefined {
  try {
    // proc(5): after the name in parentheses, cutime and cstime are the 14th and 15th field, in 1/100 s.
    const fields = readFileSync('/proc/self/stat', 'utf8').split(') ')[1].split(' ');
    return (Number(fields[13]) + Number(fields[14])) / 100;
  } catch {
    return undefined;
  }
}

function difference(a?: number, b?: number): number | undefined {
  return a === undefined || b === undefined ? undefined : a - b;
}
