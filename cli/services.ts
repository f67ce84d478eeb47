import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { UserError } from '../base/errors.js';
import { projectRoot } from '../base/paths.js';
import { DEFAULT_MODEL } from '../encoder/resolve.js';
import { cachedInference } from '../server/batching/cached-inference.js';
import { startInference } from '../server/batching/start-inference.js';
import { defaults, type ServerConfig } from '../server/config.js';
import { documentOf } from '../server/http/document-line.js';
import type { Inference } from '../server/batching/inference.js';
import { Jobs } from '../server/jobs/jobs.js';
import type { Observer } from '../server/observer.js';
import type { Collection, TrainableCollection } from '../server/search/collection.js';
import { storeName } from '../server/postgres/store-name.js';
import { beginCollection } from '../server/search/open-collection.js';
import { Maps } from '../server/map/maps.js';
import { activatedModel } from '../server/search/store.js';
import type { Services } from '../server/services.js';
import { DEFAULT_PRESET, PRESETS } from '../trainer/presets.js';
import { checkRecipe } from './check-recipe.js';
import { findModelWithProgress } from './find-model.js';
import { modelOf } from './generation-model.js';
import { progressBar } from './progress.js';

/**
 * Finds the model, fetching it when it is a name that is not in the cache, starts inference and opens the
 * collection.
 *
 * @param example load the example questions when the collection is empty; undefined: nothing is said of them either
 * @param say one line for the person who started the server
 * @param observer is told of what is embedded and searched
 */
export async function openServices(
  config: ServerConfig,
  example: boolean | undefined,
  say: (line: string) => void,
  observer: Observer,
): Promise<Services> {
  const activated = config.reembed ? undefined : await activatedIn(config);
  if (activated)
    say(
      `${activated.model} was activated here, and goes on (--reembed returns to --model ${config.model ?? DEFAULT_MODEL})`,
    );
  const model = activated ? await modelOf(activated, config, say) : (config.model ?? DEFAULT_MODEL);
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
  example: boolean | undefined,
  say: (line: string) => void,
  observer: Observer,
): Promise<Services> {
  const {
    model,
    precision,
    backend,
    workers,
    threads,
    batchSeconds,
    maxQueueTokens,
    maxQueueSeconds,
    dataDir,
    reembed,
  } = config;
  const load = async (options: Parameters<typeof startInference>[0]): Promise<Inference> =>
    cachedInference(
      await startInference({ batchSeconds, maxQueueTokens, maxQueueSeconds, observer, ...options }),
      config.cacheMib * 2 ** 20,
    );
  const { store, recall, lexicalWeight } = config;
  const common = { lexicalWeight, log: say, observer };
  const opening = store === undefined ? beginCollection({ ...common, dataDir, recall }) : undefined;
  let inference: Inference;
  try {
    inference = await load({ model, precision, backend, workers, threads, quiet: opening?.settled });
  } catch (error) {
    await opening?.close();
    throw error;
  }
  // As the first model was, and not measured again.
  const loadAlike = (other: string, background?: boolean): Promise<Inference> => {
    const { workersWanted, threadsPerWorker } = inference.stats();
    return load({
      ...{ model: other, precision: inference.precision, backend, background },
      ...{ workers: workersWanted, threads: threadsPerWorker },
    });
  };
  const embedding = progressBar('embedding the collection again', 'documents');
  try {
    const served = {
      inference,
      source: model !== DEFAULT_MODEL && existsSync(model) ? path.resolve(model) : model,
      reembed,
      onProgress: embedding.update,
    };
    const collection = opening
      ? await opening.serve(served)
      : await (
          await postgres()
        ).openPostgresCollection({
          ...common,
          ...served,
          url: store!,
          recall,
          openModel: async (generation) => loadAlike(await modelOf(generation, config, say)),
        });
    try {
      const { documents } = collection.info();
      const where = placeOf(config);
      if (example && documents > 0) say(`--example: left out, ${where} holds ${documents} documents already`);
      else if (example) await loadExample(collection);
      else if (documents === 0 && example !== undefined)
        say('the collection is empty; start with --example to try it with example questions');
      const jobs = jobsOf(config, collection, say, (other, { background } = {}) =>
        loadAlike(other, background),
      );
      // Several on one store leave them to workers.
      if (store === undefined) jobs.work();
      else if (config.training.schedule)
        say('--refit-after: left to the workers that have it (sentence-jepa worker)');
      return {
        get inference(): Inference {
          return collection.served().inference;
        },
        collection,
        jobs,
        maps: new Maps(store === undefined ? path.resolve(dataDir) : undefined, say),
      };
    } catch (error) {
      await collection.close();
      throw error;
    }
  } catch (error) {
    await inference.close();
    throw error;
  } finally {
    embedding.stop();
  }
}

const NO_MODEL_STORE =
  'with --store, workers train (sentence-jepa worker), and servers get their models from --model-store: expected a folder that all share, or s3://BUCKET/PREFIX, came none';

/** Where the collection is, for people to read. */
function placeOf({ store, dataDir }: ServerConfig): string {
  return store === undefined ? path.resolve(dataDir) : storeName(store);
}

/** Loaded when it is asked for: its client and migrations are a fifth of a second that no other start should take. */
const postgres = () => import('../server/postgres/open-collection.js');

/** The live model, when a training job made it. */
async function activatedIn({
  store,
  dataDir,
}: ServerConfig): Promise<{ model: string; fingerprint: string; job: number } | undefined> {
  return store === undefined ? activatedModel(dataDir) : (await postgres()).activatedOn(store);
}

function jobsOf(
  config: ServerConfig,
  collection: TrainableCollection,
  log: (line: string) => void,
  openModel: (model: string, options?: { background?: boolean }) => Promise<Inference>,
): Jobs {
  const { store, modelStore, training } = config;
  return new Jobs({
    collection,
    dataDir: jobsFolderOf(config),
    command: [process.execPath, fileURLToPath(new URL('./main.js', import.meta.url))],
    check: checkRecipe,
    presets: [DEFAULT_PRESET, ...Object.keys(PRESETS).filter((name) => name !== DEFAULT_PRESET)],
    openModel,
    modelOf: (generation) => modelOf(generation, config, log),
    ...(modelStore !== undefined && { publish: (folder) => publishModel(folder, modelStore) }),
    threads: training.threads ?? Math.max(1, Math.floor(availableParallelism() / 2)),
    memoryBytes: training.memoryMib * 2 ** 20,
    schedule: training.schedule,
    ...(store !== undefined && modelStore === undefined && { refusal: NO_MODEL_STORE }),
    log,
  });
}

/** Where jobs have their files: of a database not the data folder itself, where another collection's jobs have the same numbers. */
function jobsFolderOf({ dataDir, store }: ServerConfig): string {
  if (store === undefined) return path.resolve(dataDir);
  const name = createHash('sha256').update(storeName(store)).digest('hex').slice(0, 16);
  return path.resolve(dataDir, 'stores', name);
}

async function publishModel(folder: string, modelStore: string): Promise<void> {
  const { publish } = await import('../server/model-store/model-store.js');
  await publish(folder, modelStore);
}

async function loadExample(collection: Collection): Promise<void> {
  const file = path.join(projectRoot, 'examples/askubuntu-style/corpus.jsonl');
  const lines = (await readFile(file, 'utf8')).trimEnd().split('\n');
  const limits = { characters: defaults.maxCharacters };
  await collection.upsert(
    lines.map((line, i) => documentOf({ number: i + 1, bytes: Buffer.from(line) }, limits)),
  );
}
