import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { fileURLToPath } from 'node:url';

import { exists } from '../../base/files.js';
import { buildHnswlib, whyNotWorking } from '../../server/search/hnswlib/build.js';
import { builtFolder, installedPackage } from '../../server/search/hnswlib/locations.js';

const isPossible = process.platform === 'linux' && process.arch === 'x64';

describe('hnswlib-node compiled for this machine', { skip: !isPossible && 'only Linux on x86-64' }, () => {
  let scratch: string;
  /** The only folder in PATH. */
  let bin: string;
  const saved = { cache: process.env.SENTENCE_JEPA_CACHE, path: process.env.PATH };
  before(async () => {
    scratch = await mkdtemp(path.join(tmpdir(), 'hnswlib-'));
  });
  after(async () => {
    process.env.PATH = saved.path;
    if (saved.cache === undefined) delete process.env.SENTENCE_JEPA_CACHE;
    else process.env.SENTENCE_JEPA_CACHE = saved.cache;
    await rm(scratch, { recursive: true });
  });
  beforeEach(async () => {
    const machine = await mkdtemp(path.join(scratch, 'machine-'));
    bin = path.join(machine, 'bin');
    await mkdir(bin);
    process.env.PATH = bin;
    process.env.SENTENCE_JEPA_CACHE = path.join(machine, 'cache');
  });

  /** In place of npm, which would compile for a while: it runs in the folder that the copy is made in. */
  async function npm(...lines: string[]): Promise<void> {
    const script = ['#!/bin/sh', 'PATH=/usr/bin:/bin', ...lines].join('\n');
    await writeFile(path.join(bin, 'npm'), script + '\n');
    await chmod(path.join(bin, 'npm'), 0o755);
  }
  const home = 'node_modules/hnswlib-node';
  const compile = `cp -r ${path.join(installedPackage('hnswlib-node'), 'build')} ${home}/`;

  /** In a process of its own: what is loaded is decided once. */
  async function loaded(): Promise<boolean> {
    const script = fileURLToPath(new URL('../../server/search/hnswlib/load.js', import.meta.url));
    const code = `import(${JSON.stringify(script)}).then((m) => { new m.HierarchicalNSW('ip', 2); console.log(m.isForThisMachine) })`;
    return (await promisify(execFile)(process.execPath, ['-e', code])).stdout.trim() === 'true';
  }

  async function nothingIsKept(): Promise<void> {
    assert.equal(await exists(builtFolder()!), false);
    assert.deepEqual(await readdir(path.dirname(builtFolder()!)), []);
    assert.equal(await loaded(), false);
  }

  it('is what search uses from then on, and is made once', async () => {
    await npm(
      `[ "$*" = 'rebuild --global=false --foreground-scripts hnswlib-node' ] || exit 2`,
      `[ -d ${home}/build ] && exit 3`,
      `case "$CXXFLAGS" in *-march=native) ;; *) exit 4 ;; esac`,
      compile,
    );
    assert.equal(await loaded(), false);
    const folder = await buildHnswlib();
    assert.equal(folder, builtFolder());
    assert.match(path.basename(folder), new RegExp(`-node${process.versions.modules}-[0-9a-f]{12}$`));
    assert.equal(await loaded(), true);
    await npm('exit 5');
    assert.equal(await buildHnswlib(), folder);
  });

  it('is left alone when part of it is gone', async () => {
    await npm(compile);
    const folder = await buildHnswlib();
    await rm(path.join(folder, home, 'build'), { recursive: true });
    assert.equal(await loaded(), false);
  });

  it('is not kept when the processor ends it', async () => {
    await npm(
      compile,
      `echo 'process.kill(process.pid, "SIGILL"); setTimeout(() => {}, 60000)' > ${home}/lib/index.js`,
    );
    await assert.rejects(buildHnswlib(), {
      kind: 'unavailable',
      message: 'it was built and does not work: it ended the process that loaded it (SIGILL)',
    });
    await nothingIsKept();
  });

  it('is not kept when it finds something else', async () => {
    const wrong =
      'class extends lib.HierarchicalNSW { searchKnn() { return { neighbors: [0], distances: [0] } } }';
    await npm(
      compile,
      `echo 'const lib = module.exports; module.exports = { HierarchicalNSW: ${wrong} }' >> ${home}/lib/index.js`,
    );
    await assert.rejects(buildHnswlib(), { message: /does not work: .*came out as/ });
    await nothingIsKept();
  });

  it('says what is missing to compile it', async () => {
    await npm('echo "npm error gyp ERR! stack Error: not found: make" >&2', 'exit 1');
    await assert.rejects(buildHnswlib(), { kind: 'unavailable', message: /npm failed: .*not found: make/ });
    await nothingIsKept();
  });

  it('is tried in the same way as the one that npm installed', async () => {
    assert.equal(await whyNotWorking(installedPackage('hnswlib-node')), undefined);
  });
});
