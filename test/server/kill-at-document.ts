import pg from 'pg';

import { Sqlite } from '../../base/sqlite.js';

/**
 * Loaded before a migration (`node --import`), which ends as kill -9 ends it when it comes to store its n-th document:
 * in PostgreSQL before the statement that has it, in a folder within the transaction. `KILL_AT_DOCUMENT=n`.
 */
let left = Number(process.env.KILL_AT_DOCUMENT);
const storing = (documents: number): void => {
  left -= documents;
  if (left <= 0) process.kill(process.pid, 'SIGKILL');
};
const isInsert = (sql: unknown): boolean =>
  typeof sql === 'string' && sql.startsWith('INSERT INTO documents');

const query = pg.Client.prototype.query as (...args: unknown[]) => unknown;
pg.Client.prototype.query = function (this: pg.Client, ...args: unknown[]) {
  if (isInsert(args[0])) storing((args[1] as unknown[][])[0].length);
  return query.apply(this, args);
} as typeof pg.Client.prototype.query;

const prepare = Sqlite.prototype.prepare as (sql: string) => { run(...values: unknown[]): unknown };
Sqlite.prototype.prepare = function (this: InstanceType<typeof Sqlite>, sql: string) {
  const statement = prepare.call(this, sql);
  if (!isInsert(sql)) return statement;
  const run = statement.run.bind(statement);
  return Object.assign(statement, {
    run(...values: unknown[]) {
      storing(1);
      return run(...values);
    },
  });
} as typeof Sqlite.prototype.prepare;
