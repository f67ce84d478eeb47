import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { chownSync, existsSync, mkdirSync } from 'node:fs';
import { totalmem } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import pg from 'pg';

import { UserError } from '../base/errors.js';
import { queriesOn } from '../server/postgres/database.js';
import { allGenerations, hasGenerations, vectorsTable } from '../server/postgres/generations.js';
import { freePort, hasEnded } from './processes.js';

/** PostgreSQL refuses to run as root; this user is everywhere. */
const NOBODY = 65_534;
const user = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};

/** Of the machine's memory, as PostgreSQL's documentation has it; and for the index while it is made. */
const SHARED_BUFFERS = 1 / 4;
const INDEX_MEMORY = 1 / 8;

/** A PostgreSQL with pgvector that was started for a test or a measurement. */
export interface StartedPostgres {
  /** Of a superuser, to the database that is always there. */
  url: string;
  start(): Promise<void>;
  /** A fast shutdown: connections are cut. */
  stop(): Promise<void>;
}

/**
 * Starts PostgreSQL from the binaries of PyPI's pgserver, on a free port of 127.0.0.1.
 *
 * @param installed where `pip install --target` put pgserver
 * @param folder for its data, which are made when they are not there; the user that it runs as must be able to enter it
 * @param settings name=value
 * @throws UserError `not-found` without the binaries, `unavailable` when it can't be started
 */
export async function startPgserver(
  installed: string,
  folder: string,
  settings: readonly string[] = [],
): Promise<StartedPostgres> {
  const bin = path.join(installed, 'pgserver/pginstall/bin');
  if (!existsSync(bin)) throw new UserError('not-found', `pgserver: ${bin} is not there`);
  mkdirSync(folder, { recursive: true });
  if (user.uid !== undefined) chownSync(folder, user.uid, user.gid);
  const data = path.join(folder, 'data');
  if (!existsSync(data)) {
    const initdb = spawnSync(
      path.join(bin, 'initdb'),
      ['-D', data, '-U', 'postgres', '--auth=trust', '-E', 'UTF8', '--locale=C', '--no-sync'],
      { ...user, cwd: folder, encoding: 'utf8' },
    );
    if (initdb.status !== 0)
      throw new UserError('unavailable', `initdb: ${initdb.stderr || initdb.error?.message}`);
  }
  const port = await freePort();
  const url = `postgres://postgres:secret-of-the-test@127.0.0.1:${port}/postgres`;
  let server: ChildProcess | undefined;
  const killNow = (): void => void server?.kill('SIGQUIT');
  const start = async (): Promise<void> => {
    server = spawn(
      path.join(bin, 'postgres'),
      [
        ...['-D', data, '-p', String(port), '-h', '127.0.0.1', '-k', ''],
        ...settings.flatMap((each) => ['-c', each]),
      ],
      { ...user, cwd: folder, stdio: 'ignore' },
    );
    process.once('exit', killNow);
    await untilAnswers(url, server);
  };
  const stop = async (): Promise<void> => {
    const stopping = server;
    server = undefined;
    process.off('exit', killNow);
    if (!stopping || hasEnded(stopping)) return;
    const ended = new Promise((resolve) => stopping.once('exit', resolve));
    stopping.kill('SIGINT');
    await ended;
  };
  await start();
  return { url, start, stop };
}

/** One for a measurement, in a folder that keeps it. @throws UserError `usage` without `pgserver` */
export async function startOwn(pgserver: string | undefined, folder: string): Promise<StartedPostgres> {
  if (pgserver === undefined)
    throw new UserError(
      'usage',
      'expected a PostgreSQL: --store postgres://..., or --pgserver DIR, where pip install --target DIR pgserver put one',
    );
  const mib = (share: number): string => `${Math.round((totalmem() * share) / 2 ** 20)}MB`;
  return startPgserver(pgserver, path.join(folder, 'postgres'), [
    `shared_buffers=${mib(SHARED_BUFFERS)}`,
    `maintenance_work_mem=${mib(INDEX_MEMORY)}`,
  ]);
}

/** A connection of the caller's own. */
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

async function untilAnswers(at: string, server: ChildProcess): Promise<void> {
  for (let tries = 0; ; tries++)
    try {
      return await onConnection(at, async () => undefined);
    } catch (error) {
      if (hasEnded(server))
        throw new UserError(
          'unavailable',
          `PostgreSQL ended with ${server.exitCode ?? server.signalCode} before it answered`,
        );
      if (tries === 300) throw error;
      await sleep(100);
    }
}

/** The live generation's table and index, as they lie on the disk. */
export interface StoredVectors {
  version: string;
  table: string;
  dimensions: number;
  /** Of the vectors with their index, and of the index alone. */
  vectorBytes: number;
  indexBytes: number;
  /** Undefined where there is no index. */
  index?: { half: boolean };
}

/** Undefined where there is no collection. */
export async function storedVectors(client: pg.Client): Promise<StoredVectors | undefined> {
  const queries = queriesOn(client);
  if (!(await hasGenerations(queries))) return undefined;
  const live = (await allGenerations(queries)).find(({ state }) => state === 'live');
  if (!live) return undefined;
  const table = vectorsTable(live.id);
  const [row] = await queries.query<{
    version: string;
    bytes: number;
    index: number;
    definition: string | null;
  }>(
    `SELECT 'PostgreSQL ' || current_setting('server_version') || ', pgvector ' || extversion AS version,
            pg_total_relation_size('${table}') AS bytes,
            coalesce(pg_relation_size(to_regclass('${table}_hnsw')), 0) AS index,
            pg_get_indexdef(to_regclass('${table}_hnsw')) AS definition
     FROM pg_extension WHERE extname = 'vector'`,
  );
  return {
    version: row.version,
    table,
    dimensions: live.dimensions,
    vectorBytes: row.bytes,
    indexBytes: row.index,
    ...(row.definition !== null && { index: { half: row.definition.includes('halfvec') } }),
  };
}
