import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

import { messageOf, UserError } from '../../base/errors.js';
import {
  logFile,
  readReport,
  type Embedding,
  type JobBoard,
  type JobLog,
  type JobProgress,
} from '../jobs/board.js';
import type { JobFolders } from '../jobs/folders.js';
import type { Job } from '../jobs/job.js';
import type { SentData } from '../jobs/request.js';
import { progressOf, TrainingLog } from '../jobs/training-log.js';
import type { Database, Queries } from './database.js';

/** The advisory lock of the worker that runs jobs. */
const TURN_LOCK = 760_401_177;
/** How often the lock is asked for, and how often what is told is passed on. */
const EVERY_MS = 1_000;

/** Jobs of a database that several processes have: what the one that runs them tells is in tables. */
export class PostgresBoard implements JobBoard {
  readonly isShared = true;
  private toldAt = -Infinity;
  /** Aborted when another process may have the turn that was had here last. */
  private lost = new AbortController().signal;

  /** @param folders where the trainer tells it first, on this machine */
  constructor(
    private readonly database: Database,
    private readonly folders: JobFolders,
    private readonly complain: (message: string) => void,
  ) {}

  /**
   * The lock ends with its connection, kill -9 included. One statement that waits for it would hold up CREATE INDEX
   * CONCURRENTLY, which waits for all that was begun before; so it is asked for again and again.
   */
  inTurn(signal: AbortSignal, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const waiting = new AbortController();
    const giveUp = (): void => waiting.abort();
    signal.addEventListener('abort', giveUp);
    return this.database
      .saying(() =>
        this.database.withOwnClient(waiting.signal, async (client) => {
          const lost = new AbortController();
          client.on('error', () => lost.abort()).on('end', () => lost.abort());
          const ask = async (): Promise<boolean> =>
            (await client.query<{ mine: boolean }>('SELECT pg_try_advisory_lock($1) AS mine', [TURN_LOCK]))
              .rows[0].mine;
          while (!(await ask())) await sleep(EVERY_MS, undefined, { signal });
          // What is under way ends in order, and the lock is kept until then.
          signal.removeEventListener('abort', giveUp);
          this.lost = lost.signal;
          await work(AbortSignal.any([signal, lost.signal]));
        }),
      )
      .finally(() => signal.removeEventListener('abort', giveUp));
  }

  async keep(data: SentData): Promise<string> {
    const name = randomUUID();
    await this.database.query('INSERT INTO job_data (name, data) VALUES ($1, $2)', [
      name,
      JSON.stringify(data),
    ]);
    return name;
  }

  async kept(name: string): Promise<SentData> {
    const [row] = await this.database.query<{ data: string }>('SELECT data FROM job_data WHERE name = $1', [
      name,
    ]);
    if (!row) throw new UserError('not-found', 'the data that came with the request is not there any more');
    return JSON.parse(row.data) as SentData;
  }

  async forget(name: string): Promise<void> {
    await this.database.query('DELETE FROM job_data WHERE name = $1', [name]);
  }

  follow(id: number): { stop(): Promise<void> } {
    const { lost } = this;
    const stopping = new AbortController();
    const over = AbortSignal.any([stopping.signal, lost]);
    const log = new TrainingLog(logFile(this.folders, id));
    const lines: string[] = [];
    let passed: number | undefined;
    const pass = async (): Promise<void> => {
      lines.push(...(await log.next()));
      if (passed === lines.length) return;
      await this.addLines(id, lines, passed);
      passed = lines.length;
    };
    const passing = (async () => {
      while (!over.aborted) {
        // What a database that is away did not take comes again.
        await pass().catch(() => undefined);
        await sleep(EVERY_MS, undefined, { signal: over }).catch(() => undefined);
      }
    })();
    return {
      stop: async () => {
        stopping.abort();
        await passing;
        // The trainer was stopped, and what it told last is not what another worker's tells.
        if (lost.aborted) return;
        try {
          await pass();
          await this.passReport(id);
        } catch (error) {
          // Whoever goes on with the job passes it on.
          if (error instanceof UserError && error.kind === 'unavailable') throw error;
          this.complain(`job ${id}: its log and report are not passed on whole: ${messageOf(error)}`);
        }
      },
    };
  }

  /** @param passed how many are there */
  private async addLines(id: number, lines: readonly string[], passed = 0): Promise<void> {
    const added = lines.slice(passed);
    await this.database.transaction(async (queries) => {
      // Of a worker that had the job before, and may just be adding its last ones, or of a COMMIT that was not answered.
      await queries.query('DELETE FROM job_logs WHERE job = $1 AND line > $2', [id, passed]);
      await queries.query(
        `INSERT INTO job_logs (job, line, entry)
         SELECT $1, $2 + place, entry FROM unnest($3::text[]) WITH ORDINALITY AS added (entry, place)
         ON CONFLICT (job, line) DO UPDATE SET entry = excluded.entry`,
        [id, passed, added],
      );
      await this.tell(queries, id, { training: progressOf(lines) });
    });
  }

  private async passReport(id: number): Promise<void> {
    const html = await readReport(this.folders, id);
    if (html === undefined) return;
    await this.database.query(
      `INSERT INTO job_reports (job, html) VALUES ($1, $2)
       ON CONFLICT (job) DO UPDATE SET html = excluded.html`,
      [id, html],
    );
  }

  async tellEmbedding(id: number, embedding: Embedding): Promise<void> {
    if (performance.now() < this.toldAt + EVERY_MS) return;
    this.toldAt = performance.now();
    await this.tell(this.database, id, { embedding });
  }

  private async tell(queries: Queries, id: number, progress: JobProgress): Promise<void> {
    await queries.query('UPDATE jobs SET progress = $2 WHERE id = $1', [id, JSON.stringify(progress)]);
  }

  async progress({ id, state }: Pick<Job, 'id' | 'state'>): Promise<JobProgress> {
    if (state !== 'training' && state !== 'embedding') return {};
    const [row] = await this.database.query<{ progress: string | null }>(
      'SELECT progress FROM jobs WHERE id = $1',
      [id],
    );
    const { training, embedding } = JSON.parse(row?.progress ?? '{}') as JobProgress;
    return state === 'training' ? { training } : { embedding };
  }

  log(id: number): JobLog {
    let at = 0;
    return {
      next: async () => {
        // Fewer than before are those of another worker, which began again.
        const rows = await this.database.query<{ line: number; entry: string }>(
          `SELECT line, entry FROM job_logs
           WHERE job = $1 AND line > CASE WHEN EXISTS (SELECT FROM job_logs WHERE job = $1 AND line = $2) THEN $2 ELSE 0 END
           ORDER BY line`,
          [id, at],
        );
        at = rows.at(-1)?.line ?? at;
        return rows.map(({ entry }) => entry);
      },
    };
  }

  async report(id: number): Promise<string | undefined> {
    const [row] = await this.database.query<{ html: string }>('SELECT html FROM job_reports WHERE job = $1', [
      id,
    ]);
    return row?.html;
  }
}
