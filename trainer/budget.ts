import type { Feed } from './feed.js';

/**
 * The steps after which a run has seen that many real tokens, of all views. A step is a function of its number, so
 * this is known before the first one is made.
 */
export async function stepsForTokens(feed: Feed, tokens: number): Promise<number> {
  let step = 0;
  for (let seen = 0; seen < tokens;) {
    const { views } = await feed.at(++step);
    seen += views.reduce((sum, { ids }) => sum + ids.length, 0);
  }
  return step;
}
