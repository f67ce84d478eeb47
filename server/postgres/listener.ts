import pg from 'pg';

import { queriesOn } from './database.js';
import { lockShared } from './open-lock.js';

/** On which a server says that generations have changed. */
export const CHANNEL = 'sentence_jepa_generations';

/**
 * Calls `look` when another server says that something changed, and every so often anyway: a connection that listens may
 * be cut, or lead through a pooler that does not pass notifications on.
 */
export class Listener {
  private client: pg.Client | undefined;
  private timer: NodeJS.Timeout | undefined;
  private running: Promise<void> = Promise.resolve();
  private isClosed = false;

  constructor(
    private readonly url: string,
    private readonly everyMs: number,
    private readonly look: () => Promise<void>,
  ) {}

  start(): void {
    this.timer = setInterval(() => {
      this.run(async () => {
        await this.connect();
        await this.look();
      });
    }, this.everyMs);
    this.timer.unref();
    this.run(() => this.connect());
  }

  async close(): Promise<void> {
    this.isClosed = true;
    clearInterval(this.timer);
    await this.running;
    await this.client?.end().catch(() => undefined);
  }

  private isRunning = false;

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
      connectionString: this.url,
      connectionTimeoutMillis: 5_000,
      keepAlive: true,
      application_name: 'sentence-jepa listener',
    });
    const lose = (): void => {
      if (this.client === client) this.client = undefined;
    };
    client.on('error', lose).on('end', lose);
    client.on('notification', () => this.run(this.look));
    try {
      await client.connect();
      await client.query(`LISTEN ${CHANNEL}`);
      if (!(await lockShared(queriesOn(client)))) throw new Error('a migration has the collection');
    } catch (error) {
      await client.end().catch(() => undefined);
      throw error;
    }
    this.client = client;
  }
}
