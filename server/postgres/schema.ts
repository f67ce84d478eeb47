import path from 'node:path';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { runner } from 'node-pg-migrate';

import { UserError } from '../../base/errors.js';
import type { Database } from './database.js';

const folder = fileURLToPath(new URL('./migrations', import.meta.url));
const TABLE = 'migrations';

/**
 * Brings the tables up to this version's. Servers that start together wait for the first of them.
 *
 * @throws UserError `invalid` for the schema of a later version
 */
export async function migrate(database: Database): Promise<void> {
  const known = readdirSync(folder)
    .filter((file) => file.endsWith('.js'))
    .map((file) => path.basename(file, '.js'));
  await database.withClient(async (client) => {
    const [{ exists }] = (
      await client.query<{ exists: boolean }>(`SELECT to_regclass('${TABLE}') IS NOT NULL AS exists`)
    ).rows;
    if (exists) {
      const { rows } = await client.query<{ name: string }>(`SELECT name FROM ${TABLE} ORDER BY id`);
      const later = rows.find(({ name }) => !known.includes(name));
      if (later)
        throw new UserError(
          'invalid',
          `${database.name}: expected a schema up to ${known.at(-1)}, found ${later.name}, a later version's; use that version of sentence-jepa`,
        );
      if (rows.length === known.length) return;
    }
    const [{ schema }] = (await client.query<{ schema: string }>('SELECT current_schema() AS schema')).rows;
    await runner({
      dbClient: client,
      dir: folder,
      ignorePattern: '.*\\.map',
      direction: 'up',
      migrationsTable: TABLE,
      schema,
      advisoryLockMode: 'wait',
      log: () => undefined,
    });
  });
}
