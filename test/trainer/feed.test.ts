import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { Random } from '../../base/random.js';
import { Tokenizer } from '../../encoder/tokenizer.js';
import { wordPieceFiles } from '../../encoder/tokenizer-files.js';
import { Batches } from '../../trainer/batches.js';
import type { Example } from '../../trainer/data.js';
import { feedOf } from '../../trainer/feed.js';
import { pack } from '../../trainer/packing.js';
import { PRESETS } from '../../trainer/presets.js';
import type { Recipe } from '../../trainer/recipe.js';
import { replaceTokens } from '../../trainer/replacing.js';
import type { PackedBatch, TrainingBatch } from '../../trainer/types.js';
import { TINY_VOCABULARY } from '../support/tiny-model.js';

const files = wordPieceFiles(TINY_VOCABULARY, { lowerCase: true, maxTokens: 32 });
const tokenizer = new Tokenizer(files, 32, false, 'tokenizer.json');
const { special } = tokenizer;
const tokensOf = (texts: string[]): PackedBatch => pack(texts.map((text) => tokenizer.encode(text)));

describe('replaced tokens', () => {
  const texts = Array.from(
    { length: 400 },
    (_, i) =>
      ['how do i install java on ubuntu', 'the usb disk is not found', 'install the wireless driver'][i % 3],
  );
  const batch = tokensOf(texts);
  const found = replaceTokens(batch, special, 0.3, new Random(1));

  it('are told from those that stayed, and judged wherever a token is not special', () => {
    const specials = new Set(Object.values(special));
    const ordinary = [...batch.ids.keys()].filter((row) => !specials.has(batch.ids[row]));
    assert.deepEqual([...found.rows], ordinary);
    assert.deepEqual(
      [...found.labels],
      ordinary.map((row) => (found.batch.ids[row] === batch.ids[row] ? 0 : 1)),
    );
    batch.ids.forEach((id, row) => {
      if (specials.has(id)) assert.equal(found.batch.ids[row], id);
    });
    assert.deepEqual(found.batch.offsets, batch.offsets);
  });

  it('come from the batch, each token as often as it is there, and are sometimes the right one', () => {
    const ordinary = [...found.rows].map((row) => batch.ids[row]);
    const shareOf = (id: number, of: number[]): number =>
      of.filter((other) => other === id).length / of.length;
    // A replacement is the token that it replaces with the probability of both.
    const same = [...new Set(ordinary)].reduce((sum, id) => sum + shareOf(id, ordinary) ** 2, 0);
    const replaced = [...found.labels].reduce((sum, label) => sum + label, 0);
    const [n, p] = [ordinary.length, 0.3 * (1 - same)];
    assert.ok(Math.abs(replaced - n * p) < 4 * Math.sqrt(n * p * (1 - p)), `${replaced} of ${n}, share ${p}`);
    assert.ok(
      [...found.rows].every((row) => ordinary.includes(found.batch.ids[row])),
      'a token that is not in the batch',
    );
  });

  it('are neither put in nor judged where they are left out', () => {
    const except = found.rows.filter((_, i) => i % 2 === 0);
    const half = replaceTokens(batch, special, 1, new Random(2), except);
    assert.deepEqual(
      half.rows,
      found.rows.filter((_, i) => i % 2 === 1),
    );
    for (const row of except) assert.equal(half.batch.ids[row], batch.ids[row]);
  });

  it('leave the batch as it was, and are a function of the seed', () => {
    assert.deepEqual(batch, tokensOf(texts));
    assert.deepEqual(replaceTokens(batch, special, 0.3, new Random(1)), found);
    assert.notDeepEqual(replaceTokens(batch, special, 0.3, new Random(2)).labels, found.labels);
  });
});

describe('what a step is fed', () => {
  const examples: Example[] = [
    'how do i install java on ubuntu',
    'the usb disk is not found after boot',
    'install the wireless network driver',
    'why is the screen black at login',
  ].map((text) => ({ first: text, second: text, kind: 'text' }));
  const stepOf = (
    changes: Partial<Recipe>,
    of: Example[] = examples,
  ): Promise<{ step: TrainingBatch; texts: string[][] }> => {
    const recipe: Recipe = { ...PRESETS.vicreg, batch: 4, ...changes };
    const batches = new Batches(of, recipe);
    return feedOf(batches, { tokenizer, files }, recipe)
      .at(1)
      .then((step) => ({ step, texts: batches.at(1).map((view) => view.map(({ text }) => text)) }));
  };
  const restored = (view: PackedBatch, { rows, labels }: { rows: Int32Array; labels: Int32Array }) => {
    const ids = view.ids.slice();
    rows.forEach((row, i) => (ids[row] = labels[i]));
    return { ids, offsets: view.offsets };
  };

  it('is two views and what was done to them without heads', async () => {
    const { step, texts } = await stepOf({});
    assert.deepEqual(Object.keys(step).sort(), ['edits', 'seed', 'views']);
    assert.deepEqual(step.views, texts.map(tokensOf));
  });

  it('has words of the last view masked for a head that guesses them, the first one whole', async () => {
    const { step, texts } = await stepOf({ mlmWeight: 1 });
    const [first, last] = step.masked!;
    assert.deepEqual([first.rows.length, first.labels.length], [0, 0]);
    assert.ok(last.rows.length >= 4);
    assert.deepEqual(step.views[0], tokensOf(texts[0]));
    assert.deepEqual(restored(step.views[1], last), tokensOf(texts[1]));
  });

  it('has words of every view masked for the objective mlm', async () => {
    const { step } = await stepOf({ objective: 'mlm', views: ['same', 'word-crop'] });
    assert.ok(step.masked!.every(({ rows }) => rows.length >= 4));
  });

  it('has tokens of the last view replaced, and none of those that are to be guessed', async () => {
    const { step, texts } = await stepOf({ mlmWeight: 1, rtdWeight: 1, maskShare: 0.4 });
    const { rows, labels } = step.replaced!;
    assert.ok(labels.some((label) => label === 1) && labels.some((label) => label === 0));
    const masked = step.masked!.at(-1)!;
    assert.ok(masked.rows.every((row) => !rows.includes(row)));
    assert.deepEqual(step.views[0], tokensOf(texts[0]));
    const back = restored(step.views[1], masked);
    const { ids } = tokensOf(texts[1]);
    const differing = [...ids.keys()].filter((row) => back.ids[row] !== ids[row]);
    assert.deepEqual(
      differing,
      [...rows].filter((_, i) => labels[i] === 1),
    );
  });

  it('has the text that the last view was made of, to be written anew', async () => {
    for (const changes of [
      { objective: 'tsdae', views: ['deletion'] },
      { reconstructionWeight: 1, views: ['same', 'deletion'] },
    ] as const) {
      const { step, texts } = await stepOf({ ...changes, views: [...changes.views] });
      const all = tokensOf(examples.map(({ first }) => first));
      const lengths = ({ offsets }: PackedBatch): number[] =>
        [...offsets.subarray(1)].map((end, i) => end - offsets[i]).sort();
      assert.deepEqual(lengths(step.originals!), lengths(all));
      if (texts.length === 2) assert.deepEqual(step.originals, tokensOf(texts[0]));
      assert.ok(step.views.at(-1)!.ids.length < step.originals!.ids.length);
    }
  });

  it('of pairs has the second text, as it is, to be written anew', async () => {
    const pairs = examples.map(({ first }, i): Example => ({ first, second: `${first} ${i}`, kind: 'pair' }));
    const { step, texts } = await stepOf({ reconstructionWeight: 1 }, pairs);
    assert.deepEqual(step.originals, tokensOf(texts[1]));
    assert.notDeepEqual(step.originals, tokensOf(texts[0]));
  });
});
