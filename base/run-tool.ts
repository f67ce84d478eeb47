import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';

import { UserError } from './errors.js';

/**
 * Runs a program of others to its end, without a terminal.
 *
 * @param limit.minutes after which it and all that it started is ended
 * @throws UserError `unavailable` with the line of its output that says why when it fails
 */
export async function runTool(
  command: string,
  args: string[],
  where: { cwd: string; env?: NodeJS.ProcessEnv },
  limit: { minutes: number; signal?: AbortSignal },
): Promise<void> {
  limit.signal?.throwIfAborted();
  // A process group of its own, so that compilers end with the program that called them.
  const child = spawn(command, args, { ...where, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  const end = (): void => {
    try {
      if (child.pid) process.kill(-child.pid, 'SIGKILL');
    } catch {
      // It ended by itself.
    }
  };
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    end();
  }, limit.minutes * 60_000);
  limit.signal?.addEventListener('abort', end, { once: true });
  try {
    const code = await new Promise<number | null>((resolve, reject) => {
      child.on('error', reject).on('close', resolve);
    }).catch((error: NodeJS.ErrnoException) => {
      throw new UserError(
        'unavailable',
        error.code === 'ENOENT' ? `there is no ${command}` : `${command}: ${error.message}`,
      );
    });
    limit.signal?.throwIfAborted();
    if (late) throw new UserError('unavailable', `${command} took more than ${limit.minutes} minutes`);
    if (code !== 0)
      throw new UserError('unavailable', `${command} failed: ${whatFailed(output) || `exit code ${code}`}`);
  } finally {
    clearTimeout(timer);
    limit.signal?.removeEventListener('abort', end);
  }
}

/** npm, told where headers are when they came with this Node, so that nothing asks the network for them. */
export async function runNpm(
  args: string[],
  where: { cwd: string; env?: NodeJS.ProcessEnv },
  limit: { minutes: number; signal?: AbortSignal },
): Promise<void> {
  const bin = path.dirname(process.execPath);
  const home = path.dirname(bin);
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    PATH: `${process.env.PATH}${path.delimiter}${bin}`,
    ...where.env,
  };
  if (existsSync(path.join(home, 'include', 'node', 'node_api.h'))) env.npm_config_nodedir = home;
  await runTool('npm', args, { cwd: where.cwd, env }, limit);
}

/**
 * Compiles a package in `folder`/node_modules by its own install script.
 *
 * @throws UserError as {@link runTool}
 */
export async function rebuildPackage(
  folder: string,
  name: string,
  { env, signal }: { env?: NodeJS.ProcessEnv; signal?: AbortSignal },
): Promise<void> {
  const description = { private: true, allowScripts: { [name]: true } };
  await writeFile(path.join(folder, 'package.json'), JSON.stringify(description));
  // "global" is npm's own when this runs in `npm install --global`.
  const args = ['rebuild', '--global=false', '--foreground-scripts', name];
  await runNpm(args, { cwd: folder, env }, { minutes: 10, signal });
}

/** Of npm, compilers, node-gyp and Node: the line that names the cause, or else the last one. */
function whatFailed(output: string): string {
  const cause = /^.*(?:\berror: .*|npm error (?!code|errno|syscall|path|A complete).*)$/im.exec(output)?.[0];
  return (cause ?? output.trim().split('\n').at(-1) ?? '').trim();
}
