import type { GotModel } from '../encoder/get-model.js';
import type { FetchProgress } from '../encoder/hub.js';
import { canFetch, resolveModel } from '../encoder/resolve.js';
import type { OnNote } from '../encoder/unpack.js';
import { progressBars } from './progress.js';

/**
 * A model folder for a folder or a name; fetched, with a bar for each file, when it is not on this machine.
 *
 * @param say takes a line for the person who waits
 */
export async function findModelWithProgress(
  model: string,
  say: OnNote = (line) => console.error(line),
): Promise<GotModel> {
  try {
    return await resolveModel(model, say);
  } catch (error) {
    if (!canFetch(model)) throw error;
    say(`${model} is not on this machine yet: fetching it`);
    // A server that finds its model has no use for what fetches one.
    const { getModel } = await import('../encoder/get-model.js');
    return withFetchBars((onProgress) => getModel(model, { onProgress }));
  }
}

export async function withFetchBars<T>(fetch: (onProgress: FetchProgress) => Promise<T>): Promise<T> {
  const bars = progressBars('bytes');
  return fetch(bars.update).finally(bars.stop);
}
