import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

import { Random } from '../../base/random.js';
import type { Collection } from '../../server/search/collection.js';
import { openCollection } from '../../server/search/open-collection.js';
import { fakeInference, wordVector } from './fake-inference.js';

const writer = fileURLToPath(new URL('./search-writer.js', import.meta.url));

/** Runs the writer and kills it, as kill -9 does, when it has printed so many lines of a kind. */
async function runAndKill(args: string[], kind: string, lines: number): Promise<string[]> {
  const child = spawn(process.execPath, [writer, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  const seen: string[] = [];
  let left = lines;
  for await (const line of createInterface({ input: child.stdout })) {
    seen.push(line);
    if (line.startsWith(kind) && --left === 0) child.kill('SIGKILL');
  }
  return seen;
}

/** What each id may hold: the acknowledged text (undefined: none), and what was under way when the end came. */
class Expected {
  private readonly acknowledged = new Map<string, string | undefined>();
  private underWay = new Map<string, (string | undefined)[]>();

  read(lines: string[]): void {
    for (const line of lines) {
      const [step, verb, ids, ...words] = line.split(' ');
      if (step !== 'try' && step !== 'ack') continue;
      const text = verb === 'put' ? words.join(' ') : undefined;
      for (const id of ids.split(',')) {
        if (step === 'try') this.underWay.set(id, [text]);
        else {
          this.acknowledged.set(id, text);
          this.underWay.delete(id);
        }
      }
    }
  }

  /** Takes what the collection holds as the truth for the next run, after checking that it may hold it. */
  async check(collection: Collection): Promise<void> {
    for (const id of new Set([...this.acknowledged.keys(), ...this.underWay.keys()])) {
      const found = (await collection.get(id))?.text;
      const allowed = [this.acknowledged.get(id), ...(this.underWay.get(id) ?? [])];
      assert.ok(allowed.includes(found), `${id}: expected one of ${JSON.stringify(allowed)}, found ${found}`);
      this.acknowledged.set(id, found);
    }
    this.underWay = new Map();
  }

  get texts(): Map<string, string> {
    return new Map(
      [...this.acknowledged].filter((entry): entry is [string, string] => entry[1] !== undefined),
    );
  }
}

/** The share of the ten nearest, computed here from the texts, that the collection finds. */
async function recallAt10(collection: Collection, texts: Map<string, string>, seed: string): Promise<number> {
  let found = 0;
  for (let q = 0; q < 20; q++) {
    const query = `word${q} word${q + 7}`;
    const vector = wordVector(query, 16, seed);
    const cosine = new Map(
      [...texts].map(([id, text]) => [
        id,
        wordVector(text, 16, seed).reduce((s, x, i) => s + x * vector[i], 0),
      ]),
    );
    const tenth = [...cosine.values()].sort((a, b) => b - a)[9];
    const hits = await collection.search({ query, k: 10, mode: 'dense' });
    assert.equal(hits.length, 10);
    for (const { id, score } of hits) {
      assert.ok(Math.abs(score - cosine.get(id)!) < 1e-5, `the score of ${id} is its cosine`);
      // Equal texts have equal scores: any of them may be the tenth.
      if (score >= tenth - 1e-6) found++;
    }
  }
  return found / 200;
}

describe('durability', () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'sentence-jepa-durability-'));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  it('loses no acknowledged write to kill -9, and finds everything afterwards', async () => {
    const dataDir = path.join(folder, 'killed');
    const random = new Random(7);
    const expected = new Expected();
    for (let round = 0; round < 5; round++) {
      expected.read(await runAndKill([dataDir, String(round)], 'ack', 1 + random.below(400)));
      const collection = await openCollection({
        dataDir,
        inference: fakeInference(),
        exactUpTo: 100,
        recall: 0.999,
      });
      try {
        await expected.check(collection);
        const { texts } = expected;
        assert.equal(collection.info().documents, texts.size);
        assert.equal((await collection.list({ limit: 10_000 })).length, texts.size);
        if (texts.size >= 10) assert.ok((await recallAt10(collection, texts, 'a')) >= 0.99);
      } finally {
        await collection.close();
      }
    }
  });

  it('goes on with a re-embedding that was killed, and serves the old vectors until it is complete', async () => {
    const dataDir = path.join(folder, 'reembed');
    const first = await openCollection({ dataDir, inference: fakeInference() });
    const texts = new Map(
      Array.from({ length: 1500 }, (_, i) => [`d${i}`, `word${i % 50} word${i % 37} number${i}`]),
    );
    await first.upsert([...texts].map(([id, text]) => ({ id, text })));
    await first.close();

    const killed = spawnSync(process.execPath, [writer, dataDir, '0', 'reembed', 'embedded', '3']);
    assert.equal(killed.signal, 'SIGKILL', 'killed in the middle');
    const old = await openCollection({ dataDir, inference: fakeInference(), exactUpTo: 100, recall: 0.999 });
    assert.ok((await recallAt10(old, texts, 'a')) >= 0.99);
    await old.upsert([{ id: 'later', text: 'word1 word8 later' }]);
    await old.delete('d0');
    texts.set('later', 'word1 word8 later').delete('d0');
    await old.close();

    const embedded: string[] = [];
    const inference = fakeInference({ seed: 'b', onEncode: (batch) => embedded.push(...batch) });
    const renewed = await openCollection({
      dataDir,
      inference,
      reembed: true,
      exactUpTo: 100,
      recall: 0.999,
    });
    assert.ok(embedded.length < 1500, 'what was embedded before the kill is not embedded again');
    assert.ok((await recallAt10(renewed, texts, 'b')) >= 0.99);
    await renewed.close();

    const back: string[] = [];
    const before = fakeInference({ onEncode: (batch) => back.push(...batch) });
    const rolledBack = await openCollection({ dataDir, inference: before, reembed: true });
    assert.deepEqual(back, [], "the earlier encoder's vectors were kept");
    assert.ok((await recallAt10(rolledBack, texts, 'a')) >= 0.99);
    await rolledBack.close();
  });

  it('says that the disk is full when not even the folder can be locked', async () => {
    const dataDir = path.join(folder, 'full');
    // Files that may not grow fail as on a full disk.
    const child = spawn(
      'sh',
      ['-c', 'ulimit -f 0; exec "$@"', 'sh', process.execPath, writer, dataDir, '0'],
      {
        stdio: ['ignore', 'ignore', 'pipe'],
      },
    );
    let stderr = '';
    child.stderr.on('data', (chunk) => (stderr += chunk));
    const [code] = (await once(child, 'close')) as [number];
    assert.equal(code, 1);
    assert.match(stderr, /lock: the disk is full.*Free some space/);
  });
});
