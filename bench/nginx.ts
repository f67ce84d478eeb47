import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { UserError } from '../base/errors.js';
import { projectRoot } from '../base/paths.js';
import { BenchProcess, freePort } from './processes.js';

export const NGINX_EXAMPLE = path.join(projectRoot, 'examples/scale/nginx.conf');
/** As root its workers could not read what is in a folder of root's. */
const GLOBALS = `daemon off;${process.getuid?.() === 0 ? ' user root;' : ''}`;

/** Why there is none; false when there is. For `describe`'s skip. */
export const withoutNginx: string | false =
  spawnSync('nginx', ['-v']).status === 0 ? false : 'no nginx: install it (Debian: apt-get install nginx)';

/** The example's configuration, for servers on ports of this machine. */
export function nginxConfig(folder: string, ports: { listen: number; servers: readonly number[] }): string {
  const servers = ports.servers.map((port) => `server 127.0.0.1:${port} max_fails=1 fail_timeout=1s;`);
  return readFileSync(NGINX_EXAMPLE, 'utf8')
    .replace(/server server-1:.*\n\s*server server-2:.*/, servers.join('\n'))
    .replace(/listen \d+;/, `listen 127.0.0.1:${ports.listen};`)
    .replaceAll('/tmp/', `${folder}/`);
}

/** What `nginx -t` says of a configuration; nothing when it is right. */
export function checkNginx(folder: string, config: string): string | undefined {
  const { status, stderr } = spawnSync('nginx', argumentsOf(folder, config, '-t'), { encoding: 'utf8' });
  return status === 0 ? undefined : stderr;
}

/**
 * nginx in front of servers on this machine, by the example's configuration.
 *
 * @param folder for its files
 * @param servers their ports
 * @throws UserError `unavailable` without nginx
 */
export async function startNginx(
  folder: string,
  servers: readonly number[],
): Promise<{ url: string; process: BenchProcess }> {
  if (withoutNginx) throw new UserError('unavailable', withoutNginx);
  const listen = await freePort();
  const config = nginxConfig(folder, { listen, servers });
  const nginx = new BenchProcess('nginx', 'nginx', argumentsOf(folder, config));
  const url = `http://127.0.0.1:${listen}`;
  await nginx.answers(`${url}/ready`);
  return { url, process: nginx };
}

function argumentsOf(folder: string, config: string, ...more: string[]): string[] {
  const file = path.join(folder, 'nginx.conf');
  writeFileSync(file, config);
  return ['-p', folder, '-c', file, '-g', GLOBALS, ...more];
}
