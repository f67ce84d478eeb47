import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  chmod,
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';

import { exists } from '../../base/files.js';
import { projectRoot } from '../../base/paths.js';
import { NOT_FOR_HERE } from '../../encoder/kernels/locations.js';
import { runTool } from '../../base/run-tool.js';
import { buildFromWheel, type TensorFlowWheel } from '../../trainer/setup/build.js';
import { builtFolder, builtPackage, machineKey } from '../../trainer/setup/locations.js';
import { whyNotWorking } from '../../trainer/setup/verify.js';
import { zipOf } from '../support/zip.js';
import { keepEnvironment } from '../support/environment.js';

let scratch: string;
/** The only folder in PATH; what the tools in it were called with is in tools.log. */
let bin: string;
const putBack = keepEnvironment('SENTENCE_JEPA_CACHE', 'PATH', 'CXX');

before(async () => {
  scratch = await mkdtemp(path.join(tmpdir(), 'setup-'));
  delete process.env.CXX;
});
after(async () => {
  putBack();
  await rm(scratch, { recursive: true });
});
beforeEach(async () => {
  const machine = await mkdtemp(path.join(scratch, 'machine-'));
  bin = path.join(machine, 'bin');
  await mkdir(bin);
  process.env.PATH = bin;
  process.env.SENTENCE_JEPA_CACHE = path.join(machine, 'cache');
});

/** Puts a tool into PATH that notes how it was called and runs a shell script. */
async function tool(name: string, script = ''): Promise<void> {
  const lines = ['#!/bin/sh', `echo "${name} $*" >> ${bin}/tools.log`, 'PATH=/usr/bin:/bin', script];
  await writeFile(path.join(bin, name), lines.join('\n') + '\n');
  await chmod(path.join(bin, name), 0o755);
}

const calls = (): Promise<string> => readFile(path.join(bin, 'tools.log'), 'utf8').catch(() => '');
const cached = (): Promise<string[]> => readdir(path.dirname(builtFolder())).catch(() => []);

/** A tfjs-node with an addon in it, which does what the code says when it is loaded. */
async function addPackage(folder: string, code: string): Promise<void> {
  await mkdir(path.join(folder, 'lib', 'napi-v8'), { recursive: true });
  await writeFile(path.join(folder, 'lib', 'napi-v8', 'tfjs_binding.node'), 'no library');
  await writeFile(path.join(folder, 'package.json'), '{ "main": "index.js" }');
  await writeFile(path.join(folder, 'index.js'), code);
}

describe('looking whether TensorFlow works', () => {
  it('says that there is no package, or none with an addon', async () => {
    const folder = path.join(bin, 'tfjs-node');
    assert.equal(await whyNotWorking(folder), 'the package is not there');
    await mkdir(folder);
    await writeFile(path.join(folder, 'package.json'), '{}');
    assert.equal(await whyNotWorking(folder), 'the package is there without its native library');
  });

  it('survives a library that ends the process which loads it', async () => {
    await addPackage(bin, 'process.abort()');
    assert.match((await whyNotWorking(bin)) ?? '', /ended the process that loaded it \(SIGABRT\)/);
  });

  it('says what the loader says', async () => {
    await addPackage(bin, 'require("./lib/napi-v8/tfjs_binding.node")');
    assert.match((await whyNotWorking(bin)) ?? '', /tfjs_binding\.node/);
  });

  it('is not content with a package that computes nothing', async () => {
    await addPackage(bin, 'process.exit(0)');
    assert.equal(await whyNotWorking(bin), 'it computed nothing');
  });

  it('does not look again at what worked with this Node on this kind of machine', async () => {
    await addPackage(bin, 'process.abort()');
    await writeFile(path.join(bin, '.works-on-linux-x64-node1'), '');
    assert.match((await whyNotWorking(bin)) ?? '', /SIGABRT/);
    await writeFile(path.join(bin, `.works-on-${machineKey}`), '');
    assert.equal(await whyNotWorking(bin), undefined);
  });
});

describe('building from a wheel', () => {
  const tags = ['--python-version', '3.11', '--platform', 'manylinux_2_27_x86_64'];
  let wheel: TensorFlowWheel;
  let said: string[];
  const build = (): Promise<void> => buildFromWheel({ say: (line) => said.push(line) }, wheel);

  beforeEach(async () => {
    said = [];
    const zip = path.join(bin, 'a_library-1.2-cp311-cp311-any.whl');
    const content = zipOf({
      'tensorflow/libtensorflow_cc.so.2': 'library',
      'tensorflow/libtensorflow_framework.so.2': 'framework',
      'tensorflow/include/tensorflow/c/c_api.h': 'header',
      'tensorflow/python/other.py': 'x',
    });
    await writeFile(zip, content);
    const sha256 = createHash('sha256').update(content).digest('hex');
    wheel = { package: 'a-library', version: '1.2', bytes: content.length, sha256, tags };
    for (const name of ['make', 'g++']) await tool(name);
    await tool('python3', `while [ "$1" != -d ]; do shift; done; cp ${zip} "$2"`);
    await tool('npm', npmThat('exit 0'));
  });

  /** An npm that installs a tfjs-node; `exec` in its folder compiles: puts a file where the addon goes. */
  function npmThat(compiles: string, loads = 'process.abort()'): string {
    return `
      if [ "$1" = exec ]; then
        cat deps/lib/libtensorflow.so deps/lib/libtensorflow_framework.so deps/include/tensorflow/c/c_api.h >> ${bin}/linked.log
        mkdir -p lib/napi-v8; echo x > lib/napi-v8/tfjs_binding.node
        ${compiles}
      else
        mkdir -p node_modules/@tensorflow/tfjs-node; cd node_modules/@tensorflow/tfjs-node
        echo '{"main":"index.js"}' > package.json; echo '${loads}' > index.js
      fi`;
  }

  it('names the tools that are missing before anything is downloaded', async () => {
    for (const name of ['make', 'g++', 'python3']) await rm(path.join(bin, name));
    const message = 'it needs python3 (or python), make, a C++ compiler (g++)';
    await assert.rejects(build(), { kind: 'unavailable', message });
    assert.equal(await calls(), '');
  });

  it('asks pip for one pinned wheel, whatever Python that is, without dependencies', async () => {
    await assert.rejects(build());
    assert.match(await calls(), /^python3 -m pip download --no-deps .* a-library==1\.2$/m);
    assert.ok((await calls()).includes(` ${tags.join(' ')} `));
  });

  it('says what pip said, and keeps nothing', async () => {
    await tool('python3', 'echo "ERROR: no network" >&2; exit 1');
    await assert.rejects(build(), {
      kind: 'unavailable',
      message: /a-library can't be downloaded \(ERROR: no network\)/,
    });
    assert.deepEqual(await cached(), []);
  });

  it('refuses a wheel with another checksum before anything of it is used', async () => {
    wheel.sha256 = '0'.repeat(64);
    await assert.rejects(build(), {
      kind: 'corrupt',
      message: /a_library-1\.2.*\.whl: expected SHA-256 0{64}, found [0-9a-f]{64}/,
    });
    assert.doesNotMatch(await calls(), /^npm/m);
    assert.deepEqual(await cached(), []);
  });

  it('installs tfjs-node without its download, and lays the library and headers where it looks', async () => {
    await assert.rejects(build());
    assert.match(await calls(), /^npm install .*--ignore-scripts .*@tensorflow\/tfjs-node@\^4\.22$/m);
    assert.match(await calls(), /^npm exec .* node-pre-gyp install --build-from-source$/m);
    assert.equal(await readFile(path.join(bin, 'linked.log'), 'utf8'), 'libraryframeworkheader');
  });

  it('says what npm or the compiler said, and keeps nothing', async () => {
    await tool('npm', 'echo "npm error code E403"; echo "npm error 403 Forbidden - GET x"; exit 1');
    await assert.rejects(build(), { message: 'npm failed: npm error 403 Forbidden - GET x' });
    await tool('npm', npmThat('echo "a.cc:1: fatal error: no such header"; echo "gyp ERR! not ok"; exit 1'));
    await assert.rejects(build(), { message: 'npm failed: a.cc:1: fatal error: no such header' });
    assert.deepEqual(await cached(), []);
  });

  it('keeps nothing of a build that does not work', async () => {
    await assert.rejects(build(), {
      kind: 'unavailable',
      message: /built and does not work: .*SIGABRT/,
    });
    assert.deepEqual(said.at(-1), 'compiling its addon');
    assert.deepEqual(await cached(), []);
  });

  it('keeps nothing when it is stopped, and leaves no process behind', async () => {
    await tool('npm', `sleep 1000 & echo $! > ${bin}/pid; mv ${bin}/pid ${bin}/started; wait`);
    const stop = new AbortController();
    const building = buildFromWheel({ say: () => undefined, signal: stop.signal }, wheel);
    while (!(await exists(path.join(bin, 'started')))) await new Promise((resolve) => setTimeout(resolve, 5));
    stop.abort(new Error('stopped'));
    await assert.rejects(building, /stopped/);
    const pid = (await readFile(path.join(bin, 'started'), 'utf8')).trim();
    // Dead, or a zombie that nobody has reaped yet.
    const state = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => ') Z');
    assert.match(state, /\) [ZX]/);
    assert.deepEqual(await cached(), []);
  });

  it('removes what an earlier build left when it was killed, not what another makes now', async () => {
    const cache = path.dirname(builtFolder());
    for (const name of ['.old.partial', '.fresh.partial'])
      await mkdir(path.join(cache, name), { recursive: true });
    const before = new Date(Date.now() - 7_200_000);
    await utimes(path.join(cache, '.old.partial'), before, before);
    await assert.rejects(build());
    assert.deepEqual(await cached(), ['.fresh.partial']);
  });
});

describe('running a tool', () => {
  it('ends one that takes too long', async () => {
    await assert.rejects(
      runTool(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { cwd: bin }, { minutes: 0.001 }),
      { kind: 'unavailable', message: /took more than 0\.001 minutes/ },
    );
  });

  it('says that there is none', async () => {
    await assert.rejects(runTool('no-such-tool', [], { cwd: bin }, { minutes: 1 }), {
      kind: 'unavailable',
      message: 'there is no no-such-tool',
    });
  });
});

describe('sentence-jepa setup', () => {
  /** A copy of the program, with all that npm installed except TensorFlow. */
  let program: string;
  before(async () => {
    program = path.join(scratch, 'program');
    await cp(path.join(projectRoot, 'dist'), path.join(program, 'dist'), { recursive: true });
    for (const file of ['package.json', 'openapi.yaml'])
      await cp(path.join(projectRoot, file), path.join(program, file));
    const sources = path.join('encoder', 'kernels', 'native');
    await cp(path.join(projectRoot, sources), path.join(program, sources), { recursive: true });
    await rm(path.join(program, 'dist', 'kernels'), { recursive: true, force: true });
    await mkdir(path.join(program, 'node_modules'));
    const modules = path.join(projectRoot, 'node_modules');
    for (const name of await readdir(modules))
      if (name !== '@tensorflow')
        await symlink(path.join(modules, name), path.join(program, 'node_modules', name));
  });
  beforeEach(async () => {
    await rm(installed(), { recursive: true, force: true });
    await tool('npm', 'echo "npm error there is no compiler" >&2; exit 1');
  });

  const noKernels =
    process.platform === 'linux' && process.arch === 'x64'
      ? 'kernels: npm failed: npm error there is no compiler; ONNX Runtime encodes instead\n'
      : `kernels: ${NOT_FOR_HERE}; ONNX Runtime encodes instead\n`;
  const installed = (): string => path.join(program, 'node_modules', '@tensorflow', 'tfjs-node');

  async function run(
    args: string[],
    env: NodeJS.ProcessEnv = {},
  ): Promise<{ code: number; stdout: string; stderr: string }> {
    const child = spawn(process.execPath, args, {
      env: { PATH: bin, SENTENCE_JEPA_CACHE: process.env.SENTENCE_JEPA_CACHE, ...env },
    });
    const ran = { code: -1, stdout: '', stderr: '' };
    child.stdout.setEncoding('utf8').on('data', (text: string) => (ran.stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (ran.stderr += text));
    [ran.code] = (await once(child, 'close')) as [number];
    return ran;
  }
  const setup = (args: string[] = [], env?: NodeJS.ProcessEnv) =>
    run([path.join(program, 'dist', 'cli', 'main.js'), 'setup', ...args], env);

  it('says in one paragraph what is missing, what works without, and what to do; exit code 1', async () => {
    const { code, stdout, stderr } = await setup();
    assert.equal(code, 1);
    assert.equal(stdout, '');
    const paragraph = stderr.trim().split('\n').at(-1)!;
    assert.match(paragraph, /^error: TensorFlow's native library is missing: /);
    assert.match(paragraph, /own download: npm left the package out/);
    assert.match(paragraph, /PyPI's TensorFlow 2\.21\.0: (it needs python3|there is none for)/);
    assert.match(
      paragraph,
      /Only training \(finetune\) needs it; serve, search, evaluate, embed and model work/,
    );
    assert.ok(paragraph.includes(`in the cache folder ${process.env.SENTENCE_JEPA_CACHE}; "npm run setup"`));
    assert.match(paragraph, /"npm run setup" .* tries again/);
  });

  it('takes the time and the space that README.md says', async () => {
    const { stdout } = await setup(['--help']);
    const readme = await readFile(path.join(projectRoot, 'README.md'), 'utf8');
    const [, cost] = /takes (.* MB) in the cache folder/.exec(stdout)!;
    assert.ok(readme.includes(cost), cost);
  });

  it('never fails npm install', async () => {
    const { code, stderr } = await setup(['--install']);
    assert.equal(code, 0);
    assert.ok(stderr.startsWith(noKernels), stderr);
    assert.match(stderr.slice(noKernels.length), /^TensorFlow's native library is missing: .*\n$/);
  });

  it('fails for want of kernels when they are what is asked for', async () => {
    const { code, stderr } = await setup(['--kernels']);
    assert.equal(code, 1);
    assert.equal(stderr, `error: ${noKernels}`);
  });

  it('does nothing when it is told to leave TensorFlow out', async () => {
    const { code, stderr } = await setup([], { SENTENCE_JEPA_SKIP_TENSORFLOW: '1' });
    assert.equal(code, 0);
    assert.match(stderr, /left out: SENTENCE_JEPA_SKIP_TENSORFLOW is set/);
  });

  it('takes what it built before, without any tool', async () => {
    await addPackage(builtPackage(), 'process.abort()');
    await writeFile(path.join(builtPackage(), `.works-on-${machineKey}`), '');
    const { code, stderr } = await setup();
    assert.equal(code, 0);
    assert.equal(stderr, `${noKernels}TensorFlow works: ${builtPackage()}\n`);
  });

  it('prefers what npm installed, when that works', async () => {
    for (const folder of [builtPackage(), installed()]) {
      await addPackage(folder, 'process.abort()');
      await writeFile(path.join(folder, `.works-on-${machineKey}`), '');
    }
    assert.equal((await setup()).stderr, `${noKernels}TensorFlow works: ${installed()}\n`);
    await rm(path.join(installed(), `.works-on-${machineKey}`));
    assert.equal((await setup()).stderr, `${noKernels}TensorFlow works: ${builtPackage()}\n`);
  });

  it("tries tfjs-node's own download where npm left it out, and cleans up after it", async () => {
    await mkdir(path.join(installed(), 'scripts'), { recursive: true });
    await writeFile(path.join(installed(), 'package.json'), '{}');
    await writeFile(
      path.join(installed(), 'scripts', 'install.js'),
      'require("fs").mkdirSync("deps/lib", { recursive: true }); throw new Error("connect ECONNREFUSED")',
    );
    const { code, stderr } = await setup();
    assert.equal(code, 1);
    assert.match(stderr, /own download: .*Error: connect ECONNREFUSED/);
    assert.deepEqual((await readdir(installed())).sort(), ['package.json', 'scripts']);
  });

  it('never lets a broken library end a process that loads TensorFlow', async () => {
    await addPackage(installed(), 'process.abort()');
    const script = path.join(program, 'load.mjs');
    await writeFile(
      script,
      `import { loadTensorFlow } from './dist/trainer/tensorflow/load.js';
       await loadTensorFlow().catch((error) => console.log(error.kind, error.message));`,
    );
    const { code, stdout } = await run([script]);
    assert.equal(code, 0);
    assert.match(stdout, /^unavailable .*the one installed does not work: .*SIGABRT/);
  });
});
