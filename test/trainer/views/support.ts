import { Random } from '../../../base/random.js';
import { PRESETS } from '../../../trainer/presets.js';
import type { Viewed } from '../../../trainer/types.js';
import { makeView } from '../../../trainer/views/make-view.js';
import type { ViewOptions } from '../../../trainer/views/transformation.js';

/** Views of one text by many seeds. */
export function viewsBySeed(
  name: string,
  text: string,
  options: Partial<ViewOptions> = {},
  seeds = 300,
): Viewed[] {
  const view = makeView(name, { ...PRESETS.vicreg, ...options });
  return Array.from({ length: seeds }, (_, seed) => view.apply({ first: text }, new Random(seed)));
}

/** Titles as users write them, with all that a view must leave alone. */
export const TITLES = [
  'How can I install 12.04.2?',
  "Why can't I mount /dev/sda1 on boot?",
  'I am not able to delete a corrupt NTFS partition on my pen drive. How can I force its deletion?',
  'apt-get update fails with "404 Not Found"',
  'WiFi (RTL8188) drops after suspend',
  'black',
  'è già installato?',
  '\tfile   permissions of ~/.ssh\n',
  '??',
];
