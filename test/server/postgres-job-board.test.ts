import assert from 'node:assert/strict';
import { appendFileSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { JobFolders } from '../../server/jobs/folders.js';
import { Database } from '../../server/postgres/database.js';
import { PostgresBoard } from '../../server/postgres/job-board.js';
import { addJob } from '../../server/postgres/jobs.js';
import { migrate } from '../../server/postgres/schema.js';
import { removeFolder } from '../support/remove-folder.js';
import { onConnection, startPostgres, withoutPostgres, type PostgresServer } from './postgres-server.js';

const START = { type: 'start', steps: 20 };
const step = (n: number): object => ({ type: 'step', step: n, seconds: 0.01 });

describe('what a worker passes on of a training', { skip: withoutPostgres }, () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'postgres-job-board-'));
  let server: PostgresServer;
  let url: string;
  let database: Database;
  let id: number;
  before(async () => {
    server = await startPostgres();
  });
  beforeEach(async () => {
    await database?.close();
    url = await server.freshDatabase();
    database = new Database(url);
    await migrate(database);
    ({ id } = await addJob(database, {}));
  });
  after(async () => {
    await database?.close();
    await server?.close();
    await removeFolder(folder);
  });

  /** A worker's board, and its trainer. */
  function worker(): {
    board: PostgresBoard;
    tell(...entries: object[]): void;
    report(html: string): void;
    said: string[];
  } {
    const folders = new JobFolders(mkdtempSync(path.join(folder, 'machine-')));
    const training = folders.training(id);
    mkdirSync(training, { recursive: true });
    const said: string[] = [];
    return {
      board: new PostgresBoard(database, folders, (message) => said.push(message)),
      tell: (...entries) =>
        appendFileSync(
          path.join(training, 'log.jsonl'),
          entries.map((entry) => JSON.stringify(entry) + '\n').join(''),
        ),
      report: (html) => writeFileSync(path.join(training, 'report.html'), html),
      said,
    };
  }

  async function passed(): Promise<object[]> {
    const rows = await database.query<{ entry: string }>('SELECT entry FROM job_logs ORDER BY line');
    return rows.map(({ entry }) => JSON.parse(entry) as object);
  }

  it('ends when the turn is lost, whatever the trainer tells until it has stopped', async () => {
    const { board, tell } = worker();
    await board.inTurn(new AbortController().signal, async (turn) => {
      tell(START, step(1));
      const telling = board.follow(id);
      while ((await passed()).length < 2) await sleep(10);
      await database.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'sentence-jepa lock'`,
      );
      while (!turn.aborted) await sleep(10);
      tell(step(2));
      await telling.stop();
    });
    assert.deepEqual(await passed(), [START, step(1)]);
  });

  it("takes the place of another worker's, and of its own that it was not told are stored", async () => {
    const { board, tell } = worker();
    tell(START, step(1));
    const telling = board.follow(id);
    while ((await passed()).length < 2) await sleep(10);
    const entry = JSON.stringify(step(19));
    await database.query('INSERT INTO job_logs (job, line, entry) VALUES ($1, 3, $2), ($1, 9, $2)', [
      id,
      entry,
    ]);
    tell(step(2), step(3));
    await telling.stop();
    assert.deepEqual(await passed(), [START, step(1), step(2), step(3)]);
  });

  it('waits for what another worker is just adding, and takes its place', async () => {
    const { board, tell } = worker();
    tell(START);
    const telling = board.follow(id);
    while ((await passed()).length < 1) await sleep(10);
    await onConnection(url, async (other) => {
      await other.query('BEGIN');
      await other.query('INSERT INTO job_logs (job, line, entry) VALUES ($1, 2, $2)', [id, '{}']);
      tell(step(1));
      const stopping = telling.stop();
      while ((await database.query('SELECT FROM pg_locks WHERE NOT granted')).length === 0) await sleep(10);
      await other.query('COMMIT');
      await stopping;
    });
    assert.deepEqual(await passed(), [START, step(1)]);
  });

  it('fails no job when PostgreSQL does not take it, and is complained of', async () => {
    const { board, tell, report, said } = worker();
    tell(START);
    report('a\u0000b');
    await board.follow(id).stop();
    assert.deepEqual(await passed(), [START]);
    assert.equal(said.length, 1);
    assert.match(said[0], new RegExp(`^job ${id}: its log and report are not passed on whole: .*0x00`));
  });
});
