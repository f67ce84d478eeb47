import type Database from 'better-sqlite3';

import { translated } from './schema.js';

/** The steps of a training job, in order; then how it can end. */
export const JOB_STATES = [
  'queued',
  'training',
  'embedding',
  'judging',
  'done',
  'failed',
  'cancelled',
] as const;
export type JobState = (typeof JOB_STATES)[number];

export const ENDED_JOBS: readonly JobState[] = ['done', 'failed', 'cancelled'];

/** A training job as it is kept. `R` is what was asked for, `V` what came of it. */
export interface JobRecord<R = unknown, V = unknown> {
  id: number;
  request: R;
  state: JobState;
  /** ISO 8601. */
  created: string;
  started?: string;
  ended?: string;
  /** Why it failed. */
  error?: string;
  verdict?: V;
}

/** What of a job changes. */
export type JobChange = Partial<Pick<JobRecord, 'state' | 'started' | 'ended' | 'error' | 'verdict'>>;

/** What a change begins with. */
export type JobKnown = Pick<JobRecord, 'id' | 'state' | 'verdict'>;

/** How many documents were ever written, and what was found about them. */
const CHANGES = `(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'documents'), 0)
                  + (SELECT count(*) FROM feedback))`;

/** As it is stored. */
export interface JobRow extends Record<string, unknown> {
  id: number;
  request: string;
  state: JobState;
  created: string;
  started: string | null;
  ended: string | null;
  error: string | null;
  verdict: string | null;
}

/** Training jobs in SQLite. Synchronous, as the store that it is a part of; each call is durable on return. */
export class JobTable {
  constructor(
    private readonly db: Database.Database,
    private readonly file: string,
  ) {}

  add(request: unknown): JobRecord {
    const { lastInsertRowid } = translated(this.file, () =>
      this.db
        .prepare(`INSERT INTO jobs(request, changes, state, created) VALUES (?, ${CHANGES}, 'queued', ?)`)
        .run(JSON.stringify(request), new Date().toISOString()),
    );
    return this.all().find(({ id }) => id === Number(lastInsertRowid))!;
  }

  /** @returns false when it is not any more as it is given, and nothing was changed */
  change({ id, state, verdict }: JobKnown, change: JobChange): boolean {
    const entries = Object.entries(columnsOfJob(change));
    const sets = entries.map(([name]) => `${name} = ?`).join(', ');
    const { changes } = translated(this.file, () =>
      this.db
        .prepare(`UPDATE jobs SET ${sets} WHERE id = ? AND state = ? AND verdict IS ?`)
        .run(...entries.map(([, value]) => value), id, state, verdictText(verdict) ?? null),
    );
    return changes > 0;
  }

  /** Documents and feedback that came since the last job was asked for; all of them when there was none. */
  changesSinceLast(): number {
    return this.db
      .prepare(`SELECT ${CHANGES} - coalesce((SELECT changes FROM jobs ORDER BY id DESC LIMIT 1), 0)`)
      .pluck()
      .get() as number;
  }

  all(): JobRecord[] {
    return (this.db.prepare('SELECT * FROM jobs ORDER BY id').all() as JobRow[]).map(toRecord);
  }
}

/** What is set, as it is stored. */
export function columnsOfJob({ verdict, ...rest }: JobChange): Record<string, string> {
  return { ...rest, ...(verdict !== undefined && { verdict: verdictText(verdict)! }) };
}

/** A verdict as it is stored: it comes back from there as the same text. */
export function verdictText(verdict: unknown): string | undefined {
  return verdict === undefined ? undefined : JSON.stringify(verdict);
}

export function toRecord({ id, request, state, created, started, ended, error, verdict }: JobRow): JobRecord {
  return {
    id,
    request: JSON.parse(request) as unknown,
    state,
    created,
    ...(started !== null && { started }),
    ...(ended !== null && { ended }),
    ...(error !== null && { error }),
    ...(verdict !== null && { verdict: JSON.parse(verdict) as unknown }),
  };
}
