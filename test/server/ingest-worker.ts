import { UserError } from '../../base/errors.js';
import { openPostgresCollection } from '../../server/postgres/open-collection.js';
import { fakeInference } from './fake-inference.js';

/** A worker that takes a batch, says so, and never gets to its end. See postgres-ingest.test.ts. */
const url = process.argv[2];
const inference = fakeInference();
const collection = await openPostgresCollection({
  url,
  inference: {
    ...inference,
    encode() {
      process.send?.('encoding');
      return new Promise<Float32Array>(() => undefined);
    },
  },
  ingest: { expireSeconds: 1, maintenanceSeconds: 1, pollMs: 20 },
});
if (!collection.ingests) throw new UserError('usage', 'no queue');
await collection.ingests.work();
process.once('disconnect', () => process.exit(1));
