import { readFile } from 'node:fs/promises';
import path from 'node:path';

import { Command, Option } from 'commander';
import { pino, type Logger } from 'pino';

import { messageOf, UserError } from '../../base/errors.js';
import { fileError } from '../../base/files.js';
import type { PrecisionChoice } from '../../server/batching/start-inference.js';
import { BACKEND_CHOICES, type BackendChoice } from '../../encoder/backend.js';
import { DEFAULT_MODEL } from '../../encoder/resolve.js';
import { defaults, type RateLimit, type ServerConfig } from '../../server/config.js';
import { checkKey } from '../../server/http/keys.js';
import { checkSchema } from '../../server/http/spec.js';
import type { FinetuneRequest } from '../../server/jobs/request.js';
import { parseWindow, type TimeWindow } from '../../server/jobs/schedule.js';
import { startServer } from '../../server/main.js';
import { storeName } from '../../server/postgres/store-name.js';
import type { Services } from '../../server/services.js';
import {
  dataDirOption,
  hostNames,
  httpUrl,
  integerFrom,
  modelStoreOption,
  numberFrom,
  origins,
  rateLimit,
} from '../options.js';
import { checkRecipe } from '../check-recipe.js';
import { openServices } from '../services.js';
import { untilStopped } from '../until-stopped.js';

export interface ServeOptions {
  model?: string;
  dataDir: string;
  store?: string;
  modelStore?: string;
  host: string;
  port?: number;
  example?: boolean;
  reembed?: boolean;
  precision?: PrecisionChoice;
  backend?: BackendChoice;
  batchSeconds: number;
  healthSeconds: number;
  maxQueueTokens: number;
  maxQueueSeconds: number;
  maxMemoryMib?: number;
  cacheMib: number;
  recall: number;
  lexicalWeight: number;
  workers?: number;
  threads?: number;
  apiKey: string[];
  apiKeyFile?: string;
  insecure?: boolean;
  rateLimit?: RateLimit;
  corsOrigin?: string[];
  allowHost?: string[];
  maxRequests: number;
  maxTexts: number;
  maxCharacters: number;
  maxBodyMib: number;
  drainSeconds: number;
  otlpUrl?: URL;
  trainingThreads?: number;
  trainingMemoryMib: number;
  refitAfter?: number;
  refitWindow?: TimeWindow;
  refitRequest: FinetuneRequest;
  logLevel: string;
}

const checkRequest = checkSchema('FinetuneRequest', 'the request');
/** What is asked for when nothing else is said. */
const REFIT_REQUEST: FinetuneRequest = { feedback: true, activate: 'if-better', margin: 0 };
const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];

export function serveCommand(): Command {
  const option = (flags: string, description: string, variable: string): Option =>
    new Option(flags, description).env(`SENTENCE_JEPA_${variable}`);
  const count = (flags: string, description: string, variable: string, most = 1e9): Option =>
    option(flags, description, variable).argParser(integerFrom(1, most));
  return new Command('serve')
    .description('Serve an encoder and a searchable collection over HTTP.')
    .addOption(
      option('--model <dir|name>', `a model folder, or a name (default: "${DEFAULT_MODEL}")`, 'MODEL'),
    )
    .addOption(dataDirOption())
    .addOption(
      option(
        '--store <url>',
        'keep the collection in this PostgreSQL (postgres://user:password@host/database, with pgvector), which any number of servers may share',
        'STORE',
      ),
    )
    .addOption(modelStoreOption())
    .addOption(
      option('--port <n>', '0 for any free one', 'PORT')
        .default(defaults.port)
        .argParser(integerFrom(0, 65_535)),
    )
    .addOption(option('--host <address>', 'what to listen on', 'HOST').default(defaults.host))
    .option('--example', 'load the example questions, when the collection is empty')
    .option('--reembed', 'embed the collection again, when another model embedded it')
    .addOption(
      option(
        '--precision <precision>',
        "int8 is faster and a little different (see /info); auto: int8 where it is faster here; quantized: the folder's own 8-bit graph",
        'PRECISION',
      ).choices(['fp32', 'int8', 'auto', 'quantized']),
    )
    .addOption(
      option(
        '--backend <backend>',
        'what computes: the kernels that setup compiles, or ONNX Runtime; auto: the kernels where they are and suit the model',
        'BACKEND',
      ).choices(BACKEND_CHOICES),
    )
    .addOption(count('--workers <n>', 'inference threads, each with the model in memory', 'WORKERS', 64))
    .addOption(
      count('--threads <n>', 'cores that each of them uses (default: all, shared out)', 'THREADS', 256),
    )
    .addOption(
      count(
        '--batch-seconds <n>',
        'an inference thread that takes longer for a batch hangs, and is replaced',
        'BATCH_SECONDS',
        86_400,
      ).default(defaults.batchSeconds),
    )
    .addOption(
      count(
        '--health-seconds <n>',
        'how long /health waits for a batch, and for the search thread, before it answers 503',
        'HEALTH_SECONDS',
        86_400,
      ).default(defaults.healthSeconds),
    )
    .addOption(
      option(
        '--max-queue-seconds <n>',
        'how long a request of up to 32 texts may have to wait; what would take longer is answered with 429',
        'MAX_QUEUE_SECONDS',
      )
        .argParser(numberFrom(0.01, 3600))
        .default(defaults.maxQueueSeconds),
    )
    .addOption(
      count(
        '--max-queue-tokens <n>',
        'tokens that may wait, of requests of up to 32 texts; of larger ones four times as many. What is beyond is answered with 429',
        'MAX_QUEUE_TOKENS',
      ).default(defaults.maxQueueTokens),
    )
    .addOption(
      count(
        '--max-memory-mib <n>',
        'resident memory above which caches are emptied and then new work is answered with 429 (default: none)',
        'MAX_MEMORY_MIB',
      ),
    )
    .addOption(
      option(
        '--api-key <key>',
        'a key that requests must carry; read:KEY may not change the collection, write:KEY not train or switch models; may be given several times',
        'API_KEYS',
      )
        .default([], 'none')
        .argParser((text, earlier: string[] = []) => [
          ...earlier,
          ...text
            .split(',')
            .map((key) => key.trim())
            .filter(Boolean),
        ]),
    )
    .addOption(option('--api-key-file <file>', 'a file with a key on each line', 'API_KEY_FILE'))
    .option('--insecure', 'listen on --host without keys, for everybody who can reach it')
    .addOption(
      option(
        '--rate-limit <n[/s|/m]>',
        'requests a second (/s, or nothing) or a minute (/m) of each API key, without keys of each address; what is beyond is answered with 429 (default: none)',
        'RATE_LIMIT',
      ).argParser(rateLimit),
    )
    .addOption(
      option(
        '--cors-origin <list>',
        'origins whose pages may ask from a browser, separated by commas; * for all (default: none)',
        'CORS_ORIGIN',
      ).argParser(origins),
    )
    .addOption(
      option(
        '--allow-host <list>',
        'names, separated by commas, under which a server without keys may be asked, as behind a proxy (default: localhost and addresses alone, so that no page that somebody visits can ask it)',
        'ALLOW_HOST',
      ).argParser(hostNames),
    )
    .addOption(
      option('--cache-mib <n>', 'memory for vectors of texts that may come again; 0 for none', 'CACHE_MIB')
        .argParser(integerFrom(0, 65_536))
        .default(defaults.cacheMib),
    )
    .addOption(
      option(
        '--recall <share>',
        'of the ten nearest that search finds in a large collection; 1 compares with every vector',
        'RECALL',
      )
        .argParser(numberFrom(0.5, 1))
        .default(defaults.recall),
    )
    .addOption(
      option(
        '--lexical-weight <n>',
        'what words weigh next to the cosine in hybrid search; "evaluate --hybrid" measures it',
        'LEXICAL_WEIGHT',
      )
        .argParser(numberFrom(0, 1))
        .default(defaults.lexicalWeight),
    )
    .addOption(
      count(
        '--max-requests <n>',
        'requests that are worked on at a time; what is beyond is answered with 429',
        'MAX_REQUESTS',
      ).default(defaults.maxRequests),
    )
    .addOption(count('--max-texts <n>', 'texts of one request', 'MAX_TEXTS').default(defaults.maxTexts))
    .addOption(
      count('--max-characters <n>', 'characters of one text', 'MAX_CHARACTERS').default(
        defaults.maxCharacters,
      ),
    )
    .addOption(
      count('--max-body-mib <n>', 'MiB of one request, of one line for NDJSON', 'MAX_BODY_MIB', 512).default(
        defaults.maxBodyMib,
      ),
    )
    .addOption(
      count(
        '--drain-seconds <n>',
        'how long requests may take to finish when the server stops',
        'DRAIN_SECONDS',
      ).default(defaults.drainSeconds),
    )
    .addOption(
      option(
        '--otlp-url <url>',
        'send traces to this OpenTelemetry collector, by OTLP over HTTP',
        'OTLP_URL',
      ).argParser(httpUrl),
    )
    .addOption(
      count(
        '--training-threads <n>',
        'cores that POST /finetune trains with (default: half of them)',
        'TRAINING_THREADS',
        256,
      ),
    )
    .addOption(
      count('--training-memory-mib <n>', 'memory that training may take', 'TRAINING_MEMORY_MIB').default(
        defaults.trainingMemoryMib,
      ),
    )
    .addOption(
      count(
        '--refit-after <n>',
        'fine-tune by itself when so many documents and so much feedback have come since the last time',
        'REFIT_AFTER',
      ),
    )
    .addOption(
      option(
        '--refit-window <HH:MM-HH:MM>',
        'when that may begin (default: at any time)',
        'REFIT_WINDOW',
      ).argParser(parseWindow),
    )
    .addOption(
      option('--refit-request <json>', 'what to ask for then, as POST /finetune takes it', 'REFIT_REQUEST')
        .argParser(parseRequest)
        .default(REFIT_REQUEST, '{"activate": "if-better"}'),
    )
    .addOption(
      option('--log-level <level>', 'of the log on stderr, JSON lines', 'LOG_LEVEL')
        .choices(logLevels)
        .default(defaults.logLevel),
    )
    .addHelpText(
      'after',
      `
Each option with "env" may come from that environment variable; several API keys are separated by commas there.

Examples:
  sentence-jepa serve --example
  sentence-jepa serve --model ./my-encoder --data-dir ./questions --port 8080
  SENTENCE_JEPA_STORE=postgres://user:password@db/questions sentence-jepa serve
  SENTENCE_JEPA_API_KEYS=long-random-text sentence-jepa serve --host 0.0.0.0`,
    )
    .action(serve);
}

async function serve(options: ServeOptions): Promise<void> {
  const config = await configOf(options);
  const log = pino({ level: options.logLevel }, pino.destination(2));
  const say = (line: string): void => (process.stderr.isTTY ? console.error(line) : log.info(line));

  const server = await startServer(config, log, (observer) =>
    openServices(config, options.example ?? false, say, observer),
  );
  const stopped = untilStopped(server.ready, () => server.close(), {
    announce: () =>
      say(`stopping: requests in flight may take ${config.drainSeconds} s; once more stops at once`),
  });
  const serving = server.ready.then((services) => welcome(server.url, options, services, log, say));
  await Promise.all([stopped, serving]);
}

function welcome(
  url: string,
  options: ServeOptions,
  { inference, collection }: Services,
  log: Logger,
  say: (line: string) => void,
): void {
  const { documents } = collection.info();
  const where = options.store === undefined ? path.resolve(options.dataDir) : storeName(options.store);
  log.debug({ fingerprint: inference.fingerprint }, 'model');
  say(`${inference.name} (${inference.dimensions} dimensions) and ${documents} documents in ${where}`);
  const key = options.apiKey.length > 0 || options.apiKeyFile ? " -H 'Authorization: Bearer KEY'" : '';
  say(
    `listening on ${url} - try: curl${key} '${url}/search?q=usb+stick+not+recognised&k=3' or open ${url}/docs`,
  );
}

export async function configOf(options: ServeOptions): Promise<ServerConfig> {
  const {
    model,
    dataDir,
    store,
    modelStore,
    host,
    port,
    precision,
    backend,
    workers,
    threads,
    drainSeconds,
    logLevel,
  } = options;
  const { refitAfter: after, refitWindow: window, refitRequest: request } = options;
  if (request !== REFIT_REQUEST) await checkRecipe(request).catch(refuseRequest);
  for (const key of options.apiKey) checkKey(key, '--api-key or SENTENCE_JEPA_API_KEYS');
  const fileKeys = options.apiKeyFile ? await keysOf(options.apiKeyFile) : [];
  return {
    model,
    dataDir,
    store,
    modelStore,
    host,
    port,
    precision,
    backend,
    workers,
    threads,
    batchSeconds: options.batchSeconds,
    healthSeconds: options.healthSeconds,
    maxQueueTokens: options.maxQueueTokens,
    maxQueueSeconds: options.maxQueueSeconds,
    maxMemoryMib: options.maxMemoryMib,
    otlpUrl: options.otlpUrl,
    recall: options.recall,
    lexicalWeight: options.lexicalWeight,
    cacheMib: options.cacheMib,
    drainSeconds,
    training: {
      threads: options.trainingThreads,
      memoryMib: options.trainingMemoryMib,
      ...(after !== undefined && { schedule: { after, window, request } }),
    },
    logLevel,
    apiKeys: [...options.apiKey, ...fileKeys],
    insecure: options.insecure ?? false,
    maxRequests: options.maxRequests,
    connectionTimes: defaults.connectionTimes,
    rateLimit: options.rateLimit,
    corsOrigins: options.corsOrigin,
    allowedHosts: options.allowHost,
    reembed: options.reembed ?? false,
    limits: {
      texts: options.maxTexts,
      characters: options.maxCharacters,
      bytes: options.maxBodyMib * 2 ** 20,
      bodySeconds: defaults.bodySeconds,
    },
  };
}

/** @throws UserError `usage` */
function parseRequest(text: string): FinetuneRequest {
  try {
    const request = JSON.parse(text) as FinetuneRequest;
    checkRequest(request);
    return request;
  } catch (error) {
    return refuseRequest(error);
  }
}

function refuseRequest(error: unknown): never {
  throw new UserError('usage', `--refit-request: expected what POST /finetune takes: ${messageOf(error)}`);
}

async function keysOf(file: string): Promise<string[]> {
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    throw fileError(error, file, 'read');
  });
  const lines = text.split('\n').map((line) => line.trim());
  lines.forEach((key, i) => {
    if (key) checkKey(key, `${file}, line ${i + 1}`);
  });
  const keys = lines.filter(Boolean);
  if (keys.length === 0)
    throw new UserError('empty', `${file}: expected an API key on each line, found none`);
  return keys;
}
