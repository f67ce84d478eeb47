import { UserError } from '../base/errors.js';
import { isContext } from './context.js';
import type { Recipe } from './recipe.js';
import { checkViewName } from './views/make-view.js';

/** Reads one setting from text; throws a sentence that begins with "expected". */
type Reader<T> = (text: string) => T;

class Expected extends Error {}

function number(accepts: (value: number) => boolean, expected: string): Reader<number> {
  return (text) => {
    const value = text.trim() === '' ? Number.NaN : Number(text);
    if (!Number.isFinite(value) || !accepts(value)) throw new Expected(expected);
    return value;
  };
}

const integer = (least: number): Reader<number> =>
  number((value) => Number.isInteger(value) && value >= least, `a whole number from ${least} up`);
const notNegative = number((value) => value >= 0, 'a number from 0 up');
const positive = number((value) => value > 0, 'a number above 0');
const share = number((value) => value >= 0 && value <= 1, 'a number from 0 to 1');
const lessThanOne = number((value) => value >= 0 && value < 1, 'a number from 0 up and below 1');

function oneOf<T extends string>(...values: T[]): Reader<T> {
  return (text) => {
    const found = values.find((value) => value === text);
    if (!found) throw new Expected(values.join(' or '));
    return found;
  };
}

const flag: Reader<boolean> = (text) => oneOf('true', 'false')(text) === 'true';

/** The objective is the preset's: no other setting of it would make sense. */
const READERS: { [K in keyof Omit<Recipe, 'objective'>]: Reader<Recipe[K]> } = {
  batch: integer(2),
  pairShare: share,
  hardNegatives: integer(0),
  epochs: integer(1),
  maxSteps: integer(0),
  tokens: integer(0),
  seed: integer(0),
  chunk: integer(0),
  precision: oneOf('fp32', 'bf16', 'auto'),
  maxTokens: integer(3),
  pooling: oneOf('model', 'mean', 'cls'),
  views: (text) => {
    const names = text.split(',');
    if (names.length > 2) throw new Expected('one view, or two with a comma between');
    names.forEach(checkViewName);
    return names;
  },
  minCropWords: integer(1),
  cropShare: share,
  deletionShare: share,
  orderDistance: integer(1),
  maskingShare: share,
  typoShare: share,
  swapShare: share,
  expander: (text) => text.split(',').map(integer(1)),
  expanderBias: flag,
  invariance: oneOf('mse', 'mse-squared'),
  lambda: notNegative,
  mu: notNegative,
  nu: notNegative,
  predictorWidth: integer(0),
  targetEncoder: oneOf('same', 'average'),
  barlowLambda: notNegative,
  temperature: positive,
  symmetric: flag,
  context: (text) => {
    const context = text.trim();
    if (!isContext(context)) throw new Expected('words, or phrasings with | between and {} for the text');
    return context;
  },
  whitening: share,
  neighbourTexts: integer(0),
  neighbourTextWeight: notNegative,
  neighbours: integer(0),
  neighbourWeight: notNegative,
  pairWeight: notNegative,
  vectorWeight: notNegative,
  similarityWeight: notNegative,
  maskShare: number((value) => value > 0 && value < 1, 'a number above 0 and below 1'),
  mlmWeight: notNegative,
  rtdWeight: notNegative,
  reconstructionWeight: notNegative,
  editWeight: notNegative,
  keepWeight: notNegative,
  learningRate: positive,
  layerDecay: number((value) => value > 0 && value <= 1, 'a number above 0, at most 1'),
  expanderLearningRate: positive,
  schedule: oneOf('constant', 'linear', 'cosine'),
  warmup: share,
  weightDecay: notNegative,
  clip: notNegative,
  averageDecay: lessThanOne,
  averageLast: share,
  baseShare: lessThanOne,
  dropout: (text) => (text === 'model' ? 'model' : lessThanOne(text)),
  evaluateEvery: integer(1),
  patience: integer(0),
  checkpointEvery: integer(1),
  collapseStd: lessThanOne,
};

/** Names of all settings, for --help. */
export const SETTING_NAMES = Object.keys(READERS);

/**
 * A recipe with some settings changed. Who asks for epochs means them: a preset's number of steps gives way.
 *
 * @param settings each `key=value`, as after --set
 * @throws UserError `usage` for an unknown key or a value out of its range
 */
export function withSettings(recipe: Readonly<Recipe>, settings: readonly string[]): Recipe {
  const changed: Record<string, unknown> = { ...recipe };
  const asked = new Set<string>();
  for (const setting of settings) {
    const [, key, text] = /^([^=]+)=(.*)$/s.exec(setting) ?? [];
    if (key === undefined) throw new UserError('usage', `--set: expected key=value, found "${setting}"`);
    if (!Object.hasOwn(READERS, key))
      throw new UserError('usage', `--set: expected one of ${SETTING_NAMES.join(', ')}, found "${key}"`);
    asked.add(key);
    try {
      changed[key] = READERS[key as keyof typeof READERS](text);
    } catch (error) {
      if (!(error instanceof Expected)) throw error;
      throw new UserError('usage', `--set ${key}: expected ${error.message}, found "${text}"`);
    }
  }
  if (asked.has('epochs') && !asked.has('maxSteps')) changed['maxSteps'] = 0;
  return changed as unknown as Recipe;
}
