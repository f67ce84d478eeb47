import { UserError } from '../../base/errors.js';
import type { Edit, Source, View } from '../types.js';
import { deletion } from './deletion.js';
import type { EditKind } from './edits.js';
import { masking } from './masking.js';
import { swap } from './swap.js';
import type { Transformation, ViewOptions } from './transformation.js';
import { typos } from './typos.js';
import { wordCrop } from './word-crop.js';
import { wordOrder } from './word-order.js';
import { wordsOf } from './words.js';

/** What of an example a view begins with; where there is no title or no body, the text. */
const BEGINNINGS: Readonly<Record<string, (source: Source) => string>> = {
  same: ({ first }) => first,
  title: ({ first, title }) => title ?? first,
  body: ({ first, body }) => body ?? first,
};

interface Step {
  kind: EditKind;
  make(options: ViewOptions): Transformation;
}

const STEPS: Readonly<Record<string, Step>> = {
  'word-crop': { kind: 'crop', make: wordCrop },
  deletion: { kind: 'deletion', make: deletion },
  'word-order': { kind: 'order', make: wordOrder },
  masking: { kind: 'masking', make: masking },
  typos: { kind: 'typo', make: typos },
  synonym: { kind: 'synonym', make: swap('synonym') },
  hyponym: { kind: 'hyponym', make: swap('hyponym') },
  sibling: { kind: 'sibling', make: swap('sibling') },
  antonym: { kind: 'antonym', make: swap('antonym') },
};

export const VIEW_NAMES: readonly string[] = [...Object.keys(BEGINNINGS), ...Object.keys(STEPS)];

/**
 * The view of that name, or of several in a chain: `word-crop+typos` crops, then mistypes what is left.
 *
 * @throws UserError `usage`, naming the views there are; `unavailable` when a package that it needs isn't installed
 */
export function makeView(name: string, options: ViewOptions): View {
  const { begin, steps } = parseView(name);
  const transformations = steps.map(({ kind, make }) => ({ kind, transform: make(options) }));
  return {
    name,
    apply(source, random) {
      const text = begin(source);
      let words: readonly string[] = wordsOf(text);
      const all = words.length;
      const edits: Edit[] = [];
      for (const { kind, transform } of transformations) {
        const { words: left, edited } = transform(words, random);
        if (edited > 0) edits.push({ kind, words: edited });
        words = left;
      }
      return { text: transformations.length > 0 ? words.join(' ') : text, edits, words: all };
    },
  };
}

/** @throws UserError `usage` when there is no such view, without loading what it needs */
export function checkViewName(name: string): void {
  parseView(name);
}

function parseView(name: string): { begin: (source: Source) => string; steps: Step[] } {
  const parts = name.split('+');
  const unknown = parts.find((part) => !VIEW_NAMES.includes(part));
  if (unknown !== undefined)
    throw new UserError('usage', `view: expected one of ${VIEW_NAMES.join(', ')}, found "${unknown}"`);
  const late = parts.slice(1).find((part) => Object.hasOwn(BEGINNINGS, part));
  if (late !== undefined)
    throw new UserError('usage', `view: expected ${late} in front of what is done to it, found "${name}"`);
  const begins = Object.hasOwn(BEGINNINGS, parts[0]);
  return {
    begin: begins ? BEGINNINGS[parts[0]] : BEGINNINGS.same,
    steps: parts.slice(begins ? 1 : 0).map((part) => STEPS[part]),
  };
}

/** Whether a view of that name asks for an example's title or body. */
export function usesTitleOrBody(name: string): boolean {
  return ['title', 'body'].includes(name.split('+')[0]);
}
