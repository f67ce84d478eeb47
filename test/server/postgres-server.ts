import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { onConnection, startPgserver } from '../../bench/pgserver.js';

export { onConnection };

/** A PostgreSQL for the tests: one that is given, or one that is started from the binaries of PyPI's pgserver. */
export interface PostgresServer {
  /** Of a database of its own, empty. */
  freshDatabase(): Promise<string>;
  /** Where the test may not stop the server, undefined. */
  restart?: { stop(): Promise<void>; start(): Promise<void> };
  close(): Promise<void>;
}

/** SENTENCE_JEPA_TEST_POSTGRES is a URL, SENTENCE_JEPA_TEST_PGSERVER where `pip install --target` put pgserver. */
const url = process.env.SENTENCE_JEPA_TEST_POSTGRES;
const installed = process.env.SENTENCE_JEPA_TEST_PGSERVER;

/** Why there is none; false when there is. For `describe`'s skip. */
export const withoutPostgres: string | false =
  url || installed
    ? false
    : 'no PostgreSQL: give SENTENCE_JEPA_TEST_POSTGRES=postgres://..., or pip install --target DIR pgserver and SENTENCE_JEPA_TEST_PGSERVER=DIR';

export async function startPostgres(): Promise<PostgresServer> {
  if (url) return { freshDatabase: () => createDatabase(url), close: async () => undefined };
  const folder = mkdtempSync(path.join(tmpdir(), 'sentence-jepa-postgres-'));
  // Without fsync: the machine itself does not fall over in a test, and a database is made for each.
  const { url: admin, start, stop } = await startPgserver(installed!, folder, ['fsync=off']);
  return {
    freshDatabase: () => createDatabase(admin),
    restart: { stop, start },
    async close() {
      await stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

let databases = 0;

export async function createDatabase(admin: string): Promise<string> {
  const name = `sentence_jepa_test_${process.pid}_${databases++}`;
  await onConnection(admin, async (client) => {
    await client.query(`DROP DATABASE IF EXISTS ${name}`);
    await client.query(`CREATE DATABASE ${name}`);
  });
  const database = new URL(admin);
  database.pathname = `/${name}`;
  return database.href;
}
