import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import { pino } from 'pino';

import { UserError } from '../../base/errors.js';
import type { Inference } from '../../server/batching/inference.js';
import { startInference } from '../../server/batching/start-inference.js';
import { cachedInference } from '../../server/batching/cached-inference.js';
import { defaults } from '../../server/config.js';
import { Jobs } from '../../server/jobs/jobs.js';
import { startServer } from '../../server/main.js';
import { Maps } from '../../server/map/maps.js';
import { openPostgresCollection } from '../../server/postgres/open-collection.js';
import { openCollection } from '../../server/search/open-collection.js';
import { tell } from './faults.js';
import type { FromServer, ServerOptions, ToServer } from './server.js';

/** The server in a process of its own, as `serve` starts it, but with a graph from few documents on. See server.ts. */
const options = JSON.parse(process.argv[2]) as ServerOptions;
const { model, dataDir, exactUpTo, ...given } = options;
const config = {
  ...defaults,
  dataDir,
  port: 0,
  apiKeys: [],
  insecure: false,
  reembed: false,
  threads: 1,
  workers: 1,
  logLevel: 'info',
  ...given,
  limits: {
    texts: defaults.maxTexts,
    characters: defaults.maxCharacters,
    bytes: defaults.maxBodyMib * 2 ** 20,
    bodySeconds: defaults.bodySeconds,
    ...given.limits,
  },
  training: { memoryMib: defaults.trainingMemoryMib },
};

const say = (message: FromServer): void => void process.send?.(message);
const log = pino({ level: config.logLevel }, pino.destination(2));
try {
  const server = await startServer(config, log, async (observer) => {
    const { workers, threads, batchSeconds, maxQueueTokens, maxQueueSeconds, reembed } = config;
    const load = async (folder: string): Promise<Inference> => {
      const limits = { batchSeconds, maxQueueTokens, maxQueueSeconds };
      const inference = await startInference({ model: folder, workers, threads, ...limits, observer });
      return cachedInference(inference, config.cacheMib * 2 ** 20);
    };
    const inference = await load(model);
    const common = { inference, exactUpTo, observer, log: (line: string) => log.info(line) };
    const collection =
      config.store === undefined
        ? await openCollection({ ...common, dataDir })
        : await openPostgresCollection({
            ...{ ...common, url: config.store, source: model, reembed },
            openModel: ({ source }) => load(source!),
          });
    const jobs = new Jobs({
      collection,
      dataDir,
      // It trains nothing, and no model comes of it.
      command: [process.execPath, fileURLToPath(new URL('../server/fake-trainer.js', import.meta.url))],
      presets: ['context'],
      openModel: async (folder) => {
        throw new UserError('not-found', `${folder}: no model`);
      },
      modelOf: async ({ model }) => model,
      threads: 1,
      memoryBytes: 2 ** 30,
      log: (line) => log.info(line),
    });
    jobs.work();
    return {
      get inference() {
        return collection.served().inference;
      },
      ...{ collection, jobs, maps: new Maps(dataDir) },
    };
  });
  process.once('SIGTERM', () => void server.close().then(() => process.exit(0)));
  await server.ready;
  say({ url: server.url });
} catch (error) {
  console.error(error instanceof UserError ? `error: ${error.message}` : error);
  process.exit(1);
}

// Whoever started it was ended itself.
process.once('disconnect', () => process.exit(1));

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

process.on('message', (message: ToServer) => {
  if ('usage' in message) {
    collectGarbage();
    collectGarbage();
    const { rss, heapUsed, external } = process.memoryUsage();
    say({ usage: { rss, heapUsed, external, handles: process.getActiveResourcesInfo().length } });
  } else tell(message.fault);
});
