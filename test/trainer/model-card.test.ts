import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { load } from 'js-yaml';

import { modelCard } from '../../trainer/model-card.js';
import { PRESETS } from '../../trainer/presets.js';
import type { Recipe } from '../../trainer/recipe.js';
import type { Run } from '../../trainer/run-log.js';
import { adaptedRun, adaptEntry, evaluationEntry, finishedRun, startEntry } from './support.js';

function cardOf(run: Run = finishedRun(), changes: Partial<Parameters<typeof modelCard>[0]> = {}): string {
  return modelCard({
    name: 'my-encoder',
    run,
    base: 'all-MiniLM-L6-v2',
    dimensions: 384,
    maxTokens: 256,
    pooling: 'mean',
    hasDense: false,
    ...changes,
  });
}

function frontOf(card: string): Record<string, unknown> {
  return load(/^---\n([\s\S]*?)\n---\n/.exec(card)![1]) as Record<string, unknown>;
}

describe('the head of a model card', () => {
  it('is what the Hugging Face Hub reads', () => {
    assert.deepEqual(frontOf(cardOf()), {
      library_name: 'sentence-transformers',
      pipeline_tag: 'sentence-similarity',
      tags: [
        'sentence-transformers',
        'sentence-similarity',
        'feature-extraction',
        'transformers.js',
        'sentence-jepa',
      ],
      base_model: 'sentence-transformers/all-MiniLM-L6-v2',
    });
  });

  it('names the base where the Hub knows it, and the licence where it is known', () => {
    const front = (base: string, license?: string): Record<string, unknown> =>
      frontOf(cardOf(undefined, { base, license }));
    assert.equal(front('BAAI/bge-small-en').base_model, 'BAAI/bge-small-en');
    assert.equal('base_model' in front('a-folder-of-mine'), false);
    assert.equal('license' in front('a-folder-of-mine'), false);
    assert.equal(front('a/b', 'apache-2.0').license, 'apache-2.0');
    assert.equal(front('a/b', 'no: "yes"\n---').license, 'no: "yes"\n---');
  });
});

describe('the text of a model card', () => {
  it('says what was measured before and after', () => {
    const card = cardOf();
    assert.ok(card.includes('Training helped: map@100 rose from 44.04 to 45.20 on beir:dev.'));
    assert.ok(card.includes('`beir:dev` (5,054 documents, 1,665 queries), in percent:'));
    assert.ok(card.includes('|  | base encoder | exported (step 100) | step 200 |\n'));
    assert.ok(card.includes('| map@100 | 44.04 | 45.20 | 44.70 |\n| recall@10 | 54.04 | 55.20 | 54.70 |'));
  });

  it('says so when it was not evaluated, or got worse', () => {
    assert.match(cardOf(finishedRun({ evaluations: [] })), /\nNot evaluated: no evaluation was given/);
    const worse = finishedRun({
      evaluations: [evaluationEntry(0, { 'sts:a.csv': 0.8 }), evaluationEntry(100, { 'sts:a.csv': 0.7 })],
    });
    assert.match(cardOf(worse), /\nTraining made it worse: .* Keep the base encoder\./);
  });

  it('says how it was made: data with digests, preset, seed, recipe, steps', () => {
    const card = cardOf();
    assert.ok(card.includes(`| \`titles.txt\` | texts | 12,800 | \`${'ab'.repeat(32)}\` |`));
    assert.match(card, /Preset `vicreg`, seed 1, 100 of 200 steps,\s+mean pooling/);
    for (const row of ['| `learningRate` | 0.00002 |', '| `views` | word-crop, word-crop |'])
      assert.ok(card.includes(row), row);
  });

  it('says what predicts what, with texts and with pairs', () => {
    const made = (...kinds: ('texts' | 'pairs')[]): string =>
      cardOf(
        finishedRun({
          start: startEntry({ data: kinds.map((kind) => ({ file: 'a', kind, count: 9, sha256: 'f' })) }),
        }),
      );
    assert.match(made('texts'), /Training makes two views of each text predict each other/);
    assert.match(made('pairs'), /Training makes the two texts of each pair predict each other/);
    assert.match(
      made('texts', 'pairs'),
      /Training makes two views of each text and the two texts of each pair predict each other/,
    );
  });

  it('says what an encoder learned that was its own teacher, and which weights these are', () => {
    const of = (changes: Partial<Recipe>, pairs = false): string => {
      const run = finishedRun();
      const { recipe, data } = run.start;
      const start = startEntry({
        recipe: { ...recipe, ...PRESETS.context, ...changes },
        teacher: { name: 'all-MiniLM-L6-v2', fingerprint: 'cd'.repeat(32) },
        data: pairs ? [...data, { ...data[0], kind: 'pairs' }] : data,
      });
      return cardOf({ ...run, start });
    };
    assert.match(of({}), /taken away, drawn to its 5 nearest neighbours: a loss/);
    assert.match(
      of({ context: 'Ubuntu', whitening: 1 }, true),
      /taken away, with `Ubuntu` behind it and without, whitened \(.*\), drawn to its 5 nearest neighbours and drawn to the texts that pairs say mean the same: a loss/,
    );
    assert.doesNotMatch(of({}), /The weights are/);
    assert.match(of({ averageDecay: 0.9 }), /The weights are an average over the steps \(decay 0.9\)\./);
    // Step 100 of 200 was exported.
    assert.match(of({ averageLast: 0.6 }), /The weights are the average of those of the steps 81 to 100\./);
    assert.doesNotMatch(of({ averageLast: 0.25 }), /The weights are/);
    assert.match(
      of({ baseShare: 0.25 }),
      /The weights are 25\.00 % of those it began with, and for the rest those that were trained/,
    );
  });

  it('says of the preset for pairs what tells them apart and what holds them', () => {
    const { data } = finishedRun().start;
    const card = cardOf({
      ...finishedRun(),
      start: startEntry({
        recipe: { ...PRESETS.pairs, context: 'Ubuntu' },
        teacher: { name: 'all-MiniLM-L6-v2', fingerprint: 'cd'.repeat(32) },
        data: [...data, { ...data[0], kind: 'pairs' }],
      }),
    });
    assert.match(
      card,
      /Training tells the two texts of each pair from the others of the batch, and from up to 4 near texts for each \(InfoNCE/,
    );
    assert.match(
      card,
      /Each text's vector is held near to the one that `all-MiniLM-L6-v2` gives it when .* with `Ubuntu` behind it/,
    );
  });

  it('says how to use it in four runtimes', () => {
    const card = cardOf();
    for (const call of [
      'sentence-jepa serve --model "./my-encoder"',
      'SentenceTransformer("./my-encoder")',
      'pipeline("feature-extraction", "my-encoder", { dtype: "fp32" })',
      '{ pooling: "mean", normalize: true }',
      '-v "$PWD/my-encoder:/model"',
    ])
      assert.ok(card.includes(call), call);
    assert.ok(card.includes('cut off after 256 tokens'));
  });

  it('says what was fitted without training, and how to get the whole vector', () => {
    const card = cardOf(adaptedRun(0.452), { dimensions: 192, hasDense: true });
    assert.match(
      card,
      /`all-MiniLM-L6-v2` with `center,pca=192` behind its pooling, fitted by sentence-jepa/,
    );
    assert.match(card, /No weight of the base encoder was changed\. Behind the pooling comes a Dense module/);
    assert.match(card, /12,800 texts \(`center,pca=192`, seed 1\): the mean .* 95\.10 % of their variance/);
    assert.match(card, /like those it was fitted on/);
    assert.doesNotMatch(card, /Preset|learningRate|feature-extraction", "my-encoder"/);
    assert.ok(card.includes('const { sentence_embedding: vectors } = await model(inputs);'));
    const both = cardOf(finishedRun({ adapted: adaptEntry(0.46) }), { dimensions: 192, hasDense: true });
    assert.match(both, /Preset `vicreg`, seed 1, 100 of 200 steps,\s+mean pooling\.\s+Behind the pooling/);
  });

  it('names no folder of the machine that trained', () => {
    const run = finishedRun({
      start: startEntry({ data: [{ file: '/home/me/secret/a.txt', kind: 'texts', count: 9, sha256: 'f' }] }),
      evaluations: [0, 100].map((step) => evaluationEntry(step, { 'beir:/home/me/secret/dev': 0.4 })),
    });
    assert.doesNotMatch(cardOf(run), /secret|home/);
    assert.doesNotMatch(cardOf(adaptedRun(0.45)), /data\/dev/);
  });

  it('keeps its tables and headings whole whatever the names are', () => {
    const run = finishedRun({
      start: startEntry({ data: [{ file: 'a|b`c\nd', kind: 'texts', count: 9, sha256: 'f' }] }),
    });
    const card = cardOf(run, { name: 'x\n# <b>' });
    assert.ok(card.includes("| `a\\|b'c d` | texts | 9 | `f` |"));
    assert.ok(card.includes('\n# x # \\<b>\n'));
  });
});
