import { UserError } from '../../base/errors.js';
import { DEFAULT_PRESET, presetNamed } from '../presets.js';
import type { Recipe } from '../recipe.js';
import { withSettings } from '../settings.js';
import type { Definition, RunDefinition, Value } from './definition.js';

/** A run that may be made with any seed. */
export interface PlannedRun {
  /** Names its folder as well. */
  name: string;
  /** Under `runs` in the file: several have the same when they come of a grid. */
  family: string;
  /** Of a grid: this run's values. */
  values: Record<string, string>;
  preset: string;
  /** key=value each, over the preset; the later one counts. */
  settings: string[];
  data: boolean;
  pairs: boolean;
  adapt?: string;
  train: boolean;
}

/**
 * Every run of an experiment, in the order of the file; a grid's in that of its values, the last key the fastest.
 *
 * @param file what to call the experiment
 * @throws UserError `invalid` for two runs of one name, a reference that is no run, pairs without training, a seed of its
 *   own, a preset that is not there or a setting out of its range
 */
export function planRuns(definition: Definition, file: string): PlannedRun[] {
  const planned = Object.entries(definition.runs).flatMap(([family, run]) =>
    combinations(run.grid ?? {}).map((values) => plannedRun(definition, family, run, values)),
  );
  const names = planned.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined)
    throw new UserError(
      'invalid',
      `${file}: runs: expected runs of different names, found two named ${twice}`,
    );
  const { reference } = definition;
  if (reference !== undefined && !names.includes(reference))
    throw new UserError(
      'invalid',
      `${file}: reference: expected one of ${names.join(', ')}, found "${reference}"`,
    );
  for (const run of planned) {
    if (!run.train && run.adapt === undefined)
      throw new UserError(
        'invalid',
        `${file}: runs.${run.family}.adapt: expected a text beside train: false, found nothing`,
      );
    if (!run.train && run.pairs)
      throw new UserError(
        'invalid',
        `${file}: runs.${run.family}.pairs: expected none beside train: false, since pairs are trained on; found true`,
      );
    const seed = run.settings.find((setting) => setting.startsWith('seed='));
    if (seed !== undefined)
      throw new UserError(
        'invalid',
        `${file}: runs.${run.family}: expected no seed among settings and grid, found ${seed}; every run is made with each of the experiment's seeds (seeds: [1, 2])`,
      );
    try {
      recipeOf(run, 0);
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      throw new UserError('invalid', `${file}: runs.${run.family}: ${error.message}`, { cause: error });
    }
  }
  return planned;
}

/** What a run trains. @throws UserError `usage` for an unknown preset or a setting out of its range */
export function recipeOf({ preset, settings }: PlannedRun, seed: number): Recipe {
  return withSettings(presetNamed(preset), [...settings, `seed=${seed}`]);
}

/**
 * The runs that `--only` names, by their own names or their family's; all without one.
 *
 * @throws UserError `usage` for a name that no run has
 */
export function chooseRuns(runs: readonly PlannedRun[], only: readonly string[]): PlannedRun[] {
  for (const wanted of only)
    if (!runs.some(({ name, family }) => name === wanted || family === wanted))
      throw new UserError(
        'usage',
        `--only: expected one of ${runs.map(({ name }) => name).join(', ')}, found "${wanted}"`,
      );
  return runs.filter(({ name, family }) => only.length === 0 || only.includes(name) || only.includes(family));
}

function plannedRun(
  definition: Definition,
  family: string,
  { preset, settings, data = true, pairs = false, adapt, train = true }: RunDefinition,
  values: Record<string, string>,
): PlannedRun {
  const all = { ...texts(definition.settings), ...texts(settings), ...values };
  return {
    // A folder's name: what might mean something to a shell or a file system is taken out.
    name: [family, ...Object.values(values)].join('-').replace(/[^\w.,=+-]/g, '_'),
    family,
    values,
    preset: preset ?? definition.preset ?? DEFAULT_PRESET,
    settings: Object.entries(all).map(([key, text]) => `${key}=${text}`),
    data,
    pairs,
    train,
    ...(adapt !== undefined && { adapt }),
  };
}

function texts(settings: Record<string, Value> = {}): Record<string, string> {
  return Object.fromEntries(Object.entries(settings).map(([key, value]) => [key, String(value)]));
}

/** The cartesian product; of no keys it is one combination of nothing. */
function combinations(grid: Record<string, Value[]>): Record<string, string>[] {
  return Object.entries(grid).reduce<Record<string, string>[]>(
    (before, [key, values]) =>
      before.flatMap((combination) => values.map((value) => ({ ...combination, [key]: String(value) }))),
    [{}],
  );
}
