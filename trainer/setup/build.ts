import { existsSync } from 'node:fs';
import { mkdir, readdir, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';

import { UserError } from '../../base/errors.js';
import { sha256File, writeFolderIfFirst } from '../../base/files.js';
import { runNpm, runTool } from '../../base/run-tool.js';
import type { FetchOptions } from '../../encoder/hub.js';
import { downloadWheel, unpackWheel, type PythonPackage } from '../../encoder/wheel.js';
import { builtFolder, builtPackage, TENSORFLOW_VERSION } from './locations.js';
import { whyNotWorking } from './verify.js';

export interface SetupOptions extends FetchOptions {
  /** Called with a line for the user. */
  say(line: string): void;
}

export interface TensorFlowWheel extends PythonPackage {
  sha256: string;
}

/** One wheel for each machine, whatever Python asks for it: only the library in it is used. */
const WHEELS: Readonly<Record<string, TensorFlowWheel>> = {
  'linux-x64': {
    package: 'tensorflow-cpu',
    sha256: '2b847d217b02ee7731ed91431daf3250daa0196c3c94614d23be27232e6e5b6c',
    bytes: 273_829_956,
    ...release('manylinux_2_27_x86_64'),
  },
  'linux-arm64': {
    package: 'tensorflow',
    sha256: '4b24aca16d527a3cf1c37f720c04c484c3d20f4d0fdfa98632ac8b9f3be6eb5c',
    bytes: 281_828_020,
    ...release('manylinux_2_27_aarch64'),
  },
};

function release(platform: string): { version: string; tags: string[] } {
  const python = ['--python-version', '3.11', '--implementation', 'cp', '--abi', 'cp311'];
  return { version: TENSORFLOW_VERSION, tags: [...python, '--platform', platform] };
}

/** The C interface, which is all that tfjs-node's addon is compiled against. */
const HEADERS =
  /^tensorflow\/include\/(?:tensorflow\/c|tensorflow\/core\/platform|tsl\/platform|xla\/tsl\/c)\/.*\.h$/;
const LIBRARY = 'libtensorflow_cc.so.2';
const FRAMEWORK = 'libtensorflow_framework.so.2';

/**
 * Builds tfjs-node against the library in PyPI's wheel, into the cache folder, where it appears when it was
 * seen to work. Takes a minute or two, 300 MB of download and 750 MB of disk.
 *
 * @param wheel by default this machine's
 * @throws UserError `unavailable` when something is missing: a wheel for this machine, pip, a compiler,
 *   a registry; `corrupt` for a wrong checksum. Nothing is kept then
 */
export async function buildFromWheel(
  options: SetupOptions,
  wheel: TensorFlowWheel | undefined = WHEELS[`${process.platform}-${process.arch}`],
): Promise<void> {
  if (!wheel) throw new UserError('unavailable', `there is none for ${process.platform}-${process.arch}`);
  checkTools();
  await removeLeftovers();
  await writeFolderIfFirst(builtFolder(), (folder) => build(wheel, folder, options));
}

async function build(wheel: TensorFlowWheel, folder: string, options: SetupOptions): Promise<void> {
  const { say, signal } = options;
  const home = builtPackage(folder);
  const deps = path.join(home, 'deps');

  say(`downloading ${wheel.package} ${wheel.version} (${Math.round(wheel.bytes / 1e6)} MB) from PyPI`);
  const scratch = path.join(folder, '.wheel');
  const file = await downloadWheel(wheel, scratch, options);
  const found = await sha256File(file);
  if (found !== wheel.sha256)
    throw new UserError(
      'corrupt',
      `${path.basename(file)}: expected SHA-256 ${wheel.sha256}, found ${found}`,
    );
  await unpackWheel(file, scratch, (name) =>
    name.endsWith(LIBRARY) || name.endsWith(FRAMEWORK) || HEADERS.test(name) ? name : undefined,
  );
  await rm(file);

  say('installing tfjs-node');
  await writeFile(path.join(folder, 'package.json'), '{ "private": true }\n');
  // "global" is npm's own when this runs in `npm install --global`.
  const local = ['--global=false', '--prefix', folder];
  const quiet = ['--ignore-scripts', '--no-package-lock', '--no-audit', '--no-fund'];
  await runNpm(
    ['install', ...local, ...quiet, '@tensorflow/tfjs-node@^4.22'],
    { cwd: folder },
    { minutes: 10, signal },
  );

  say('compiling its addon');
  const unpacked = path.join(scratch, 'tensorflow');
  await mkdir(path.join(deps, 'lib'), { recursive: true });
  await rename(path.join(unpacked, 'include'), path.join(deps, 'include'));
  for (const [name, alias] of [
    [LIBRARY, 'libtensorflow.so'],
    [FRAMEWORK, 'libtensorflow_framework.so'],
  ]) {
    await rename(path.join(unpacked, name), path.join(deps, 'lib', name));
    await symlink(name, path.join(deps, 'lib', alias));
  }
  const compile = ['node-pre-gyp', 'install', '--build-from-source'];
  await runNpm(['exec', '--global=false', '--no', '--', ...compile], { cwd: home }, { minutes: 15, signal });
  await rm(scratch, { recursive: true });
  await slim(folder, home, signal);

  const reason = await whyNotWorking(home);
  if (reason) throw new UserError('unavailable', `it was built and does not work: ${reason}`);
}

/** Says at once what the build would fail for after the download. */
function checkTools(): void {
  const folders = (process.env.PATH ?? '').split(path.delimiter);
  const has = (tool: string): boolean => folders.some((folder) => existsSync(path.join(folder, tool)));
  const missing: string[] = [];
  if (!has('python3') && !has('python')) missing.push('python3 (or python)');
  if (!has('make')) missing.push('make');
  if (!process.env.CXX && !has('g++') && !has('c++')) missing.push('a C++ compiler (g++)');
  if (missing.length > 0) throw new UserError('unavailable', `it needs ${missing.join(', ')}`);
}

/** Leaves out what only a debugger or a compiler reads: two fifths of it all. */
async function slim(folder: string, home: string, signal?: AbortSignal): Promise<void> {
  await rm(path.join(home, 'deps', 'include'), { recursive: true });
  for (const name of await readdir(home))
    if (name.startsWith('build-tmp') || name === 'build')
      await rm(path.join(home, name), { recursive: true });
  for (const name of await readdir(folder, { recursive: true }))
    if (name.endsWith('.map')) await rm(path.join(folder, name));
  const libraries = [LIBRARY, FRAMEWORK].map((name) => path.join(home, 'deps', 'lib', name));
  // Symbols are a quarter of the library; without `strip` they stay.
  await runTool('strip', libraries, { cwd: home }, { minutes: 5, signal }).catch(() => undefined);
  signal?.throwIfAborted();
}

/** What an earlier setup left when it was killed. A build takes less than an hour. */
async function removeLeftovers(): Promise<void> {
  const cache = path.dirname(builtFolder());
  for (const name of await readdir(cache).catch(() => [])) {
    const folder = path.join(cache, name);
    if (name.endsWith('.partial') && Date.now() - (await stat(folder)).mtimeMs > 3_600_000)
      await rm(folder, { recursive: true, force: true });
  }
}
