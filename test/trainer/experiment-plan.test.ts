import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';

import { projectRoot } from '../../base/paths.js';
import { parseDefinition, readDefinition } from '../../trainer/experiment/definition.js';
import { chooseRuns, planRuns, recipeOf, type PlannedRun } from '../../trainer/experiment/plan.js';
import { DEFAULT_PRESET } from '../../trainer/presets.js';

const HEAD = 'about: Does it help?\nseeds: [1, 2]\n';
const plan = (text: string): PlannedRun[] => planRuns(parseDefinition(HEAD + text, 'my.yaml'), 'my.yaml');

describe('an experiment file', () => {
  const refused = (text: string, message: string | RegExp, kind = 'invalid'): void =>
    assert.throws(() => parseDefinition(text, 'my.yaml'), { kind, message });

  it('is refused by its path, with what was expected and what was found', () => {
    refused(
      'seeds: [1]\nruns: {a: {}}',
      'my.yaml: about: expected a sentence that says what the experiment is to find out, found nothing',
    );
    refused(`${HEAD}runs: {a: {pairs: 1}}`, 'my.yaml: runs.a.pairs: expected true or false, found 1');
    refused(
      `${HEAD}runs: {a: {setings: {}}}`,
      'my.yaml: runs.a.setings: expected one of preset, settings, data, pairs, adapt, train, grid, found "setings"',
    );
    refused(
      `${HEAD}runs: {a: {settings: {batch: {}}}}`,
      'my.yaml: runs.a.settings.batch: expected a text, a number, true, false or a list, found {}',
    );
    refused(
      `${HEAD}runs: {a: {grid: {mu: 5}}}`,
      'my.yaml: runs.a.grid.mu: expected a list of values, found 5',
    );
    refused(
      'about: x\nseeds: [1, -1]\nruns: {a: {}}',
      'my.yaml: seeds.1: expected a whole number from 0 up, found -1',
    );
    refused(
      'about: x\nseeds: [1, 1]\nruns: {a: {}}',
      /^my\.yaml: seeds: expected a list of different whole numbers/,
    );
    refused(`${HEAD}select: first\nruns: {a: {}}`, 'my.yaml: select: expected last or best, found "first"');
    refused('- a', /^my\.yaml: the file: expected a map with about, seeds and runs, found \["a"\]$/);
    refused('null', /^my\.yaml: the file: expected a map with about, seeds and runs, found null$/);
  });

  it('names runs as folders can be, and none as the base encoder', () => {
    for (const name of ['base', '../up', 'a b', '""'])
      refused(
        `${HEAD}runs: {${name}: {}}`,
        /expected a name of letters, digits and \. _ - that is not "base", found/,
      );
    assert.ok(parseDefinition(`${HEAD}runs: {baseline: {}}`, 'my.yaml').runs['baseline']);
  });

  it('is YAML', () => {
    refused('about: [', /^my\.yaml: expected YAML: .*\(1:9\)/, 'malformed');
    refused('about: x\nabout: y', /^my\.yaml: expected YAML: duplicated mapping key \(2:1\)/, 'malformed');
    refused('', 'my.yaml: expected YAML: expected a document, but the input is empty', 'malformed');
  });

  it('can take settings from another run', () => {
    const [, b] = plan('runs:\n  a: {settings: &a {batch: 8, mu: 5}}\n  b: {settings: {<<: *a, mu: 6}}');
    assert.deepEqual(b.settings, ['batch=8', 'mu=6']);
  });

  it('is what the repository has in experiments/', async () => {
    const folder = path.join(projectRoot, 'experiments');
    const files = readdirSync(folder).filter((name) => name.endsWith('.yaml'));
    assert.ok(files.includes('demo.yaml'));
    for (const file of files.map((name) => path.join(folder, name)))
      assert.ok(planRuns(await readDefinition(file), file).length > 1, file);
  });
});

describe('the runs of an experiment', () => {
  it('are every combination of a grid, in its order, and named after the values', () => {
    const runs = plan('runs: {a: {}, wide: {grid: {batch: [8, 64], expander: [[384, 384], [768]]}}}');
    assert.deepEqual(
      runs.map(({ name }) => name),
      ['a', 'wide-8-384,384', 'wide-8-768', 'wide-64-384,384', 'wide-64-768'],
    );
    assert.deepEqual(runs[1].values, { batch: '8', expander: '384,384' });
    assert.deepEqual(runs[1].settings, ['batch=8', 'expander=384,384']);
    assert.deepEqual([runs[1].family, runs[0].values], ['wide', {}]);
  });

  it('have the settings of the experiment under their own, and those under the grid', () => {
    const [run] = plan(
      'settings: {batch: 8, mu: 1, nu: 1}\nruns: {a: {settings: {mu: 2, nu: 2}, grid: {nu: [3]}}}',
    );
    const { batch, mu, nu, seed } = recipeOf(run, 7);
    assert.deepEqual([batch, mu, nu, seed], [8, 2, 3, 7]);
  });

  it('are trained on texts unless they say otherwise, and on pairs when they do', () => {
    const runs = plan('runs: {a: {}, b: {data: false, pairs: true}}');
    assert.deepEqual(
      runs.map(({ data, pairs }) => [data, pairs]),
      [
        [true, false],
        [false, true],
      ],
    );
  });

  it('have the preset that they name, or that the experiment names, or the one of finetune', () => {
    const presets = (text: string): string[] => plan(text).map(({ preset }) => preset);
    const runs = 'runs: {a: {preset: mlm}, b: {}}';
    assert.deepEqual(presets(`preset: simcse\n${runs}`), ['mlm', 'simcse']);
    assert.deepEqual(presets(runs), ['mlm', DEFAULT_PRESET]);
  });

  it('are refused where they could not be made: before the first of them has begun', () => {
    const refused = (text: string, message: RegExp): void =>
      assert.throws(() => plan(text), { kind: 'invalid', message });
    refused('runs: {a: {preset: none}}', /^my\.yaml: runs\.a: --preset: expected vicreg or .*, found "none"/);
    refused(
      'runs: {a: {settings: {mu: few}}}',
      /^my\.yaml: runs\.a: --set mu: expected a number .*, found "few"/,
    );
    refused('runs: {a: {grid: {m: [1]}}}', /^my\.yaml: runs\.a: --set: expected one of .*, found "m"/);
    refused('runs: {a: {train: false}}', /^my\.yaml: runs\.a\.adapt: expected a text beside train: false/);
    refused(
      'runs: {a: {adapt: center, train: false, pairs: true}}',
      /^my\.yaml: runs\.a\.pairs: expected none beside train: false, since pairs are trained on; found true$/,
    );
    // They would win over those that the runs are told apart by.
    for (const text of [
      'settings: {seed: 7}\nruns: {a: {}}',
      'runs: {a: {settings: {seed: 7}}}',
      'runs: {a: {grid: {seed: [7]}}}',
    ])
      refused(
        text,
        /^my\.yaml: runs\.a: expected no seed among settings and grid, found seed=7; .*\(seeds: \[1, 2\]\)$/,
      );
    refused(
      'reference: c\nruns: {a: {}, b: {grid: {mu: [1]}}}',
      /^my\.yaml: reference: expected one of a, b-1, found "c"/,
    );
    refused('runs: {a-1: {}, a: {grid: {mu: [1]}}}', /two named a-1/);
  });

  it('can be chosen by name, or a grid as a whole', () => {
    const runs = plan('runs: {a: {}, b: {grid: {mu: [1, 2]}}}');
    const chosen = (...only: string[]): string[] => chooseRuns(runs, only).map(({ name }) => name);
    assert.deepEqual(chosen(), ['a', 'b-1', 'b-2']);
    assert.deepEqual(chosen('b'), ['b-1', 'b-2']);
    assert.deepEqual(chosen('b-2', 'a'), ['a', 'b-2']);
    assert.throws(() => chosen('c'), {
      kind: 'usage',
      message: '--only: expected one of a, b-1, b-2, found "c"',
    });
  });
});
