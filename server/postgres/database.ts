import pg from 'pg';

import { messageOf, UserError } from '../../base/errors.js';
import { MIGRATING } from './open-lock.js';
import { storeName } from './store-name.js';

/** Connections that a server holds at most. */
const CONNECTIONS = 10;
const CONNECT_MS = 5_000;
const STATEMENT_MS = 60_000;
/** Seconds after which PostgreSQL may be back. */
const RETRY_AFTER = 5;

/** What a connection is opened with. */
export const CONNECTION = {
  connectionTimeoutMillis: CONNECT_MS,
  // A server that is gone without a word is noticed within half a minute.
  keepAlive: true,
  keepAliveInitialDelayMillis: 10_000,
} as const;

/**
 * PostgreSQL, too, notices within half a minute when this process's machine is gone, and gives free what it has locked; by
 * itself it takes over two hours. A Unix socket has no use for it.
 */
export async function noticeOurEnd(client: pg.ClientBase): Promise<void> {
  await client.query(
    'SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 10; SET tcp_user_timeout = 30000',
  );
}

/** Of class 08 all, and what a server says that stops, starts or has no room (PostgreSQL's appendix A). */
const AWAY = new Set(['57P01', '57P02', '57P03', '53300', '25006']);
const NETWORK = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'ENOENT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
]);

// Counts and keys: below 2^53.
pg.types.setTypeParser(pg.types.builtins.INT8, Number);

export type Row = Record<string, unknown>;

/** What runs statements: the pool, or the connection that a transaction is on. */
export interface Queries {
  query<R extends Row>(sql: string, values?: readonly unknown[]): Promise<R[]>;
}

/** On one connection. Its errors are PostgreSQL's own. */
export function queriesOn(client: pg.ClientBase): Queries {
  return {
    query: async <R extends Row>(sql: string, values: readonly unknown[] = []) =>
      (await client.query<R>(sql, [...values])).rows,
  };
}

/** A pool of connections whose errors are for the user. The password of its URL is never part of a message. */
export class Database implements Queries {
  /** postgres://host:port/database */
  readonly name: string;
  private readonly pool: pg.Pool;
  private isClosed = false;

  /**
   * @param option where the URL was given
   * @throws UserError `usage`
   */
  constructor(
    readonly url: string,
    private readonly option = '--store',
  ) {
    this.name = storeName(url, option);
    this.pool = new pg.Pool({
      connectionString: url,
      max: CONNECTIONS,
      ...CONNECTION,
      statement_timeout: STATEMENT_MS,
      query_timeout: STATEMENT_MS + CONNECT_MS,
      application_name: 'sentence-jepa',
      onConnect: noticeOurEnd,
    });
    // An idle connection that is cut is replaced when it is needed.
    this.pool.on('error', () => undefined);
    // One that is cut between two statements says so here, even before somebody has it: the next statement fails by it.
    this.pool.on('connect', (client) => client.on('error', () => undefined));
  }

  async query<R extends Row>(sql: string, values: readonly unknown[] = []): Promise<R[]> {
    return this.saying(async () => (await this.pool.query<R>(sql, [...values])).rows);
  }

  /** Durable when it resolves; nothing of it is there when it rejects, unless the connection was cut while it committed. */
  async transaction<T>(work: (queries: Queries) => Promise<T>): Promise<T> {
    return this.withClient(async (client) => {
      await client.query('BEGIN');
      const result = await work(queriesOn(client));
      await client.query('COMMIT');
      return result;
    });
  }

  /** A connection for `use` alone; not used again when that fails, which ends whatever was open on it. */
  async withClient<T>(use: (client: pg.PoolClient) => Promise<T>): Promise<T> {
    return this.saying(async () => {
      const client = await this.pool.connect();
      let isWhole = false;
      try {
        const result = await use(client);
        isWhole = true;
        return result;
      } finally {
        client.release(!isWhole);
      }
    });
  }

  /**
   * A connection outside the pool for statements that may take hours, or for a lock that it holds until its end. Its errors are
   * PostgreSQL's own.
   *
   * @param signal cuts it
   */
  async withOwnClient<T>(
    signal: AbortSignal,
    use: (client: pg.Client) => Promise<T>,
    purpose = 'lock',
  ): Promise<T> {
    signal.throwIfAborted();
    const client = new pg.Client({
      connectionString: this.url,
      ...CONNECTION,
      application_name: `sentence-jepa ${purpose}`,
    });
    client.on('error', () => undefined);
    const cut = (): void => void client.end().catch(() => undefined);
    try {
      // Cut while it connects, it would never be done with that.
      await client.connect();
      signal.throwIfAborted();
      signal.addEventListener('abort', cut);
      await noticeOurEnd(client);
      await client.query('SET statement_timeout = 0');
      return await use(client);
    } finally {
      signal.removeEventListener('abort', cut);
      await client.end().catch(() => undefined);
    }
  }

  /** One at a time among all that ask for this advisory lock; whoever ends in the middle gives it back. */
  async withLock<T>(lock: number, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    return this.saying(() =>
      this.withOwnClient(signal, async (client) => {
        await client.query('SELECT pg_advisory_lock($1)', [lock]);
        return work();
      }),
    );
  }

  async close(): Promise<void> {
    if (this.isClosed) return;
    this.isClosed = true;
    await this.pool.end();
  }

  /** Runs something on the database; PostgreSQL's errors become ones that say what to do. */
  async saying<T>(work: () => Promise<T>): Promise<T> {
    if (this.isClosed) throw new UserError('not-ready', 'the collection is closed');
    try {
      return await work();
    } catch (error) {
      throw userError(this.name, this.option, error);
    }
  }
}

/** What PostgreSQL or the way to it says, in words that say what to do; anything else as it is. */
function userError(name: string, option: string, error: unknown): unknown {
  if (error instanceof UserError || !(error instanceof Error)) return error;
  const { code = '' } = error as { code?: string };
  const say = (kind: ConstructorParameters<typeof UserError>[0], words: string): UserError =>
    new UserError(kind, `${name}: ${words}`, {
      cause: error,
      ...(kind === 'unavailable' && { retryAfter: RETRY_AFTER }),
    });
  if (code === '28P01' || code === '28000')
    return say('invalid', `PostgreSQL refuses the user or the password of ${option} (${error.message})`);
  if (code === '3D000') return say('not-found', 'there is no such database; make it with createdb');
  if (code === '0A000' && /extension "vector"/.test(error.message))
    return say(
      'invalid',
      'this PostgreSQL has no pgvector; install it (https://github.com/pgvector/pgvector)',
    );
  if (code === '42501')
    return say('forbidden', `${error.message}; pgvector and tables need a user who may create them`);
  // By migrations/0006.
  if (code === '55006') return say('unavailable', MIGRATING);
  if (code === '40P01') return say('unavailable', 'two writes waited for each other; send this one again');
  if (code === '54000') return say('too-large', `PostgreSQL can't hold this: ${error.message}`);
  if (code === '53100')
    return say('unavailable', "PostgreSQL's disk is full; nothing of the write is stored");
  if (code === '57014') return say('unavailable', `PostgreSQL took longer than ${STATEMENT_MS / 1000} s`);
  const isAway =
    code.startsWith('08') ||
    AWAY.has(code) ||
    NETWORK.has(code) ||
    error instanceof AggregateError ||
    /connection (terminated|timeout)|timeout (exceeded|expired)|not queryable|query read timeout/i.test(
      error.message,
    );
  return isAway ? say('unavailable', `PostgreSQL does not answer (${code || messageOf(error)})`) : error;
}
