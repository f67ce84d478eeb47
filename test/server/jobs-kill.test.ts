import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { tortureJobs } from '../torture/jobs.js';

describe('a server that is killed while it trains', () => {
  it('goes on with one model whole and every write', async () => {
    const { kills, violations, acknowledged } = await tortureJobs({
      kills: 2,
      seed: 4,
      say: () => undefined,
    });
    assert.equal(kills, 2);
    assert.ok(acknowledged > 0);
    assert.deepEqual(violations, []);
  });
});
