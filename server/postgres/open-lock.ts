import { UserError } from '../../base/errors.js';
import type { Database, Queries } from './database.js';

/**
 * Servers share this advisory lock on the connection that listens, and a migration wants it alone: each knows of the other,
 * and the lock ends with the connection, kill -9 included. Until a server that was cut off has it again a migration may take
 * it; so each transaction that writes shares it as well (migrations/0006).
 */
const LOCK = 760_401_176;

export const MIGRATING = 'a migration is at work on it; wait until it ends';

/** To the end of the connection. @returns false when a migration has it */
export function lockShared(queries: Queries): Promise<boolean> {
  return locked(queries, 'pg_try_advisory_lock_shared');
}

/** To the end of the connection. @returns false when servers or another migration have it */
export function lockAlone(queries: Queries): Promise<boolean> {
  return locked(queries, 'pg_try_advisory_lock');
}

/** @throws UserError `not-ready` for a database that a migration has not finished */
export async function refuseUnfinished(database: Database): Promise<void> {
  const [record] = await database.query<{ source: string }>(
    'SELECT source FROM migrated_from WHERE finished IS NULL',
  );
  if (record)
    throw new UserError(
      'not-ready',
      `${database.name}: the migration from ${record.source} is not finished. Run it again, or give it up by making an empty database`,
    );
}

async function locked(queries: Queries, lock: string): Promise<boolean> {
  const [row] = await queries.query<{ locked: boolean }>(`SELECT ${lock}(${LOCK}) AS locked`);
  return row.locked;
}
