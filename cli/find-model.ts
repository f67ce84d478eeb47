import { findModel, type GotModel } from '../encoder/get-model.js';
import type { FetchProgress } from '../encoder/hub.js';
import { progressBar } from './progress.js';

/** A model folder for a folder or a name; fetched, with a bar for each file, when it is not on this machine. */
export async function findModelWithProgress(model: string): Promise<GotModel> {
  return withFetchBars((onProgress) => findModel(model, { onProgress }));
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
