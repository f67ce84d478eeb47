import pg from 'pg';

import { UserError } from '../../base/errors.js';
import { CONNECTION, noticeOurEnd, queriesOn, type Database } from './database.js';
import { lockShared, MIGRATING } from './open-lock.js';

/** On which a server says that generations have changed. */
export const CHANNEL = 'sentence_jepa_generations';

/**
 * The connection that says to migrations that a server has the collection open, and on which it hears of others that change
 * something. It may be cut, or lead through a pooler that does not pass notifications on: so it is made again, and what is to be
 * looked at is looked at, every so often anyway.
 */
export class Listener {
  private client: pg.Client | undefined;
  private timer: NodeJS.Timeout | undefined;
  private running: Promise<void> = Promise.resolve();
  private isRunning = false;
  private isClosed = false;
  private look = async (): Promise<void> => undefined;

  constructor(
    private readonly database: Database,
    private readonly everyMs: number,
  ) {}

  /** @throws UserError `unavailable` when a migration has the collection, or PostgreSQL does not answer */
  async open(): Promise<void> {
    await this.database.saying(() => this.connect());
    this.timer = setInterval(() => {
      this.run(async () => {
        await this.connect().catch(() => undefined);
        await this.look();
      });
    }, this.everyMs);
    this.timer.unref();
  }

  /** Calls `look` from here on. */
  follow(look: () => Promise<void>): void {
    this.look = look;
  }

  async close(): Promise<void> {
    this.isClosed = true;
    clearInterval(this.timer);
    await this.running;
    await this.client?.end().catch(() => undefined);
  }

  /** One at a time. A PostgreSQL that is away is for the requests to tell; the next turn looks again. */
  private run(work: () => Promise<void>): void {
    if (this.isRunning || this.isClosed) return;
    this.isRunning = true;
    this.running = work()
      .catch(() => undefined)
      .finally(() => (this.isRunning = false));
  }

  private async connect(): Promise<void> {
    if (this.client) return;
    const client = new pg.Client({
      connectionString: this.database.url,
      ...CONNECTION,
      application_name: 'sentence-jepa listener',
    });
    const lose = (): void => {
      if (this.client === client) this.client = undefined;
    };
    client.on('error', lose).on('end', lose);
    client.on('notification', () => this.run(this.look));
    this.client = client;
    try {
      await client.connect();
      await noticeOurEnd(client);
      await client.query(`LISTEN ${CHANNEL}`);
      if (!(await lockShared(queriesOn(client))))
        throw new UserError('unavailable', `${this.database.name}: ${MIGRATING}`);
    } catch (error) {
      lose();
      await client.end().catch(() => undefined);
      throw error;
    }
  }
}
