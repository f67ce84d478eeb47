import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

import { pino } from 'pino';

import { startServer, type RunningServer } from '../../server/main.js';
import { Maps } from '../../server/map/maps.js';
import { testConfig } from '../server/http-support.js';
import { documentsOf, LIVE, openAround, until, type Around } from '../server/jobs-support.js';
import { removeFolder } from '../support/remove-folder.js';

const main = fileURLToPath(new URL('../../cli/main.js', import.meta.url));
const DOCUMENTS = 300;

let folder: string;
let around: Around;
let server: RunningServer;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'cli-jobs-'));
  around = await openAround(path.join(folder, 'data'));
  const { collection, jobs } = around;
  await collection.upsert(documentsOf(DOCUMENTS));
  const services = {
    get inference() {
      return collection.served().inference;
    },
    collection,
    jobs,
    maps: new Maps(path.join(folder, 'data')),
  };
  server = await startServer(
    { ...testConfig, apiKeys: ['boss'] },
    pino({ level: 'silent' }),
    async () => services,
  );
  await server.ready;
});
after(async () => {
  await server.close();
  await removeFolder(folder);
});

async function run(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const env = { ...process.env, SENTENCE_JEPA_URL: server.url, SENTENCE_JEPA_API_KEY: 'boss' };
  const child = spawn(process.execPath, [main, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk) => (stdout += chunk));
  child.stderr.on('data', (chunk) => (stderr += chunk));
  const [code] = (await once(child, 'close')) as [number];
  return { code, stdout: stdout.trim(), stderr: stderr.trim() };
}

/** What a command prints when all is well. */
async function told(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(...args);
  assert.equal(code, 0, stderr);
  return stdout;
}

async function refused(...args: string[]): Promise<string> {
  const { code, stderr } = await run(...args);
  assert.notEqual(code, 0);
  assert.doesNotMatch(stderr, /\n {4}at /);
  return stderr;
}

describe('feedback', () => {
  it('is imported by id and by text, and counted', async () => {
    const byId = path.join(folder, 'links.jsonl');
    const line = (i: number): string =>
      JSON.stringify({ query: `how does subject${i} do with thing${i}`, id: `d${i}` });
    const lines = Array.from({ length: 200 }, (_, i) => line(i));
    await writeFile(byId, [...lines, JSON.stringify({ query: 'a', id: 'none' })].join('\n'));
    assert.equal(
      await told('feedback', 'import', byId),
      '200 stored, 1 about documents that are not in the collection left out',
    );
    const byText = path.join(folder, 'pairs.tsv');
    const rows = Array.from(
      { length: 100 },
      (_, i) =>
        `how does subject${200 + i} do with thing${200 + i}\tquestion about subject${200 + i} and some thing${200 + i}`,
    );
    await writeFile(byText, rows.join('\n'));
    assert.equal(await told('feedback', 'import', byText, '--by-text'), '100 stored');
    await told('feedback', 'add', 'one more', 'd1');
    await told('feedback', 'add', 'not this one', 'd1', '--not');
    assert.match(
      await told('feedback', 'count'),
      /^302 \(301 relevant\); queries to train on \d+, to choose by \d+, to judge by \d+$/,
    );
  });

  it('says which line is wrong, and which document is not there', async () => {
    const broken = path.join(folder, 'broken.jsonl');
    await writeFile(broken, '{"query": "a", "id": "d1"}\n{"query": 7}\n');
    assert.match(await refused('feedback', 'import', broken), /broken\.jsonl:2: expected \{"query", "id"/);
    // An empty line, and a title of two lines, are lines as well.
    const table = path.join(folder, 'broken.csv');
    const wrong: [row: string, message: RegExp][] = [
      ['why "sudo" asks,d2', /broken\.csv:5: expected CSV, .*: a quote is found on field 0/],
      [
        '"why ""sudo"" asks",d2,perhaps',
        /broken\.csv:5: expected query, .*, found why "sudo" asks d2 perhaps$/,
      ],
    ];
    for (const [row, message] of wrong) {
      await writeFile(table, `query,document\n\n"a title\nof two lines",d1\n${row}\n`);
      assert.match(await refused('feedback', 'import', table), message);
    }
    assert.match(await refused('feedback', 'import', 'links.txt'), /expected a \.jsonl, \.tsv or \.csv file/);
    assert.match(await refused('feedback', 'add', 'x', 'none'), /404: id: no document has the id "none"/);
  });
});

describe('jobs and models', () => {
  it('are started, watched, told, switched and rolled back', async () => {
    assert.match(await refused('models', 'rollback'), /no earlier model to go back to/);
    const watched = await run('jobs', 'start', '--set', 'behave=better', '--watch');
    assert.equal(watched.code, 0, watched.stderr);
    assert.match(watched.stdout, /^# Job 1: finetuned-1 beside beginner\n\n\*\*ready\*\*: map@100/);
    assert.match(watched.stderr, /judging\ndone$/);
    assert.match(await told('jobs', 'list'), /^1 +done +\S+ \S+ finetuned-1 ready: map@100/);
    assert.match(await told('jobs', 'show', '1'), /^# Job 1/);
    assert.equal(JSON.parse(await told('jobs', 'show', '1', '--json')).state, 'done');
    assert.equal(
      await told('models', 'list'),
      [
        `${LIVE.padEnd(24)} live      ${DOCUMENTS} vectors`,
        `${'finetuned-1'.padEnd(24)} building  ${DOCUMENTS} vectors`,
      ].join('\n'),
    );
    assert.equal(await told('models', 'activate', 'finetuned-1'), 'finetuned-1 is live');
    assert.equal(await told('models', 'rollback'), `${LIVE} is live`);
  });

  it('are cancelled, and end with 1 when they fail', async () => {
    const [id] = (await told('jobs', 'start', '--set', 'behave=held')).split(' ');
    await until(around.jobs, Number(id), 'training');
    assert.match(await told('jobs', 'cancel', id), /cancelled/);
    assert.match(await refused('jobs', 'cancel', id), /409: job \d+ has ended already: cancelled/);
    const failed = await run('jobs', 'start', '--set', 'behave=collapse', '--watch');
    assert.equal(failed.code, 1);
    assert.match(failed.stderr, /the embeddings collapse/);
  });

  it('say what is wrong before and after they have asked the server', async () => {
    assert.match(
      await refused('jobs', 'start', '--set', 'nothing'),
      /--set: expected key=value, found nothing/,
    );
    assert.match(
      await refused('jobs', 'start', '--activate', 'always'),
      /Allowed choices are manual, if-better/,
    );
    assert.match(await refused('jobs', 'show', '99'), /404: there is no job 99/);
    assert.match(await refused('models', 'activate', 'none'), /404: .*"none"/);
    assert.match(await refused('jobs', 'list', '--url', 'http://127.0.0.1:1'), /no server answers at/);
    assert.match(await refused('jobs', 'list', '--api-key', 'other'), /401: /);
  });
});
