import { readFile } from 'node:fs/promises';
import path from 'node:path';

import { UserError } from '../base/errors.js';
import { projectRoot } from '../base/paths.js';
import { canFetch, DEFAULT_MODEL, resolveModel } from '../encoder/resolve.js';
import { cachedInference } from '../server/batching/cached-inference.js';
import { startInference } from '../server/batching/start-inference.js';
import { defaults, type ServerConfig } from '../server/config.js';
import { documentOf } from '../server/http/document-line.js';
import type { Observer } from '../server/observer.js';
import type { Collection } from '../server/search/collection.js';
import { openCollection } from '../server/search/open-collection.js';
import type { Services } from '../server/services.js';
import { findModelWithProgress } from './find-model.js';
import { progressBar } from './progress.js';

/**
 * Finds the model, fetching it when it is a name that is not in the cache, starts inference and opens the
 * collection.
 *
 * @param example load the example questions when the collection is empty
 * @param say one line for the person who started the server
 * @param observer is told of what is embedded and searched
 */
export async function openServices(
  config: ServerConfig,
  example: boolean,
  say: (line: string) => void,
  observer: Observer,
): Promise<Services> {
  const model = config.model ?? DEFAULT_MODEL;
  const isHere = await resolveModel(model, say).then(
    () => true,
    () => false,
  );
  if (!isHere && canFetch(model)) say(`${model} is not on this machine yet: fetching it`);
  const { dir, source } = await findModelWithProgress(model, say);
  if (source) say(`fetched ${model} from ${source} into ${dir}`);
  say(`loading ${model}`);
  const open = (choice: ServerConfig['precision']): Promise<Services> =>
    openWith({ ...config, model, precision: choice }, example, say, observer);
  try {
    return await open(config.precision);
  } catch (error) {
    const mismatch = error instanceof UserError && error.kind === 'fingerprint-mismatch';
    if (config.precision !== 'auto' || !mismatch) throw error;
    // What is faster can change from start to start; what the vectors there were made with does not.
    for (const precision of ['fp32', 'int8'] as const)
      try {
        const services = await open(precision);
        say(`the collection was embedded in ${precision}, and so is what is asked of it`);
        return services;
      } catch (again) {
        if (!(again instanceof UserError && again.kind === 'fingerprint-mismatch')) throw again;
      }
    throw error;
  }
}

async function openWith(
  config: ServerConfig & { model: string },
  example: boolean,
  say: (line: string) => void,
  observer: Observer,
): Promise<Services> {
  const { model, precision, workers, threads, batchSeconds, maxQueueTokens, dataDir, reembed } = config;
  const started = await startInference({
    ...{ model, precision, workers, threads, batchSeconds, maxQueueTokens, observer },
  });
  const inference = cachedInference(started, config.cacheMib * 2 ** 20);
  const embedding = progressBar('embedding the collection again', 'documents');
  try {
    const collection = await openCollection({
      dataDir,
      inference,
      reembed,
      recall: config.recall,
      lexicalWeight: config.lexicalWeight,
      onProgress: embedding.update,
      log: say,
      observer,
    });
    try {
      const { documents } = collection.info();
      const where = path.resolve(dataDir);
      if (example && documents > 0) say(`--example: left out, ${where} holds ${documents} documents already`);
      else if (example) await loadExample(collection);
      else if (documents === 0)
        say('the collection is empty; start with --example to try it with example questions');
    } catch (error) {
      await collection.close();
      throw error;
    }
    return { inference, collection };
  } catch (error) {
    await inference.close();
    throw error;
  } finally {
    embedding.stop();
  }
}

async function loadExample(collection: Collection): Promise<void> {
  const file = path.join(projectRoot, 'examples/askubuntu-style/corpus.jsonl');
  const lines = (await readFile(file, 'utf8')).trimEnd().split('\n');
  const limits = { characters: defaults.maxCharacters };
  await collection.upsert(
    lines.map((line, i) => documentOf({ number: i + 1, bytes: Buffer.from(line) }, limits)),
  );
}
