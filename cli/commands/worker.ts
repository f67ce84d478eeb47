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
  ...['model', 'store', 'modelStore', 'dataDir', 'precision', 'workers', 'threads', 'batchSeconds'],
  ...['host', 'apiKey', 'apiKeyFile', 'insecure', 'allowHost', 'healthSeconds', 'drainSeconds', 'otlpUrl'],
  'logLevel',
];
/** For probes and Prometheus. */
const ROUTES = ['health', 'ready', 'metrics'] as const;

export function workerCommand(): Command {
  const serve = serveCommand();
  const command = new Command('worker').description(
    'Embed documents that servers on one PostgreSQL have queued (POST /documents?async).',
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
    .addHelpText(
      'after',
      `
Any number of them may run. Each has the model in memory; give it the one that the servers have.

Examples:
  SENTENCE_JEPA_STORE=postgres://user:password@db/questions sentence-jepa worker
  sentence-jepa worker --store postgres://db/questions --model ./my-encoder --port 9100`,
    )
    .action((options: ServeOptions) => work({ ...serve.opts<ServeOptions>(), port: undefined, ...options }));
}

async function work(options: ServeOptions): Promise<void> {
  const config = await configOf(options);
  const { store, drainSeconds, logLevel } = config;
  if (store === undefined)
    throw new UserError(
      'usage',
      '--store: expected the PostgreSQL that the servers share (postgres://user:password@host/database), came none',
    );
  const log = pino({ level: logLevel }, pino.destination(2));
  const say = (line: string): void => (process.stderr.isTTY ? console.error(line) : log.info(line));

  const server = await startServer(
    config,
    log,
    (observer) => openServices(config, undefined, say, observer),
    ROUTES,
  );
  const working = server.ready.then(({ collection }) => collection.ingests!.work());
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
    say(`embedding what is queued in ${storeName(store)} by ${inference.name}${where}`);
  });
  await Promise.all([stopped, welcome]);
}
