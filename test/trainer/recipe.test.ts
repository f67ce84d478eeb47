import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { CollapseWatch } from '../../trainer/collapse.js';
import { phrasings } from '../../trainer/context.js';
import { choosePreset, DEFAULT_PRESET, OBJECTIVES, PRESETS, presetNamed } from '../../trainer/presets.js';
import { viewsOf } from '../../trainer/recipe.js';
import { learningRateAt } from '../../trainer/schedule.js';
import { SETTING_NAMES, withSettings } from '../../trainer/settings.js';

describe('learning rate', () => {
  const rates = (schedule: 'constant' | 'linear' | 'cosine', warmup: number, steps = 10): number[] =>
    Array.from({ length: steps }, (_, i) =>
      learningRateAt(i + 1, steps, { learningRate: 1, schedule, warmup }),
    );

  it('grows linearly over the warm-up and is full at its end', () => {
    assert.deepEqual(rates('constant', 0.4), [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1]);
  });

  it('falls as a line that would reach 0 one step behind the last', () => {
    assert.deepEqual(rates('linear', 0, 4), [1, 0.75, 0.5, 0.25]);
    assert.deepEqual(rates('linear', 0.2, 5), [1, 1, 0.75, 0.5, 0.25]);
  });

  it('falls as half a cosine', () => {
    const [first, second, third, fourth] = rates('cosine', 0, 4);
    assert.deepEqual([first, third], [1, (1 + Math.cos(Math.PI / 2)) / 2]);
    assert.ok(first > second && second > third && third > fourth && fourth > 0);
  });

  it('without a warm-up is constant from the first step on', () => {
    assert.deepEqual(rates('constant', 0, 3), [1, 1, 1]);
  });
});

describe('settings of a recipe', () => {
  it('change what they name and nothing else', () => {
    const recipe = withSettings(PRESETS.vicreg, [
      'mu=50',
      'expander=512,256',
      'views=same,word-crop',
      'expanderBias=true',
    ]);
    assert.deepEqual(recipe, {
      ...PRESETS.vicreg,
      mu: 50,
      expander: [512, 256],
      views: ['same', 'word-crop'],
      expanderBias: true,
    });
  });

  it('are all those that a recipe has', () => {
    for (const preset of Object.values(PRESETS))
      assert.deepEqual(Object.keys(preset).sort(), ['objective', ...SETTING_NAMES].sort());
  });

  it('of epochs are meant: the steps of a preset give way, those that are asked for do not', () => {
    const stepsOf = (...settings: string[]): number => withSettings(PRESETS.context, settings).maxSteps;
    assert.equal(stepsOf(), 300);
    assert.equal(stepsOf('epochs=2'), 0);
    assert.equal(stepsOf('epochs=2', 'maxSteps=50'), 50);
    assert.equal(stepsOf('maxSteps=50', 'epochs=2'), 50);
  });

  it('of the context are words behind a text, or phrasings with it in their place', () => {
    const said = (context: string): string[] =>
      phrasings(withSettings(PRESETS.context, [`context=${context}`]).context).map((say) =>
        say('no $& sound'),
      );
    assert.deepEqual(said(''), []);
    assert.deepEqual(said(' Ubuntu '), ['no $& sound Ubuntu']);
    assert.deepEqual(said('Ubuntu desktop | Ask Ubuntu: {} '), [
      'no $& sound Ubuntu desktop',
      'Ask Ubuntu: no $& sound',
    ]);
    for (const context of ['{}', 'Ubuntu|', 'Ubuntu| {} '])
      assert.throws(() => said(context), {
        kind: 'usage',
        message: `--set context: expected words, or phrasings with | between and {} for the text, found "${context}"`,
      });
  });

  it('take one view for both sides', () => {
    assert.deepEqual(withSettings(PRESETS.vicreg, ['views=word-crop']).views, ['word-crop']);
  });

  it('can write every value of every preset', () => {
    for (const preset of Object.values(PRESETS))
      assert.deepEqual(
        withSettings(
          PRESETS.vicreg,
          Object.entries(preset).flatMap(([key, value]) => (key === 'objective' ? [] : [`${key}=${value}`])),
        ),
        { ...preset, objective: 'vicreg' },
      );
  });

  for (const [setting, message] of [
    ['mu', /expected key=value, found "mu"/],
    ['nothing=1', /expected one of batch, .*found "nothing"/],
    ['mu=much', /--set mu: expected a number from 0 up, found "much"/],
    ['mu=', /--set mu: expected a number from 0 up, found ""/],
    ['batch=1', /--set batch: expected a whole number from 2 up, found "1"/],
    ['dropout=1', /--set dropout: expected a number from 0 up and below 1, found "1"/],
    ['expander=512,x', /--set expander: expected a whole number from 1 up, found "512,x"/],
    ['schedule=step', /--set schedule: expected constant or linear or cosine, found "step"/],
    ['views=upside-down', /expected one of .*word-crop.*found "upside-down"/],
    ['views=same,same,same', /--set views: expected one view, or two/],
    ['views=same,typos+title', /expected title in front of what is done to it, found "typos\+title"/],
    ['typoShare=2', /--set typoShare: expected a number from 0 to 1, found "2"/],
    ['orderDistance=0', /--set orderDistance: expected a whole number from 1 up, found "0"/],
    ['maskShare=1', /--set maskShare: expected a number above 0 and below 1, found "1"/],
    ['objective=mlm', /expected one of batch, .*found "objective"/],
    ['learningRate=0', /--set learningRate: expected a number above 0, found "0"/],
  ] as const)
    it(`refuse ${setting}`, () => {
      assert.throws(() => withSettings(PRESETS.vicreg, [setting]), { kind: 'usage', message });
    });
});

describe('presets', () => {
  it('have the published sketch to the letter', () => {
    const { batch, maxSteps, pooling, views, minCropWords, expander, expanderBias, invariance } =
      presetNamed('sketch-2022');
    assert.deepEqual(
      { batch, maxSteps, pooling, views, minCropWords, expander, expanderBias, invariance },
      {
        batch: 8,
        maxSteps: 20_000,
        pooling: 'cls',
        views: ['same', 'word-crop'],
        minCropWords: 1,
        expander: [1536, 1536, 1536],
        expanderBias: true,
        invariance: 'mse-squared',
      },
    );
    const { lambda, mu, nu, learningRate, expanderLearningRate, schedule, warmup, clip } =
      presetNamed('sketch-2022');
    assert.deepEqual(
      { lambda, mu, nu, learningRate, expanderLearningRate, schedule, warmup, clip },
      {
        lambda: 25,
        mu: 50,
        nu: 1,
        learningRate: 3e-5,
        expanderLearningRate: 3e-5,
        schedule: 'constant',
        warmup: 0,
        clip: 1,
      },
    );
  });

  it('have the published sketch with VICReg as it is defined, and nothing else changed', () => {
    const { expanderBias, invariance, mu, ...rest } = presetNamed('sketch-fixed');
    assert.deepEqual(
      { expanderBias, invariance, mu },
      { expanderBias: false, invariance: 'mse', mu: PRESETS.vicreg.mu },
    );
    assert.deepEqual(presetNamed('sketch-2022'), {
      ...rest,
      ...{ expanderBias: true, invariance: 'mse-squared', mu: 50 },
    });
  });

  it("have the other methods' own settings, as their papers give them", () => {
    const { temperature, symmetric, views, batch, learningRate, epochs, maxTokens } = presetNamed('simcse');
    assert.deepEqual(
      { temperature, symmetric, views, batch, learningRate, epochs, maxTokens },
      {
        ...{ temperature: 0.05, symmetric: false, views: ['same'] },
        ...{ batch: 64, learningRate: 3e-5, epochs: 1, maxTokens: 32 },
      },
    );
    assert.equal(presetNamed('barlow-twins').barlowLambda, 0.005);
    const tsdae = presetNamed('tsdae');
    assert.deepEqual(
      [tsdae.views, tsdae.deletionShare, tsdae.batch, tsdae.learningRate, tsdae.schedule, tsdae.weightDecay],
      [['deletion'], 0.6, 8, 3e-5, 'constant', 0],
    );
    // A scale of 20.
    assert.equal(1 / presetNamed('infonce').temperature, 20);
  });

  it('are named when an unknown one is asked for', () => {
    assert.throws(() => presetNamed('best'), {
      kind: 'usage',
      message: /expected vicreg or sketch-2022 or sketch-fixed or .* or mlm, found "best"/,
    });
  });

  it('are chosen by the objective when none is named', () => {
    assert.equal(choosePreset(), DEFAULT_PRESET);
    assert.equal(presetNamed(DEFAULT_PRESET).objective, 'distill');
    for (const objective of OBJECTIVES)
      assert.equal(presetNamed(choosePreset(undefined, objective)).objective, objective);
    assert.equal(choosePreset('sketch-2022', 'vicreg'), 'sketch-2022');
    assert.throws(() => choosePreset('sketch-2022', 'distill'), {
      kind: 'usage',
      message: /--preset sketch-2022: expected a recipe for --objective distill, found one for vicreg/,
    });
  });

  it('that compare two views have two, also when one is named for both', () => {
    for (const objective of ['vicreg', 'barlow-twins', 'simcse', 'infonce'] as const)
      assert.deepEqual(viewsOf({ objective, views: ['word-crop'] }), ['word-crop', 'word-crop']);
    for (const objective of ['distill', 'mlm', 'tsdae'] as const)
      assert.deepEqual(viewsOf({ objective, views: ['word-crop'] }), ['word-crop']);
  });
});

describe('collapse', () => {
  const watch = (): CollapseWatch => new CollapseWatch({ ...PRESETS.vicreg, collapseStd: 0.1 }, 384);
  const well = { std: 0.95, effectiveRank: 55 };
  const observe = (
    of: CollapseWatch,
    signs: Parameters<CollapseWatch['observe']>[0],
    times: number,
  ): string | undefined => {
    let said: string | undefined;
    for (let i = 0; i < times; i++) said ??= of.observe(signs);
    return said;
  };

  it('is not seen while vectors are spread', () => {
    assert.equal(observe(watch(), well, 100), undefined);
  });

  it('to a point is explained, with the setting to change', () => {
    assert.match(observe(watch(), { ...well, std: 0.01 }, 20)!, /std.*0\.010.*--set mu/);
  });

  it('to a line is explained, with the setting to change', () => {
    assert.match(
      observe(watch(), { ...well, effectiveRank: 1.5 }, 20)!,
      /1\.5 dimensions of the 63.*--set nu/,
    );
  });

  it('behind the expander is explained before the vectors themselves collapse', () => {
    const behind = (embeddingStd: number) => ({ ...well, measures: { embeddingStd } });
    assert.equal(observe(watch(), behind(0.34), 100), undefined);
    assert.match(observe(watch(), behind(0.15), 20)!, /the expander.*0\.150.*--set mu/);
  });

  it('under a loss without such a weight is explained by what it has', () => {
    const contrastive = new CollapseWatch({ ...PRESETS.infonce, collapseStd: 0.1 }, 384);
    const said = observe(contrastive, { ...well, std: 0.01 }, 20)!;
    assert.match(said, /--batch.*--set learningRate/);
    assert.doesNotMatch(said, /--set [mn]u/);
  });

  it('needs a row of steps: one that is well begins the count anew', () => {
    const patient = watch();
    assert.equal(observe(patient, { ...well, std: 0 }, 19), undefined);
    patient.observe(well);
    assert.equal(observe(patient, { ...well, std: 0 }, 19), undefined);
  });

  it('is looked away from when the setting is 0', () => {
    const blind = new CollapseWatch({ ...PRESETS.vicreg, collapseStd: 0 }, 384);
    assert.equal(observe(blind, { std: 0, effectiveRank: 1 }, 50), undefined);
  });
});
