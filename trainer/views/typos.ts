import type { Random } from '../../base/random.js';
import type { Transformation, ViewOptions } from './transformation.js';
import { plainWord } from './words.js';

/** A slip in a shorter word makes another word of it. */
const FEWEST_LETTERS = 4;
/** How often the capital of a mistyped word is missing, too. */
const LOST_CAPITAL = 0.5;

/** A QWERTY keyboard, each row with how far it is shifted to the right, in keys. */
const ROWS: readonly (readonly [string, number])[] = [
  ['qwertyuiop', 0],
  ['asdfghjkl', 0.25],
  ['zxcvbnm', 0.75],
];

/** By letter, the keys that touch its key. */
export const NEIGHBOURS: ReadonlyMap<string, string> = (() => {
  const keys = ROWS.flatMap(([letters, shift], row) =>
    [...letters].map((letter, i) => ({ letter, row, x: i + shift })),
  );
  return new Map(
    keys.map(({ letter, row, x }) => {
      const near = keys.filter((key) => {
        const [rows, keysApart] = [Math.abs(key.row - row), Math.abs(key.x - x)];
        return rows === 0 ? keysApart === 1 : rows === 1 && keysApart < 1;
      });
      return [letter, near.map((key) => key.letter).join('')];
    }),
  );
})();

/**
 * Words as a hasty user types them: each word of the language with the same probability, one slip a word, which is
 * what most misspellings are (Damerau 1964): a neighbour key, a doubled or dropped letter, two letters transposed,
 * a missing apostrophe. The first letter is hardly ever wrong (Yannakoudakis and Fawthrop 1983), but its capital
 * may be missing. Numbers, versions, paths and commands stay.
 */
export function typos({ typoShare }: ViewOptions): Transformation {
  return (words, random) => {
    let edited = 0;
    const typed = words.map((word) => {
      const plain = plainWord(word);
      if (!plain || plain.core.length < FEWEST_LETTERS || random.float() >= typoShare) return word;
      edited++;
      return plain.before + mistype(plain.core, random) + plain.after;
    });
    return { words: typed, edited };
  };
}

type Slip = (letters: string[], i: number, random: Random) => void;

/** Each kind of slip with the places where it changes the word, given the letters and a place behind the first. */
const SLIPS: readonly { slip: Slip; fits(letters: readonly string[], i: number): boolean }[] = [
  {
    fits: (letters, i) => NEIGHBOURS.has(letters[i].toLowerCase()),
    slip(letters, i, random) {
      const near = NEIGHBOURS.get(letters[i].toLowerCase())!;
      const key = near[random.below(near.length)];
      letters[i] = isUpper(letters[i]) ? key.toUpperCase() : key;
    },
  },
  { fits: (letters, i) => isLetter(letters[i]), slip: (letters, i) => letters.splice(i, 0, letters[i]) },
  { fits: (letters, i) => isLetter(letters[i]), slip: (letters, i) => letters.splice(i, 1) },
  {
    fits: (letters, i) =>
      i + 1 < letters.length &&
      isLetter(letters[i]) &&
      isLetter(letters[i + 1]) &&
      letters[i] !== letters[i + 1],
    slip(letters, i) {
      [letters[i], letters[i + 1]] = [letters[i + 1], letters[i]];
    },
  },
  { fits: (letters, i) => isApostrophe(letters[i]), slip: (letters, i) => letters.splice(i, 1) },
];

/** The word with one slip, which is uniform among the kinds that can happen to it, and then among the places. */
function mistype(word: string, random: Random): string {
  const letters = [...word];
  const possible = SLIPS.flatMap(({ slip, fits }) => {
    const places = letters.flatMap((_, i) => (i > 0 && fits(letters, i) ? [i] : []));
    return places.length > 0 ? [{ slip, places }] : [];
  });
  const { slip, places } = possible[random.below(possible.length)];
  slip(letters, places[random.below(places.length)], random);
  if (/^\p{Lu}\p{Ll}/u.test(word) && random.float() < LOST_CAPITAL) letters[0] = letters[0].toLowerCase();
  return letters.join('');
}

function isLetter(character: string): boolean {
  return /^\p{L}$/u.test(character);
}

function isUpper(letter: string): boolean {
  return letter !== letter.toLowerCase();
}

function isApostrophe(character: string): boolean {
  return character === "'" || character === '’';
}
