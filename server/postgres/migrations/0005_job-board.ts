import type { MigrationBuilder } from 'node-pg-migrate';

/**
 * What the worker that runs a job tells, for the servers that are asked for it (job-board.ts): lines of the trainer's log,
 * its report, how far the job is. `job_data` is what came with a request.
 */
export function up(migration: MigrationBuilder): void {
  migration.sql(`
    ALTER TABLE jobs ADD COLUMN progress text;

    CREATE TABLE job_logs (
      job integer REFERENCES jobs ON DELETE CASCADE,
      line integer,
      entry text NOT NULL,
      PRIMARY KEY (job, line)
    );

    CREATE TABLE job_reports (
      job integer PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
      html text NOT NULL
    );

    CREATE TABLE job_data (
      name uuid PRIMARY KEY,
      data text NOT NULL
    );
  `);
}

/** Migrations go forward; a backup is the way back. */
export const down = false;
