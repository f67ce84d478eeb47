import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { cp, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

import { makeTinyModel } from '../support/tiny-model.js';

const main = fileURLToPath(new URL('../../cli/main.js', import.meta.url));
let scratch: string;
let model: string;
before(async () => {
  scratch = await mkdtemp(path.join(tmpdir(), 'cli-model-'));
  model = path.join(scratch, 'tiny');
  await makeTinyModel(model);
});
after(() => rm(scratch, { recursive: true }));

interface Ran {
  code: number | null;
  stdout: string;
  stderr: string;
}

async function run(args: string[], input = ''): Promise<Ran> {
  const child = spawn(process.execPath, [main, ...args], {
    env: { ...process.env, SENTENCE_JEPA_CACHE: path.join(scratch, 'cache') },
  });
  const ran: Ran = { code: null, stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (ran.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (ran.stderr += text));
  child.stdin.on('error', () => undefined).end(input);
  ran.code = await new Promise((resolve) => child.on('close', resolve));
  return ran;
}

describe('sentence-jepa model', () => {
  it('info says what an encoder is', async () => {
    const { code, stdout } = await run(['model', 'info', model, '--json']);
    const info = JSON.parse(stdout) as Record<string, unknown>;
    assert.equal(code, 0);
    assert.equal(info.name, 'tiny');
    assert.equal(info.dimensions, 32);
    assert.equal(info.pooling, 'mean');
    assert.equal(info.maxTokens, 32);
    assert.match((info.fingerprints as { fp32: string }).fp32, /^[0-9a-f]{64}$/);
  });

  it('verify passes a whole folder, with the cosine of its graphs', async () => {
    const { code, stdout } = await run(['model', 'verify', model, '--json']);
    const report = JSON.parse(stdout) as { fp32Cosine: number; problems: string[]; tensors: number };
    assert.equal(code, 0);
    assert.ok(report.fp32Cosine > 0.999999);
    assert.equal(report.tensors, 37);
    assert.deepEqual(report.problems, []);
  });

  it('verify fails a folder whose graph is of other weights', async () => {
    const mixed = path.join(scratch, 'mixed');
    await makeTinyModel(mixed, { seed: 2 });
    await cp(path.join(model, 'onnx/model.onnx'), path.join(mixed, 'onnx/model.onnx'));
    const { code, stdout, stderr } = await run(['model', 'verify', mixed]);
    assert.equal(code, 1);
    assert.match(stdout, /NOT ok/);
    assert.match(stderr, /onnx\/model\.onnx: expected the vectors of model\.safetensors/);
  });

  it('export writes a folder with the same fingerprint, and never over one', async () => {
    const plain = path.join(scratch, 'plain');
    await cp(model, plain, { recursive: true });
    await rm(path.join(plain, 'onnx'), { recursive: true });
    const out = path.join(scratch, 'exported');
    const exported = await run(['model', 'export', plain, '--out', out]);
    assert.equal(exported.code, 0, exported.stderr);
    assert.equal(exported.stdout.trim(), out);
    const fingerprints = await Promise.all(
      [model, out].map(async (dir) => {
        const { stdout } = await run(['model', 'info', dir, '--json']);
        return (JSON.parse(stdout) as { fingerprints: object }).fingerprints;
      }),
    );
    assert.deepEqual(fingerprints[1], fingerprints[0]);
    assert.equal((await run(['model', 'verify', out])).code, 0);
    const again = await run(['model', 'export', plain, '--out', out]);
    assert.equal(again.code, 1);
    assert.match(again.stderr, /exported: already there/);
  });

  it('export --compact writes a folder for a repository, which every command takes like any other', async () => {
    const out = path.join(scratch, 'small');
    const exported = await run(['model', 'export', model, '--out', out, '--compact']);
    assert.equal(exported.code, 0, exported.stderr);
    assert.equal(exported.stdout.trim(), out);
    const files = await readdir(out);
    assert.ok(files.includes('model.int8.safetensors') && !files.includes('onnx'));
    const size = async (file: string): Promise<number> => (await stat(file)).size;
    const exact = await size(path.join(model, 'model.safetensors'));
    assert.ok((await size(path.join(out, 'model.int8.safetensors'))) < exact / 2);

    const first = await run(['model', 'info', out, '--json']);
    assert.match(first.stderr, /^unpacking .*small into .*compact-[0-9a-f]{64}, once\n$/);
    assert.equal((JSON.parse(first.stdout) as { name: string }).name, 'small');
    const verified = await run(['model', 'verify', out, '--json']);
    assert.equal(verified.code, 0);
    assert.equal(verified.stderr, '');
    const complete = path.join(scratch, 'complete-again');
    assert.equal((await run(['model', 'export', out, '--out', complete])).code, 0);
    const [compact, ordinary] = await Promise.all(
      [out, complete].map(async (dir) => (await run(['embed', '--model', dir, 'usb boot'])).stdout),
    );
    assert.match(compact, /^{"text":"usb boot","embedding":\[/);
    assert.equal(compact, ordinary);
  });

  it('says how to get a model that is not here, and is not fooled by a name', async () => {
    const { code, stderr } = await run(['model', 'info', 'all-MiniLM-L6-v2']);
    assert.equal(code, 1);
    assert.match(stderr, /sentence-jepa model get all-MiniLM-L6-v2/);
    assert.equal((await run(['model', 'get', '../x'])).code, 1);
    assert.equal((await run(['model', 'verify'])).code, 2);
  });
});

describe('sentence-jepa embed', () => {
  const vectors = (stdout: string): { text: string; embedding: number[] }[] =>
    stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { text: string; embedding: number[] });

  it('prints a line a text', async () => {
    const { code, stdout, stderr } = await run(['embed', '--model', model, 'usb boot', 'screen is black']);
    assert.equal(code, 0, stderr);
    const rows = vectors(stdout);
    assert.deepEqual(
      rows.map(({ text }) => text),
      ['usb boot', 'screen is black'],
    );
    const length = rows[0].embedding.reduce((sum, value) => sum + value * value, 0);
    assert.ok(rows[0].embedding.length === 32 && Math.abs(length - 1) < 1e-5);
  });

  it('reads a file or the standard input, and writes floats', async () => {
    const data = path.join(scratch, 'texts.txt');
    const out = path.join(scratch, 'texts.f32');
    await writeFile(data, 'usb boot\nscreen is black\n');
    const file = await run(['embed', '--model', model, '--data', data, '--format', 'f32', '--out', out]);
    assert.equal(file.code, 0, file.stderr);
    const input = await run(['embed', '--model', model, '--data', '-'], 'usb boot\nscreen is black');
    const floats = new Float32Array(Uint8Array.from(await readFile(out)).buffer);
    assert.deepEqual(
      vectors(input.stdout).flatMap(({ embedding }) => embedding),
      [...floats],
    );
  });

  it('never writes over a file', async () => {
    const out = path.join(scratch, 'there.jsonl');
    await writeFile(out, 'mine');
    const { code, stderr } = await run(['embed', '--model', model, 'usb', '--out', out]);
    assert.equal(code, 1);
    assert.match(stderr, /there\.jsonl: already there; name another file or remove it first/);
    assert.equal(await readFile(out, 'utf8'), 'mine');
  });

  it('refuses nothing to embed, an empty line with its number, and floats for a terminal', async () => {
    assert.equal((await run(['embed', '--model', model])).code, 2);
    assert.equal((await run(['embed', '--model', model, '--format', 'f32', 'a'])).code, 2);
    const empty = await run(['embed', '--model', model, '--data', '-'], 'usb\n\nboot\n');
    assert.equal(empty.code, 1);
    assert.match(empty.stderr, /-:2: expected a text, found an empty line/);
    assert.match((await run(['embed', '--model', model, '--data', '-'])).stderr, /found an empty file/);
  });
});
