import { after, before, describe } from 'node:test';

import { openPostgresCollection } from '../../server/postgres/open-collection.js';
import { collectionSuite } from './collection-suite.js';
import { startPostgres, withoutPostgres, type PostgresServer } from './postgres-server.js';

describe('on PostgreSQL', { skip: withoutPostgres }, () => {
  let server: PostgresServer;
  before(async () => {
    server = await startPostgres();
  });
  after(() => server?.close());

  collectionSuite({
    fresh: () => server.freshDatabase(),
    open: (url, options) => openPostgresCollection({ url, ...options }),
  });
});
