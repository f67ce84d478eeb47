import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { startPostgres, withoutPostgres } from '../server/postgres-server.js';
import { answerViolation } from './answers.js';
import { fuzz } from './fuzz.js';
import { validRequests, type FuzzRequest } from './valid-requests.js';

const request = (id: string): FuzzRequest => validRequests.find(({ operation }) => operation.id === id)!;

describe('what is wrong with an answer', () => {
  const violation = (id: string, status: number, body: unknown, type = 'application/json'): string =>
    answerViolation(request(id), {
      status,
      headers: { 'x-request-id': 'x', 'content-type': type },
      body: Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)),
    }) ?? '';
  const error = { error: 'no', error_type: 'invalid' };

  it('is a failure, a status or type that is not described, and a body that is not what its schema says', () => {
    assert.equal(violation('embed', 200, [[0.5]]), '');
    assert.equal(violation('embed', 422, error), '');
    assert.equal(violation('health', 503, error), '');
    assert.match(violation('embed', 500, error), /^500/);
    assert.match(violation('embed', 200, [['a']]), /must be number/);
    assert.match(violation('embed', 200, 'no JSON'), /no JSON/);
    assert.match(violation('embed', 200, '<p>', 'text/html'), /text\/html is not described/);
    assert.match(violation('embed', 201, [[0.5]]), /201 is not described/);
    assert.match(violation('createEmbeddings', 422, error), /must be object/);
    assert.match(violation('upsertDocuments', 200, '{"stored":1}\n', 'application/x-ndjson'), /inserted/);
  });

  it('is none where a stream ends with an error', () => {
    const lines = `{"stored":1,"inserted":1,"replaced":0}\n${JSON.stringify(error)}\n`;
    assert.equal(violation('upsertDocuments', 200, lines, 'application/x-ndjson'), '');
  });
});

describe('a server that is sent mutated requests', () => {
  async function tried(store?: string): Promise<void> {
    const options = { requests: 600, seed: 3, store, say: () => undefined };
    const { violations, statuses, usages } = await fuzz(options);
    assert.deepEqual(violations, []);
    assert.equal(
      Object.values(statuses).reduce((sum, n) => sum + n, 0),
      600,
    );
    for (const status of [200, 400, 415, 422]) assert.ok(statuses[status] > 0, String(status));
    assert.equal(usages.length, 10);
  }

  it('answers each as openapi.yaml says, and keeps nothing of them', () => tried());

  it('does so on PostgreSQL', { skip: withoutPostgres }, async () => {
    const postgres = await startPostgres();
    try {
      await tried(await postgres.freshDatabase());
    } finally {
      await postgres.close();
    }
  });
});
