import assert from 'node:assert/strict';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { describe, it } from 'node:test';

import { Database, queriesOn, type Queries } from '../../server/postgres/database.js';
import { startPostgres, withoutPostgres } from './postgres-server.js';

/** A message of PostgreSQL's protocol: a letter, the length with itself, the body. */
function message(type: string, body: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeInt32BE(4 + body.length);
  return Buffer.concat([Buffer.from(type), length, body]);
}

describe('a connection to PostgreSQL', () => {
  it('that is cut in the moment it is there is an answer, not the end of the process', async () => {
    const fatal = 'SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0';
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      // Authenticated, ready and cut, all in one packet: nobody has the connection yet.
      socket.once('data', () =>
        socket.end(
          Buffer.concat([
            message('R', Buffer.alloc(4)),
            message('Z', Buffer.from('I')),
            message('E', Buffer.from(fatal)),
          ]),
        ),
      );
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const database = new Database(`postgres://somebody:secret@127.0.0.1:${port}/questions`);
    try {
      const away = { kind: 'unavailable', message: /PostgreSQL does not answer/ };
      await assert.rejects(database.query('SELECT 1'), away);
      await assert.rejects(
        database.transaction((queries) => queries.query('SELECT 1')),
        away,
      );
    } finally {
      await database.close();
      server.close();
    }
  });

  it('that is taken and never answered is given up', async () => {
    const sockets: Socket[] = [];
    const server = createServer((socket) => sockets.push(socket));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const database = new Database(`postgres://somebody:secret@127.0.0.1:${port}/questions`);
    const { signal } = new AbortController();
    const away = { kind: 'unavailable', message: /PostgreSQL does not answer/ };
    try {
      await Promise.all([
        assert.rejects(database.query('SELECT 1'), away),
        assert.rejects(
          database.withLock(1, signal, async () => assert.fail('it has no lock')),
          away,
        ),
      ]);
    } finally {
      await database.close();
      for (const socket of sockets) socket.destroy();
      server.close();
    }
  });
});

describe('PostgreSQL', { skip: withoutPostgres }, () => {
  it('is told to look whether this process is still there, on any connection', async () => {
    const server = await startPostgres();
    const database = new Database(await server.freshDatabase());
    const looks = async (queries: Queries): Promise<void> => {
      const settings = ['tcp_keepalives_idle', 'tcp_keepalives_interval', 'tcp_keepalives_count'];
      const rows = await queries.query<{ setting: string }>(
        'SELECT current_setting(name) AS setting FROM unnest($1::text[]) AS name',
        [settings],
      );
      const [idle, interval, count] = rows.map(({ setting }) => Number(setting));
      // 0 stands for the system's two hours.
      assert.ok(idle > 0 && idle + interval * count <= 30, rows.map(({ setting }) => setting).join());
    };
    try {
      await looks(database);
      await database.transaction(looks);
      await database.withOwnClient(new AbortController().signal, (client) => looks(queriesOn(client)));
    } finally {
      await database.close();
      await server.close();
    }
  });
});
