import type { Inference } from '../batching/inference.js';
import { Thread } from '../threads.js';
import type { FilesHandlers, ModelFile } from './worker.js';

/** The files by which other runtimes load a model that is served, under their names in a model folder. */
export class ModelFiles {
  private readonly known = new WeakMap<Inference, Promise<ReadonlyMap<string, ModelFile>>>();

  /**
   * What a model has of them. Found once, when somebody asks: to make a graph and to read all bytes for their digests
   * takes from tenths of a second to seconds.
   *
   * @throws UserError where the folder can't be read any more
   */
  of(inference: Inference): Promise<ReadonlyMap<string, ModelFile>> {
    let files = this.known.get(inference);
    if (!files) {
      files = findFiles(inference.folder);
      this.known.set(inference, files);
      files.catch(() => this.known.delete(inference));
    }
    return files;
  }
}

async function findFiles(folder: string): Promise<ReadonlyMap<string, ModelFile>> {
  const thread = new Thread<FilesHandlers>(new URL('./worker.js', import.meta.url), 'model files');
  try {
    return new Map(await thread.call('find', folder));
  } finally {
    await thread.terminate();
  }
}
