import type { Random } from '../../base/random.js';
import type { Recipe } from '../recipe.js';

/** The settings that views have. */
export type ViewOptions = Pick<
  Recipe,
  | 'minCropWords'
  | 'cropShare'
  | 'deletionShare'
  | 'orderDistance'
  | 'maskingShare'
  | 'typoShare'
  | 'swapShare'
>;

/** One step of a view; pure: all chance comes from `random`. Of words it leaves at least one. */
export type Transformation = (
  words: readonly string[],
  random: Random,
) => {
  words: readonly string[];
  /** How many words it removed, moved or changed. */
  edited: number;
};
