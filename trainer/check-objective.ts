import { UserError } from '../base/errors.js';
import { comparesTwo, knowsMore, type Recipe } from './recipe.js';

/** What a run has beside its recipe. */
export interface Given {
  /** An encoder to learn from that is not its own. */
  teacher: boolean;
  /** Whether there are any; undefined: not known yet. */
  pairs?: boolean;
}

/**
 * That an objective has what it learns from, and no setting that it has no use for.
 *
 * @throws UserError `usage`
 */
export function checkObjective(recipe: Recipe, { teacher, pairs }: Given): void {
  const { objective, views } = recipe;
  const compares = comparesTwo(objective);
  const expect = (holds: boolean, message: string): void => {
    if (!holds) throw new UserError('usage', message);
  };
  if (objective === 'distill')
    expect(
      teacher || knowsMore(recipe) || pairs !== false,
      'expected --teacher DIR|NAME for --objective distill, found none; the encoder can be its own with --set context=WORDS, neighbours=N or --pairs',
    );
  else
    expect(
      !teacher || recipe.keepWeight > 0 || recipe.hardNegatives > 0,
      `expected --objective distill or --set keepWeight=... with --teacher, found ${objective}; leave one of the two out`,
    );
  expect(
    recipe.hardNegatives === 0 || objective === 'infonce',
    `--set hardNegatives: expected --objective infonce, which tells a text from the others of its batch, found ${objective}`,
  );
  // Which steps a number of tokens is has to be known before the teacher has encoded a text.
  expect(
    recipe.hardNegatives === 0 || recipe.tokens === 0,
    `--set tokens: expected 0 with hardNegatives, found ${recipe.tokens}; --max-steps ends a run, too`,
  );
  expect(
    !compares || recipe.pairShare < 1 || pairs !== false,
    '--set pairShare=1: expected --pairs FILE, since a batch is to be pairs alone, found none',
  );
  if (compares) expect(views.length <= 2, `--set views: expected one view, or two, found ${views.length}`);
  expect(
    !pairs || objective === 'distill' || (compares && objective !== 'simcse'),
    objective === 'simcse'
      ? 'expected texts by --data for --objective simcse, found --pairs; --objective infonce is the same loss on pairs'
      : `expected texts by --data for --objective ${objective}, found --pairs; put both texts of a pair into a file of texts`,
  );
  expect(
    objective !== 'simcse' || recipe.dropout !== 0 || views.some((view) => view !== 'same'),
    '--set dropout: expected a number above 0 for simcse, whose views differ by nothing else, found 0',
  );
  for (const weight of [
    'mlmWeight',
    'rtdWeight',
    'reconstructionWeight',
    'editWeight',
    'keepWeight',
  ] as const)
    expect(
      compares || recipe[weight] === 0,
      `--set ${weight}: expected an objective that compares two views beside it, found ${objective}`,
    );
  expect(
    objective === 'vicreg' || recipe.predictorWidth === 0,
    `--set predictorWidth: expected --objective vicreg with a predictor, found ${objective}`,
  );
  expect(
    recipe.averageDecay === 0 || recipe.averageLast === 0,
    `--set averageLast: expected 0 with averageDecay, found ${recipe.averageLast}; either is an average of the weights`,
  );
  const onLastView = ['mlmWeight', 'rtdWeight', 'reconstructionWeight'] as const;
  if (recipe.hardNegatives > 0)
    for (const weight of onLastView)
      expect(
        recipe[weight] === 0,
        `--set ${weight}: expected 0 with hardNegatives, found ${recipe[weight]}; what is asked of the last view is not asked of texts that are no view`,
      );
  if (recipe.targetEncoder === 'same') return;
  expect(
    objective === 'vicreg' && recipe.averageDecay > 0,
    `--set targetEncoder=average: expected --objective vicreg with averageDecay=... above 0, found ${objective} with ${recipe.averageDecay}`,
  );
  for (const weight of onLastView)
    expect(
      recipe[weight] === 0,
      `--set ${weight}: expected 0 with targetEncoder=average, found ${recipe[weight]}; of the view that it would look at nothing is learned`,
    );
}
