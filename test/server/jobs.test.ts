import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { readBeirFolder } from '../../evaluation/beir.js';
import { modelNameOf } from '../../server/jobs/job.js';
import { writeTrainingData } from '../../server/jobs/training-data.js';
import { judge } from '../../server/jobs/judge.js';
import { verdictReport } from '../../server/jobs/verdict.js';
import type { ServedGeneration } from '../../server/search/collection.js';
import { partOf } from '../../server/search/feedback-table.js';
import { servedNamed } from '../../server/search/served.js';
import { removeFolder } from '../support/remove-folder.js';
import {
  documentsOf,
  encoderNamed,
  feedbackOf,
  heldUntil,
  LIVE,
  openAround,
  requestOf,
  until,
  withAround,
  type Around,
} from './jobs-support.js';
import { isOnPostgres } from './test-collection.js';

const DOCUMENTS = 300;

async function fill({ collection }: Around): Promise<void> {
  await collection.upsert(documentsOf(DOCUMENTS));
  await collection.addFeedback(feedbackOf(DOCUMENTS));
}

/** What the trainer was given. */
function seen(
  { dataDir }: Around,
  id: number,
): { file: (name: string) => string[]; arguments: Record<string, unknown> } {
  const folder = path.join(dataDir, 'models', `${modelNameOf(id)}.training`);
  return {
    file: (name) =>
      readFileSync(path.join(folder, 'seen', name), 'utf8')
        .trimEnd()
        .split('\n'),
    arguments: JSON.parse(readFileSync(path.join(folder, 'arguments.json'), 'utf8')) as Record<
      string,
      unknown
    >,
  };
}

describe('a training job', () => {
  it('trains on the documents and on feedback that is not held out', () =>
    withAround(async (around) => {
      await fill(around);
      // Somebody's question that is held out, and a document as well.
      const asked = feedbackOf(DOCUMENTS).find(({ query }) => partOf(query) === 'test')!.query;
      await around.collection.upsert([{ id: 'asked', text: asked.toUpperCase() }]);
      const { id } = await around.jobs.submit(requestOf('better', { preset: 'context' }));
      await until(around.jobs, id);
      const { file, arguments: given } = seen(around, id);
      const texts = file('texts.txt');
      assert.equal(texts.length, DOCUMENTS);
      assert.ok(!texts.includes(asked.toUpperCase()));
      const pairs = file('pairs.tsv').map((line) => line.split('\t'));
      const parts = { train: 0, dev: 0, test: 0 };
      for (const { query } of feedbackOf(DOCUMENTS)) parts[partOf(query)]++;
      assert.equal(pairs.length, parts.train);
      for (const [query] of pairs) assert.equal(partOf(query), 'train');
      const chosenBy = file('dev/queries.jsonl').map((line) => (JSON.parse(line) as { text: string }).text);
      assert.equal(chosenBy.length, parts.dev);
      for (const query of chosenBy) assert.equal(partOf(query), 'dev');
      assert.equal(given.model, LIVE);
      assert.equal(given.preset, 'context');
      assert.match(String(given.eval), /^beir:/);
      assert.ok(!existsSync(path.join(around.dataDir, 'jobs', String(id), 'data')));
    }));

  it('chooses weights by documents of any id: with a tab, or like a number of a query', () =>
    withAround(async ({ collection, dataDir }) => {
      const asked = feedbackOf(DOCUMENTS)
        .map(({ query }) => query)
        .filter((query) => partOf(query) === 'dev')
        .sort();
      const idOf = (i: number): string => (i % 2 === 0 ? `q${i}` : `a\tb${i}`);
      await collection.upsert(asked.map((_, i) => ({ id: idOf(i), text: `answer ${i}` })));
      await collection.addFeedback(asked.map((query, i) => ({ query, id: idOf(i), relevant: true })));
      const folder = path.join(dataDir, 'written');
      const { dev } = await writeTrainingData(folder, LIVE, { feedback: true }, {}, collection);
      const { queries, documents, relevance } = await readBeirFolder(dev!, 'test');
      assert.deepEqual([...queries.texts].sort(), asked);
      queries.texts.forEach((query, q) => {
        const found = [...relevance[q].keys()].map((id) => documents.texts[documents.ids.indexOf(id)]);
        assert.deepEqual(found, [`answer ${asked.indexOf(query)}`]);
      });
    }));

  it('trains on what was sent instead', () =>
    withAround(async (around) => {
      await fill(around);
      const request = requestOf('better', { feedback: false });
      const sent = {
        texts: ['one  text\nof two lines', 'another'],
        pairs: [['a', 'b']] as [string, string][],
      };
      const { id } = await around.jobs.submit(request, sent);
      await until(around.jobs, id);
      const { file, arguments: given } = seen(around, id);
      assert.deepEqual(file('texts.txt'), ['one text of two lines', 'another']);
      assert.deepEqual(file('pairs.tsv'), ['a\tb']);
      assert.equal(given.eval, undefined);
      assert.equal(given.preset, 'context');
      assert.deepEqual(
        readdirSync(path.join(around.dataDir, 'jobs')).filter((name) => name.startsWith('sent')),
        [],
      );
    }));

  it('puts a better model live, beyond chance, and only where it was asked to', () =>
    withAround(async (around) => {
      await fill(around);
      const { collection, jobs } = around;
      const waiting = await jobs.submit(requestOf('better'));
      const { verdict: ready } = await until(jobs, waiting.id);
      assert.equal(ready?.decision, 'ready');
      assert.equal(collection.served().model, LIVE);

      const { id } = await jobs.submit(requestOf('better', { activate: 'if-better' }));
      const { verdict } = await until(jobs, id);
      assert.equal(verdict?.decision, 'activated');
      assert.equal(collection.served().model, modelNameOf(id));
      const { test, agreement, diagnostics } = verdict!;
      const heldOut = feedbackOf(DOCUMENTS).filter(({ query }) => partOf(query) === 'test').length;
      assert.equal(test?.queries, heldOut);
      assert.ok(test!.candidate['map@100'] > test!.live['map@100'] && test!.comparison.low > 0);
      assert.ok(
        Math.abs(test!.candidate['map@100'] - test!.live['map@100'] - test!.comparison.difference) < 1e-9,
      );
      assert.equal(agreement?.of, 'documents');
      assert.ok(diagnostics.candidate.std > 0.5);
      assert.match(verdictReport(id, verdict!), /\*\*activated\*\*: map@100 \d/);
      // The candidate that waited has made room.
      assert.deepEqual(
        collection.generations().map(({ model, state }) => [model, state]),
        [
          [LIVE, 'retired'],
          [modelNameOf(id), 'live'],
        ],
      );
      assert.ok(!existsSync(path.join(around.dataDir, 'models', modelNameOf(waiting.id))));
    }));

  it('refuses a worse model, saying why; a person may activate it all the same', () =>
    withAround(async (around) => {
      await fill(around);
      const { collection, jobs } = around;
      const { id } = await jobs.submit(requestOf('worse', { activate: 'if-better' }));
      const { verdict } = await until(jobs, id);
      assert.equal(verdict?.decision, 'refused');
      assert.match(verdict!.reason, /lower end is not above \+0\.00/);
      assert.equal(collection.served().model, LIVE);
      await jobs.activate(modelNameOf(id));
      assert.equal(collection.served().model, modelNameOf(id));
      await jobs.rollback();
      assert.equal(collection.served().model, LIVE);
    }));

  it('refuses by itself what nobody can judge', () =>
    withAround(async (around) => {
      await around.collection.upsert(documentsOf(50));
      await around.collection.addFeedback(feedbackOf(10));
      const { id } = await around.jobs.submit(requestOf('better', { activate: 'if-better' }));
      const { verdict } = await until(around.jobs, id);
      assert.equal(verdict?.decision, 'refused');
      assert.match(verdict!.reason, /expected at least 20 held-out queries/);
    }));

  it('is judged by what else than the query itself is relevant', () =>
    withAround(
      async ({ collection }) => {
        const asked = feedbackOf(DOCUMENTS)
          .map(({ query }) => query)
          .filter((query) => partOf(query) === 'test');
        // Each is a document as well, and but for the first there is another that answers it.
        const documents = asked.flatMap((query, i) => [
          { query, id: `same${i}`, text: query.toUpperCase() },
          ...(i === 0 ? [] : [{ query, id: `other${i}`, text: `${query} please` }]),
        ]);
        await collection.upsert(documents.map(({ id, text }) => ({ id, text })));
        await collection.addFeedback(documents.map(({ query, id }) => ({ query, id, relevant: true })));
        const live = collection.served();
        const { test } = await judge(collection, live, live, new AbortController().signal);
        assert.equal(test?.queries, asked.length - 1);
        assert.deepEqual(test?.live, { 'map@100': 1, 'mrr@10': 1, 'recall@10': 1 });
      },
      { model: encoderNamed(LIVE, 'better') },
    ));

  it('fails with the reason of the trainer when that collapses, and is never judged', () =>
    withAround(async (around) => {
      await fill(around);
      const { id } = await around.jobs.submit(requestOf('collapse', { activate: 'if-better' }));
      const job = await until(around.jobs, id);
      assert.equal(job.state, 'failed');
      assert.match(job.error!, /collapse: their spread fell to 0\.01 at step 5/);
      assert.equal(job.verdict, undefined);
      assert.equal(around.collection.generations().length, 1);
      // The trainer's log stays; what it was trained on does not.
      const left = readdirSync(path.join(around.dataDir, 'models', `${modelNameOf(id)}.training`));
      assert.deepEqual(left, ['log.jsonl']);
    }));

  it('fails when training takes more memory than it may', () =>
    withAround(
      async (around) => {
        await fill(around);
        const { id } = await around.jobs.submit(requestOf('hog'));
        const job = await until(around.jobs, id);
        assert.equal(job.state, 'failed');
        assert.match(job.error!, /MiB of memory, the limit is 16 MiB/);
      },
      { memoryBytes: 16 * 2 ** 20 },
    ));

  it('fails when training has changed nothing', () =>
    withAround(
      async (around) => {
        await fill(around);
        const { id } = await around.jobs.submit(requestOf('better'));
        const job = await until(around.jobs, id);
        assert.equal(job.state, 'failed');
        assert.match(job.error!, /training changed nothing/);
      },
      // The model that comes out is the live one.
      { openModel: async () => encoderNamed(LIVE, 'beginner') },
    ));

  it('is cancelled, whatever it is doing, and leaves nothing behind', () =>
    withAround(async (around) => {
      await fill(around);
      const { jobs, dataDir } = around;
      const first = await jobs.submit(requestOf('held'));
      const second = await jobs.submit(requestOf('better'));
      await until(jobs, first.id, 'training');
      assert.equal((await jobs.job(second.id)).state, 'queued');
      assert.equal((await jobs.cancel(first.id)).state, 'cancelled');
      assert.equal((await jobs.cancel(second.id)).state, 'cancelled');
      await assert.rejects(jobs.cancel(first.id), {
        kind: 'exists',
        message: /has ended already: cancelled/,
      });
      await assert.rejects(jobs.cancel(99), { kind: 'not-found' });
      assert.equal(around.collection.generations().length, 1);
      for (const { id } of [first, second]) {
        assert.ok(!existsSync(path.join(dataDir, 'models', modelNameOf(id))));
        assert.ok(!existsSync(path.join(dataDir, 'jobs', String(id), 'data')));
      }
    }));

  it('goes on after a restart, and what was activated goes on being live', async () => {
    const dataDir = mkdtempSync(path.join(tmpdir(), 'jobs-'));
    let around = await openAround(dataDir);
    try {
      await fill(around);
      const again = path.join(dataDir, 'again');
      const { id } = await around.jobs.submit(heldUntil(again, { activate: 'if-better' }));
      const log = path.join(dataDir, 'models', `${modelNameOf(id)}.training`, 'log.jsonl');
      while (!existsSync(log)) await sleep(10);
      await around.close();

      around = await openAround(dataDir);
      assert.equal((await around.jobs.job(id)).state, 'training');
      writeFileSync(again, '');
      const { verdict } = await until(around.jobs, id);
      assert.equal(verdict?.decision, 'activated');
      assert.equal(seen(around, id).arguments.resume, true);
      await around.close();

      around = await openAround(dataDir, { model: encoderNamed(modelNameOf(id), 'better') });
      assert.equal(around.collection.served().model, modelNameOf(id));
      // One of several loads it when it is asked to go back to it.
      while (!isOnPostgres && !around.collection.generations().every(({ served }) => served)) await sleep(10);
      await around.jobs.rollback();
      assert.equal(around.collection.served().model, LIVE);
    } finally {
      await around.close();
      await removeFolder(dataDir);
    }
  });

  it('begins again where the trainer was ended before its first checkpoint', () =>
    withAround(async (around) => {
      await fill(around);
      const training = path.join(around.dataDir, 'models', `${modelNameOf(1)}.training`);
      mkdirSync(training, { recursive: true });
      writeFileSync(path.join(training, 'log.jsonl'), '{"type":"start","steps":20}\n');
      const { id } = await around.jobs.submit(requestOf('better'));
      assert.equal(id, 1);
      assert.equal((await until(around.jobs, id)).verdict?.decision, 'ready');
      assert.equal(seen(around, id).arguments.resume, undefined);
    }));

  it('is refused on an empty collection', () =>
    withAround(async ({ jobs }) => {
      await assert.rejects(jobs.submit(requestOf('better')), {
        kind: 'empty',
        message: /collection is empty/,
      });
    }));
});

describe('switching models', () => {
  it('says what there is when a model is not, and when there is nothing to go back to', () =>
    withAround(async ({ jobs }) => {
      await assert.rejects(jobs.activate('finetuned-7'), { kind: 'not-found', message: /"beginner"/ });
      await assert.rejects(jobs.rollback(), { kind: 'not-found', message: /no earlier model/ });
    }));

  it('tells two models with one name apart, as two folders of that name make them', () =>
    withAround(
      async (around) => {
        await fill(around);
        const { collection, jobs } = around;
        const first = collection.served();
        const inference = encoderNamed('model', 'better');
        const second = await collection.prepare({ inference });
        await collection.activate(second);
        assert.equal((await jobs.rollback()).id, first.id);
        assert.equal(collection.served().id, first.id);
        assert.equal((await jobs.rollback()).id, second.id);
        assert.equal((await jobs.activate('model')).id, second.id, 'the live one, not what was before it');
        assert.equal(collection.served('model').id, second.id);
        assert.equal((await jobs.activate('somebody/model')).id, second.id, 'by its last part, the live one');
        assert.equal((await jobs.rollback()).id, first.id);
        await collection.prepare({ inference: encoderNamed('model', 'worse') });
        const third = (await jobs.activate('model')).id;
        assert.ok(third > second.id, 'the one that waits');
        assert.equal((await jobs.activate('model')).id, third, 'sent again');
      },
      { model: encoderNamed('model', 'beginner') },
    ));

  it('takes an exact name before one that is the same in its last part', () => {
    const served = ['somebody/model', 'model'].map((model, id) => ({ id, model }) as ServedGeneration);
    assert.equal(servedNamed(served, 'model').id, 1);
    assert.equal(servedNamed(served, 'another/model').id, 0);
  });

  it('answers each search by one generation, and loses no write, while it switches back and forth', () =>
    withAround(async (around) => {
      await fill(around);
      const { collection, jobs } = around;
      const { id } = await jobs.submit(requestOf('better'));
      await until(jobs, id);
      const models = [collection.served(), collection.served(modelNameOf(id))];

      let stop = false;
      let searches = 0;
      const search = async (): Promise<void> => {
        for (let i = 0; !stop; i++) {
          const generation = collection.served();
          const query = `how does subject${i % DOCUMENTS} do`;
          const hits = await collection.search({ query, k: 3, mode: 'dense', generation });
          const { inference } = generation;
          const [asked, ...found] = await Promise.all(
            [query, ...hits.map(({ text }) => text)].map((text) => inference.encode([text])),
          );
          hits.forEach(({ score }, h) => {
            const cosine = asked.reduce((sum, x, j) => sum + x * found[h][j], 0);
            assert.ok(Math.abs(cosine - score) < 1e-5, `${generation.model}: ${score}, not ${cosine}`);
          });
          searches++;
        }
      };
      let written = 0;
      const write = async (): Promise<void> => {
        for (; !stop; written++)
          await collection.upsert([{ id: `w${written}`, text: `written number ${written}` }]);
      };
      const traffic = Promise.all([search(), search(), write()]);
      traffic.catch(() => (stop = true));
      // On a busy disk few writes fit between two switches.
      for (let i = 0; !stop && (i < 6 || searches <= 10 || written <= 10); i++)
        await jobs.activate(models[(i + 1) % 2].model);
      stop = true;
      await traffic;
      for (const model of models) {
        await jobs.activate(model.model);
        for (let w = 0; w < written; w++) {
          const hits = await collection.search({ query: `written number ${w}`, k: 1, mode: 'dense' });
          assert.equal(hits[0].id, `w${w}`, model.model);
        }
      }
    }));

  it('keeps the model before complete, and forgets what is deleted in both', () =>
    withAround(async (around) => {
      await fill(around);
      const { collection, jobs } = around;
      const { id } = await jobs.submit(requestOf('better'));
      await until(jobs, id);
      await jobs.activate(modelNameOf(id));
      await collection.upsert([{ id: 'new', text: 'penguins on the ice' }]);
      await collection.delete('d0');
      await jobs.rollback();
      const [hit] = await collection.search({ query: 'penguins on the ice', k: 1, mode: 'dense' });
      assert.equal(hit.id, 'new');
      const all = await collection.search({ query: 'subject0', k: 1000, mode: 'dense' });
      assert.equal(all.length, DOCUMENTS);
      assert.ok(!all.some(({ id }) => id === 'd0'));
    }));
});
