import type { PackedEdits, Viewed } from '../types.js';

/** What a view can do to the words of a text, in the order of the columns of PackedEdits: never another. */
export const EDIT_KINDS = Object.freeze([
  'crop',
  'deletion',
  'order',
  'masking',
  'typo',
  'synonym',
  'hyponym',
  'sibling',
  'antonym',
] as const);

export type EditKind = (typeof EDIT_KINDS)[number];

/** What was done to each text of one view, for a head that learns to tell. */
export function packEdits(view: readonly Viewed[]): PackedEdits {
  const kinds = new Uint8Array(view.length * EDIT_KINDS.length);
  const shares = new Float32Array(kinds.length);
  view.forEach(({ edits, words: all }, i) => {
    for (const { kind, words } of edits) {
      const at = i * EDIT_KINDS.length + EDIT_KINDS.indexOf(kind);
      kinds[at] = 1;
      shares[at] = Math.min(1, shares[at] + words / all);
    }
  });
  return { kinds, shares };
}
