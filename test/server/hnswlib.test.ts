import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { fileURLToPath } from 'node:url';

import { exists } from '../../base/files.js';
import { buildHnswlib, whyNotWorking } from '../../server/search/hnswlib/build.js';
import { HUGE_PAGES_HEADER } from '../../server/search/hnswlib/huge-pages.js';
import { builtFolder, installedPackage } from '../../server/search/hnswlib/locations.js';
import { keepEnvironment } from '../support/environment.js';
import { fakeNpm } from '../support/fake-npm.js';

const isPossible = process.platform === 'linux' && process.arch === 'x64';
const hasLargePages = existsSync('/sys/kernel/mm/transparent_hugepage');

describe('hnswlib-node compiled for this machine', { skip: !isPossible && 'only Linux on x86-64' }, () => {
  let scratch: string;
  /** The only folder in PATH. */
  let bin: string;
  const putBack = keepEnvironment('SENTENCE_JEPA_CACHE', 'PATH');
  const realPath = process.env.PATH;
  before(async () => {
    scratch = await mkdtemp(path.join(tmpdir(), 'hnswlib-'));
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

  /** It runs in the folder that the copy is made in. */
  const npm = (...lines: string[]): Promise<void> => fakeNpm(bin, ...lines);
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
      `case "$CXXFLAGS" in *'-include ../huge-pages.h -march=native') ;; *) exit 4 ;; esac`,
      `[ -f ${home}/huge-pages.h ] || exit 5`,
      compile,
    );
    assert.equal(await loaded(), false);
    const folder = await buildHnswlib();
    assert.equal(folder, builtFolder());
    assert.match(path.basename(folder), new RegExp(`-node${process.versions.modules}-[0-9a-f]{12}$`));
    assert.equal(await loaded(), true);
    await npm('exit 6');
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

  it('has its graph in large pages', { skip: !hasLargePages && 'this Linux has none' }, async () => {
    const code = `
      #include <cstdio>
      #include <cstring>
      int main(int, char** argv) {
        const std::size_t bytes = std::size_t(64) << 20;
        char* block = (char*)malloc(bytes / 2);
        memset(block, 7, bytes / 2);
        block = (char*)realloc(block, bytes);
        for (std::size_t i = 0; i < bytes / 2; i++) if (block[i] != 7) return 1;
        std::printf("%zx\\n", (std::size_t)block + bytes / 2);
        std::FILE* maps = std::fopen("/proc/self/smaps", "r");
        for (char line[4096]; std::fgets(line, sizeof line, maps);) std::fputs(line, stdout);
        free(block);
        free(malloc(1));
      }`;
    process.env.PATH = realPath;
    const program = path.join(bin, 'blocks');
    await writeFile(`${program}.h`, HUGE_PAGES_HEADER);
    await writeFile(`${program}.cc`, code);
    await promisify(execFile)('c++', ['-include', `${program}.h`, '-o', program, `${program}.cc`]);
    const { stdout } = await promisify(execFile)(program, [], { maxBuffer: 1e7 });
    const [address, ...lines] = stdout.split('\n');
    const at = BigInt(`0x${address}`);
    const isIts = (line: string): boolean => {
      const [, begin, end] = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line) ?? [];
      return begin !== undefined && BigInt(`0x${begin}`) <= at && at < BigInt(`0x${end}`);
    };
    const flags = lines.slice(lines.findIndex(isIts)).find((line) => line.startsWith('VmFlags:'));
    assert.match(flags!, / hg\b/);
  });

  it('is tried in the same way as the one that npm installed', async () => {
    assert.equal(await whyNotWorking(installedPackage('hnswlib-node')), undefined);
  });
});
