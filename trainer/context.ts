/** The context that is asked for when a word of the texts' own is to be found. */
export const AUTO = 'auto';

/** Stands for the text in a phrasing. */
const TEXT = '{}';
const BETWEEN = '|';

/**
 * The phrasings that a recipe's `context` has, with "|" between them: words that stand behind a text, or a sentence in
 * which {} stands for it. What an encoder says of a text in several phrasings is steadier than what it says in one (as
 * of prompts, Radford et al. 2021, arXiv 2103.00020, section 3.1.4).
 */
export function phrasings(context: string): ((text: string) => string)[] {
  if (context === '') return [];
  return context.split(BETWEEN).map((phrase) => {
    const words = phrase.trim();
    const whole = words.includes(TEXT) ? words : `${TEXT} ${words}`;
    return (text) => whole.replaceAll(TEXT, () => text);
  });
}

/** Whether each phrasing adds something to the text. */
export function isContext(context: string): boolean {
  return phrasings(context).every((say) => say('').trim() !== '');
}
