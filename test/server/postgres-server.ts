import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { chownSync, existsSync, mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import pg from 'pg';

/** PostgreSQL refuses to run as root; this user is everywhere. */
const NOBODY = 65_534;
const user = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};

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
  const bin = path.join(installed!, 'pgserver/pginstall/bin');
  if (!existsSync(bin)) throw new Error(`SENTENCE_JEPA_TEST_PGSERVER: ${bin} is not there`);
  const folder = mkdtempSync(path.join(tmpdir(), 'sentence-jepa-postgres-'));
  if (user.uid !== undefined) chownSync(folder, user.uid, user.gid);
  const data = path.join(folder, 'data');
  const initdb = spawnSync(
    path.join(bin, 'initdb'),
    ['-D', data, '-U', 'postgres', '--auth=trust', '-E', 'UTF8', '--locale=C', '--no-sync'],
    { ...user, cwd: folder, encoding: 'utf8' },
  );
  if (initdb.status !== 0) throw new Error(`initdb: ${initdb.stderr || initdb.error?.message}`);
  const port = await freePort();
  const admin = `postgres://postgres:secret-of-the-test@127.0.0.1:${port}/postgres`;
  let server: ChildProcess | undefined;
  const start = async (): Promise<void> => {
    server = spawn(
      path.join(bin, 'postgres'),
      // Without fsync: the machine itself does not fall over in a test, and a database is made for each.
      ['-D', data, '-p', String(port), '-h', '127.0.0.1', '-k', '', '-c', 'fsync=off'],
      {
        ...user,
        cwd: folder,
        stdio: 'ignore',
      },
    );
    await answers(admin);
  };
  const stop = async (): Promise<void> => {
    const stopping = server;
    server = undefined;
    if (!stopping) return;
    const ended = new Promise((resolve) => stopping.once('exit', resolve));
    // A fast shutdown: connections are cut.
    stopping.kill('SIGINT');
    await ended;
  };
  await start();
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

/** A connection of the test's own. */
export async function onConnection<T>(at: string, use: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: at });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}

async function answers(at: string): Promise<void> {
  for (let tries = 0; ; tries++)
    try {
      return await onConnection(at, async () => undefined);
    } catch (error) {
      if (tries === 300) throw error;
      await sleep(100);
    }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}
