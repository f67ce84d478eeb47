import {
  columnsOfJob,
  toRecord,
  verdictText,
  type JobChange,
  type JobKnown,
  type JobRecord,
  type JobRow,
} from '../search/job-table.js';
import type { Queries } from './database.js';

/** How many documents were ever written, and what was found about them. */
const CHANGES = `(coalesce(pg_sequence_last_value(pg_get_serial_sequence('documents', 'key')::regclass), 0)
                  + (SELECT count(*) FROM feedback))`;

export async function addJob(queries: Queries, request: unknown): Promise<JobRecord> {
  const [row] = await queries.query<JobRow>(
    `INSERT INTO jobs (request, changes, state, created) VALUES ($1, ${CHANGES}, 'queued', $2) RETURNING *`,
    [JSON.stringify(request), new Date().toISOString()],
  );
  return toRecord(row);
}

/** @returns false when it is not any more as it is given, and nothing was changed */
export async function changeJob(queries: Queries, job: JobKnown, change: JobChange): Promise<boolean> {
  const { id, state, verdict } = job;
  const entries = Object.entries(columnsOfJob(change));
  const sets = entries.map(([name], i) => `${name} = $${i + 4}`).join(', ');
  const changed = await queries.query(
    `UPDATE jobs SET ${sets} WHERE id = $1 AND state = $2 AND verdict IS NOT DISTINCT FROM $3 RETURNING id`,
    [id, state, verdictText(verdict) ?? null, ...entries.map(([, value]) => value)],
  );
  return changed.length > 0;
}

/** Documents and feedback that came since the last job was asked for; all of them when there was none. */
export async function changesSinceLastJob(queries: Queries): Promise<number> {
  const [{ changes }] = await queries.query<{ changes: number }>(
    `SELECT ${CHANGES} - coalesce((SELECT changes FROM jobs ORDER BY id DESC LIMIT 1), 0) AS changes`,
  );
  return changes;
}

export async function allJobs(queries: Queries): Promise<JobRecord[]> {
  return (await queries.query<JobRow>('SELECT * FROM jobs ORDER BY id')).map(toRecord);
}
