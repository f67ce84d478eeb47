import assert from 'node:assert/strict';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';

import { withoutNginx } from '../../bench/nginx.js';
import { benchPgvector, pgvectorTable } from '../../bench/pgvector.js';
import { benchScale, scaleTable } from '../../bench/scale.js';
import { startPostgres, withoutPostgres, type PostgresServer } from '../server/postgres-server.js';
import { makeTinyModel } from '../support/tiny-model.js';

describe('the benchmark of several servers', { skip: withoutNginx || withoutPostgres }, () => {
  let scratch: string;
  let model: string;
  let postgres: PostgresServer;
  before(async () => {
    scratch = await mkdtemp(path.join(tmpdir(), 'bench-scale-'));
    await chmod(scratch, 0o755);
    model = path.join(scratch, 'tiny');
    await makeTinyModel(model);
    postgres = await startPostgres();
  });
  after(async () => {
    await postgres?.close();
    await rm(scratch, { recursive: true });
  });

  const words = ['disk', 'sound', 'boot', 'network', 'usb', 'drive', 'error', 'slow', 'screen', 'python'];
  const texts = Array.from({ length: 1000 }, (_, i) =>
    [i % 10, Math.floor(i / 10) % 10, Math.floor(i / 100)].map((w) => words[w]).join(' '),
  );

  it('fills both stores, asks them through nginx, and finds them filled the second time', async () => {
    const options = {
      ...{ model, texts, servers: [1, 2], concurrency: 2, seconds: 0.2, rounds: 1, say: () => undefined },
      ...{ store: await postgres.freshDatabase(), dataDir: path.join(scratch, 'kept') },
      ...{ workers: 2, ingest: 300 },
    };
    const first = await benchScale(options);
    assert.equal(first.documents, 500);
    assert.ok(first.postgres.fill!.documentsPerSecond > 0 && first.postgres.vectorBytes > 0);
    assert.deepEqual(
      [first.embedded.recallAt10, first.postgres.recallAt10],
      [1, 1],
      'exact search finds all',
    );
    assert.equal(first.postgres.index, 'exact');
    assert.ok(first.sameHits > 0.9, 'all but texts that are as near as each other');
    assert.deepEqual(
      first.loads.map(({ servers }) => servers),
      [undefined, 1, 2],
    );
    for (const { queriesPerSecond, p50, p99 } of first.loads) assert.ok(queriesPerSecond > 0 && p50 <= p99);
    const { ingesting } = first;
    assert.deepEqual([ingesting!.servers, ingesting!.documents, ingesting!.recallAt10], [2, 300, 1]);
    assert.ok(ingesting!.documentsPerSecond > 0 && ingesting!.queriesPerSecond > 0);
    const second = await benchScale({ ...options, workers: 0 });
    assert.equal(second.ingesting, undefined);
    assert.match(scaleTable(first), /2 servers, while 2 workers embed/);
    assert.deepEqual([second.embedded.fill, second.postgres.fill], [undefined, undefined]);
    assert.match(scaleTable(second), /^500 documents; PostgreSQL [^\n]*pgvector [^]*nginx, 2 servers/);
  });

  it('says what a vector costs PostgreSQL', async () => {
    const store = await postgres.freshDatabase();
    const sizes = [200, 1000];
    await assert.rejects(benchPgvector({ store, sizes, say: () => undefined }), { kind: 'empty' });
    await benchScale({
      ...{ model, texts, store, servers: [1], concurrency: 1, seconds: 0.1, rounds: 1 },
      ...{ workers: 0, ingest: 1 },
      ...{ dataDir: path.join(scratch, 'costs'), say: () => undefined },
    });
    const result = await benchPgvector({ store, sizes, say: () => undefined });
    assert.equal(result.documents, 500);
    // A larger index than there are vectors is left out.
    assert.deepEqual([...new Set(result.builds.map(({ vectors }) => vectors))], [200]);
    for (const { milliseconds, bytes } of result.builds)
      assert.ok(milliseconds > 0 && bytes > 4 * result.dimensions);
    assert.ok(result.vectorBytes > 4 * result.dimensions && result.documentBytes > 0);
    assert.deepEqual(result.index, [], 'so few are searched exactly');
    const recalls = result.signs.map(({ recallAt10 }) => recallAt10);
    assert.ok(recalls[0] > 0 && recalls[2] >= recalls[0] && recalls[2] > 0.9, recalls.join());
    assert.match(pgvectorTable(result), /signs, 400 candidates/);
  });

  it('says what it needs', async () => {
    const options = {
      ...{ model, texts, servers: [1], concurrency: 1, seconds: 0.1, rounds: 1 },
      ...{ workers: 0, ingest: 1 },
    };
    await assert.rejects(benchScale({ ...options, say: () => undefined }), {
      kind: 'usage',
      message: /--store postgres:\/\/.*--pgserver/,
    });
  });
});
