import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

import { startPostgres, withoutPostgres, type PostgresServer } from './postgres-server.js';

const folder = fileURLToPath(new URL('..', import.meta.url));
/** Every test file whose servers have a collection, but for those of what is kept in a folder: maps and backups. */
const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((file) =>
  /^(clients\/.*|server\/(http-.*|jobs|openapi|pages|tracing))\.test\.js$/.test(file),
);

describe('the HTTP tests, with collections on PostgreSQL', { skip: withoutPostgres }, () => {
  let server: PostgresServer;
  before(async () => {
    server = await startPostgres();
  });
  after(() => server?.close());

  for (const file of files)
    it(file.replace(/\.js$/, '.ts'), async () => {
      const env: NodeJS.ProcessEnv = {
        ...process.env,
        SENTENCE_JEPA_TEST_STORE: await server.freshDatabase(),
      };
      // Without it the runner reports to a person, not to the runner that started this file.
      delete env.NODE_TEST_CONTEXT;
      await new Promise<void>((resolve, reject) => {
        execFile(process.execPath, ['--test', path.join(folder, file)], { env }, (error, stdout, stderr) => {
          if (error) reject(new assert.AssertionError({ message: `${stdout}${stderr}` }));
          else resolve();
        });
      });
    });
});
