import PgBoss from 'pg-boss';

import { messageOf, UserError } from '../../base/errors.js';
import type { IngestCounts } from '../search/ingests.js';
import type { Database, Queries } from './database.js';

/** Of pg-boss's own tables: another program's pg-boss in the same database may be of another version. */
const SCHEMA = 'sentence_jepa_jobs';
/** The advisory lock of whoever makes them. */
const LOCK = 760_401_174;
const QUEUE = 'ingest';
/** Where pg-boss puts what it gave up. */
const DEAD = 'ingest-dead';
const FOREVER_DAYS = 36_500;
const DAY_SECONDS = 86_400;

export interface IngestTimes {
  /** A batch whose worker has not been heard of for so long is given to another one. */
  expireSeconds: number;
  /** How often workers look for such batches. */
  maintenanceSeconds: number;
  /** Before a batch that failed is tried again; twice as long each time, and up to as much again by chance. */
  retrySeconds: number;
  /** How often it is tried again. */
  retries: number;
  /** How often a worker that has nothing to do looks for something. */
  pollMs: number;
}

export const INGEST_TIMES: Readonly<IngestTimes> = Object.freeze({
  expireSeconds: 30,
  maintenanceSeconds: 15,
  retrySeconds: 2,
  retries: 5,
  pollMs: 1_000,
});

/** A batch for a worker. */
export interface IngestJob {
  batch: string;
  ingest: number;
}

/**
 * Batches of documents as jobs of pg-boss, which gives each to one worker, again when that fails or is not heard of, and
 * puts away what failed too often.
 */
export class IngestJobs {
  private boss!: PgBoss;
  private starting: Promise<void> | undefined;

  constructor(
    private readonly database: Database,
    private readonly options: {
      times: IngestTimes;
      /** Looks after jobs whose workers are gone; one process at a time does. */
      supervises: boolean;
      log(message: string): void;
    },
  ) {}

  /**
   * Makes pg-boss's tables where they are not there. What starts together waits for the first.
   * @throws UserError `unavailable` when PostgreSQL does not answer, or its user may not make them
   */
  start(): Promise<void> {
    this.starting ??= this.begin().catch((error: unknown) => {
      this.starting = undefined;
      throw error;
    });
    return this.starting;
  }

  private async begin(): Promise<void> {
    const { expireSeconds, retrySeconds, retries } = this.options.times;
    try {
      // pg-boss has a lock of its own, behind which it may still see what was there before it waited.
      await this.database.transaction(async (queries) => {
        await queries.query('SELECT pg_advisory_xact_lock($1)', [LOCK]);
        // One whose start has failed does not start again.
        this.boss = this.newBoss();
        await this.boss.start();
        await this.boss.createQueue(DEAD);
        await this.boss.createQueue(QUEUE, {
          name: QUEUE,
          deadLetter: DEAD,
          expireInSeconds: expireSeconds,
          retryLimit: retries,
          retryDelay: retrySeconds,
          retryBackoff: true,
        });
      });
    } catch (error) {
      if (!(error instanceof UserError && error.kind === 'forbidden')) throw error;
      throw new UserError(
        'unavailable',
        `${this.database.name}: jobs need the schema ${SCHEMA}, which the user of --store may not make (${messageOf(error.cause)}); GRANT CREATE ON DATABASE to that user`,
        { cause: error },
      );
    }
  }

  private newBoss(): PgBoss {
    const { times, supervises, log } = this.options;
    const boss = new PgBoss({
      db: executor(this.database),
      schema: SCHEMA,
      schedule: false,
      supervise: supervises,
      maintenanceIntervalSeconds: times.maintenanceSeconds,
      archiveCompletedAfterSeconds: 3_600,
      archiveFailedAfterSeconds: DAY_SECONDS,
      retentionDays: FOREVER_DAYS,
    });
    let complaint: string | undefined;
    boss.on('maintenance', () => (complaint = undefined));
    boss.on('error', ({ message }) => {
      if (message !== complaint) log(`the queue's maintenance: ${message}`);
      complaint = message;
    });
    return boss;
  }

  /** Within a transaction: workers see the batches when it ends. */
  async send(queries: Queries, ingest: number, batches: readonly string[]): Promise<void> {
    if (batches.length === 0) return;
    const jobs = batches.map((batch) => ({
      id: batch,
      name: QUEUE,
      data: { batch, ingest } satisfies IngestJob,
    }));
    await this.boss.insert(jobs, {
      db: { executeSql: async (sql, values) => ({ rows: await queries.query(sql, values) }) },
    });
  }

  /** One to work on; undefined when there is none, and while PostgreSQL is away. */
  async take(): Promise<IngestJob | undefined> {
    const [job] = await this.boss.fetch<IngestJob>(QUEUE);
    return job?.data;
  }

  /** Says that somebody works on them: pg-boss 10 has no call for it, and says that its tables may be worked with. */
  async stillAt(batches: readonly string[]): Promise<void> {
    if (batches.length === 0) return;
    await this.database.query(
      `UPDATE ${SCHEMA}.job SET started_on = now() WHERE name = $1 AND id = ANY ($2::uuid[]) AND state = 'active'`,
      [QUEUE, batches],
    );
  }

  async complete({ batch }: IngestJob): Promise<void> {
    await this.boss.complete(QUEUE, batch);
  }

  async fail({ batch }: IngestJob, message: string): Promise<void> {
    await this.boss.fail(QUEUE, batch, { message });
  }

  /** Has `bury` note each batch that was given up, and why. */
  async buryDead(bury: (job: IngestJob, reason: string) => Promise<void>): Promise<void> {
    const jobs = await this.boss.fetch<IngestJob>(DEAD, { includeMetadata: true, batchSize: 100 });
    for (const { id, data, output } of jobs) {
      await bury(data, (output as { message?: string }).message ?? NOT_HEARD_OF);
      await this.boss.complete(DEAD, id);
    }
  }

  async counts(): Promise<IngestCounts> {
    const counts = { queued: 0, active: 0, failed: 0 };
    const [{ exists }] = await this.database.query<{ exists: boolean }>(
      `SELECT to_regclass('${SCHEMA}.job') IS NOT NULL AS exists`,
    );
    if (!exists) return counts;
    const rows = await this.database.query<{ state: keyof IngestCounts; count: number }>(
      `SELECT CASE WHEN state < 'active' THEN 'queued' ELSE state::text END AS state, count(*) FROM ${SCHEMA}.job
       WHERE name = $1 AND state IN ('created', 'retry', 'active', 'failed') GROUP BY 1`,
      [QUEUE],
    );
    for (const { state, count } of rows) counts[state] = count;
    return counts;
  }

  /** Once it is started. */
  async close(): Promise<void> {
    await this.boss.stop({ graceful: false });
  }
}

/** What pg-boss says of a job that ran out of time is in its own words. */
const NOT_HEARD_OF = 'each worker that took it ended or hung before it was stored';

/** Statements for pg-boss. Several in one text are a transaction, which leaves its connection unusable where it fails. */
function executor(database: Database): PgBoss.Db {
  return {
    async executeSql(sql: string, values?: unknown[]) {
      if (values?.length) return { rows: await database.query(sql, values) };
      return database.withClient(async (client) => client.query(sql));
    },
  };
}
