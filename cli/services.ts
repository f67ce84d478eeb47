import { readFile } from 'node:fs/promises';
import path from 'node:path';

import { projectRoot } from '../base/paths.js';
import { DEFAULT_MODEL } from '../encoder/resolve.js';
import { startInference } from '../server/batching/start-inference.js';
import { defaults, type ServerConfig } from '../server/config.js';
import { documentOf } from '../server/http/document-line.js';
import type { Collection } from '../server/search/collection.js';
import { openCollection } from '../server/search/open-collection.js';
import type { Services } from '../server/services.js';
import { findModelWithProgress } from './find-model.js';
import { progressBar } from './progress.js';

/**
 * Finds the model, downloading it when it is a name that is not in the cache, starts inference and
 * opens the collection.
 *
 * @param say one line for the person who started the server
 */
export async function openServices(config: ServerConfig, say: (line: string) => void): Promise<Services> {
  const { precision = 'fp32', workers, threads, dataDir, reembed } = config;
  const model = config.model ?? DEFAULT_MODEL;
  const { source } = await findModelWithProgress(model);
  if (source) say(`fetched ${model} from ${source}`);
  say(`loading ${model}`);
  const inference = await startInference({ model, precision, workers, threads });
  const embedding = progressBar('embedding the collection again', 'documents');
  try {
    const collection = await openCollection({
      dataDir,
      inference,
      reembed,
      onProgress: embedding.update,
      log: say,
    });
    return { inference, collection, precision };
  } catch (error) {
    await inference.close();
    throw error;
  } finally {
    embedding.stop();
  }
}

/** Loads the example questions. @returns how many */
export async function loadExample(collection: Collection): Promise<number> {
  const file = path.join(projectRoot, 'examples/askubuntu-style/corpus.jsonl');
  const lines = (await readFile(file, 'utf8')).trimEnd().split('\n');
  const limits = { characters: defaults.maxCharacters };
  const documents = lines.map((line, i) => documentOf({ number: i + 1, bytes: Buffer.from(line) }, limits));
  const { inserted } = await collection.upsert(documents);
  return inserted;
}
