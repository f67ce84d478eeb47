import { Command, Option } from 'commander';
import { pino } from 'pino';

import { UserError } from '../../base/errors.js';
import { startServer } from '../../server/main.js';
import { storeName } from '../../server/postgres/store-name.js';
import { integerFrom } from '../options.js';
import { openServices } from '../services.js';
import { untilStopped } from '../until-stopped.js';
import { configOf, serveCommand, type ServeOptions } from './serve.js';

/** What it shares with `serve`. */
const SHARED: readonly string[] = [
  ...['model', 'store', 'modelStore', 'dataDir', 'precision', 'backend', 'workers', 'threads'],
  'batchSeconds',
  ...['host', 'apiKey', 'apiKeyFile', 'insecure', 'allowHost', 'healthSeconds', 'drainSeconds', 'otlpUrl'],
  ...['trainingThreads', 'trainingMemoryMib', 'refitAfter', 'refitWindow', 'refitRequest', 'logLevel'],
];
const JOBS = ['ingest', 'training'] as const;
type Jobs = readonly (typeof JOBS)[number][];

interface WorkerOptions extends ServeOptions {
  jobs?: Jobs;
}

/** For probes and Prometheus. */
const ROUTES = ['health', 'ready', 'metrics'] as const;

export function workerCommand(): Command {
  const serve = serveCommand();
  const command = new Command('worker').description(
    'Do what servers on one PostgreSQL have queued: embed documents (POST /documents?async), fine-tune (POST /finetune).',
  );
  for (const option of serve.options) if (SHARED.includes(option.attributeName())) command.addOption(option);
  return command
    .addOption(
      new Option(
        '--port <n>',
        'answer /health, /ready and /metrics there; 0 for any free one (default: none)',
      )
        .env('SENTENCE_JEPA_PORT')
        .argParser(integerFrom(0, 65_535)),
    )
    .addOption(
      new Option(
        '--jobs <list>',
        'what it does: ingest, training, or both, separated by a comma (default: both, training with a --model-store)',
      )
        .env('SENTENCE_JEPA_JOBS')
        .argParser(parseJobs),
    )
    .addHelpText(
      'after',
      `
Any number of them may run, of which one trains at a time. Each has the model in memory; give it the one that the servers
have, and the same --model-store, where what was trained is put for all.

Examples:
  SENTENCE_JEPA_STORE=postgres://user:password@db/questions sentence-jepa worker
  sentence-jepa worker --store postgres://db/questions --model ./my-encoder --port 9100`,
    )
    .action((options: WorkerOptions) => work({ ...serve.opts<ServeOptions>(), port: undefined, ...options }));
}

/** @throws UserError `usage` */
function parseJobs(text: string): Jobs {
  const names = text.split(',').map((name) => name.trim());
  const wrong = names.find((name) => !JOBS.includes(name as Jobs[number]));
  if (wrong !== undefined)
    throw new UserError('usage', `--jobs: expected ${JOBS.join(' or ')}, came ${JSON.stringify(wrong)}`);
  return names as unknown as Jobs;
}

async function work(options: WorkerOptions): Promise<void> {
  const config = await configOf(options);
  const { store, modelStore, drainSeconds, logLevel } = config;
  if (store === undefined)
    throw new UserError(
      'usage',
      '--store: expected the PostgreSQL that the servers share (postgres://user:password@host/database), came none',
    );
  if (modelStore === undefined && options.jobs?.includes('training'))
    throw new UserError(
      'usage',
      '--jobs training: expected --model-store, where servers get the models from that are trained; came none',
    );
  const { jobs = modelStore === undefined ? ['ingest'] : JOBS } = options;
  const log = pino({ level: logLevel }, pino.destination(2));
  const say = (line: string): void => (process.stderr.isTTY ? console.error(line) : log.info(line));

  const server = await startServer(
    config,
    log,
    (observer) => openServices(config, undefined, say, observer),
    ROUTES,
  );
  const working = server.ready.then((services) => {
    if (jobs.includes('training')) services.jobs.work();
    return jobs.includes('ingest') ? services.collection.ingests!.work() : undefined;
  });
  const close = async (): Promise<void> => {
    const worker = await working.catch(() => undefined);
    await worker?.close(drainSeconds);
    await server.close();
  };
  const stopped = untilStopped(working, close, {
    announce: () => say(`stopping: what it works on may take ${drainSeconds} s; once more stops at once`),
  });
  const welcome = working.then(async () => {
    const { inference } = await server.ready;
    const where = server.url && `; /health, /ready and /metrics at ${server.url}`;
    say(`doing what is queued in ${storeName(store)} (${jobs.join(', ')}) by ${inference.name}${where}`);
  });
  await Promise.all([stopped, welcome]);
}
