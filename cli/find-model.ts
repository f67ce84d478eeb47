import type { OnNote } from '../encoder/compact.js';
import { findModel, type GotModel } from '../encoder/get-model.js';
import type { FetchProgress } from '../encoder/hub.js';
import { progressBar } from './progress.js';

/**
 * A model folder for a folder or a name; fetched, with a bar for each file, when it is not on this machine.
 *
 * @param say takes a line for the person who waits
 */
export async function findModelWithProgress(
  model: string,
  say: OnNote = (line) => console.error(line),
): Promise<GotModel> {
  return withFetchBars((onProgress) => findModel(model, { onProgress, onNote: say }));
}

export async function withFetchBars<T>(fetch: (onProgress: FetchProgress) => Promise<T>): Promise<T> {
  let current = '';
  let bar = progressBar('', 'bytes');
  try {
    return await fetch((what, done, total) => {
      if (what !== current) {
        bar.stop();
        bar = progressBar(what, 'bytes');
        current = what;
      }
      bar.update(done, total);
    });
  } finally {
    bar.stop();
  }
}
