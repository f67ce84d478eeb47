import { UserError } from '../base/errors.js';
import type { BackendChoice } from '../encoder/backend.js';
import type { PrecisionChoice } from './batching/start-inference.js';
import type { Schedule } from './jobs/schedule.js';

/** What one request may ask for. */
export interface Limits {
  /** Texts or documents of one request. */
  texts: number;
  /** Characters (UTF-16 units) of one text. */
  characters: number;
  /** Bytes of a request's body, or of one line of NDJSON. */
  bytes: number;
  /** Seconds for a body to arrive; for NDJSON, between two parts of it. */
  bodySeconds: number;
}

/** Seconds of patience with a connection. */
export interface ConnectionTimes {
  /** For a request's first line and headers to arrive. */
  headers: number;
  /** For what a client still sends after it got its answer. */
  linger: number;
  /** For a client that takes nothing of its answer. */
  unread: number;
}

/** How many requests of one client are answered within so many seconds. */
export interface RateLimit {
  requests: number;
  seconds: 1 | 60;
}

export interface ServerConfig {
  /** A model folder or a name; undefined for the default encoder. */
  model?: string;
  dataDir: string;
  /** postgres://...: where the collection is; undefined: in dataDir. */
  store?: string;
  /** A folder, or s3://BUCKET/PREFIX: where models are that this server does not have. */
  modelStore?: string;
  host: string;
  /** 0 for any free port; undefined: nothing listens. */
  port?: number;
  /** Empty: everybody may. */
  apiKeys: readonly string[];
  /** Names, beside localhost, under which a server without keys on a loopback address is asked. */
  allowedHosts?: readonly string[];
  /** Lets a server without keys listen on an address that other machines reach. */
  insecure: boolean;
  /** Embed the collection again when it was embedded by another model. */
  reembed: boolean;
  precision?: PrecisionChoice;
  /** What computes; see OpenEncoderOptions. */
  backend?: BackendChoice;
  /** Inference threads; undefined: as a probe finds. */
  workers?: number;
  threads?: number;
  /** Seconds after which a batch is given up and its thread replaced. */
  batchSeconds: number;
  /** How long /health waits for a batch before inference counts as dead. */
  healthSeconds: number;
  /** Estimated tokens that may wait, for short requests; for bulk ones four times as many. */
  maxQueueTokens: number;
  /** How long short requests may have to wait, by the speed of the last batches. */
  maxQueueSeconds: number;
  /** Resident memory above which new work is refused; undefined: none. */
  maxMemoryMib?: number;
  /** recall@10 that search holds, by how widely it looks through the graph; 1: search is exact. */
  recall: number;
  /** What words weigh next to the cosine in hybrid searches that don't say. */
  lexicalWeight: number;
  /** For vectors of texts that may come again; 0 remembers none. */
  cacheMib: number;
  limits: Limits;
  /** Requests that are worked on at a time. */
  maxRequests: number;
  connectionTimes: ConnectionTimes;
  /** For each API key, without keys for each address; undefined: none. */
  rateLimit?: RateLimit;
  /** Origins whose pages may ask from a browser; * for every one. */
  corsOrigins?: readonly string[];
  /** Where traces are sent; undefined: nowhere. */
  otlpUrl?: URL;
  training: {
    /** Cores; undefined: half of them. */
    threads?: number;
    memoryMib: number;
    schedule?: Schedule;
  };
  /** How long requests in flight may take once the server is told to stop. */
  drainSeconds: number;
  logLevel: string;
}

export const defaults = Object.freeze({
  dataDir: './data',
  host: '127.0.0.1',
  port: 3000,
  batchSeconds: 60,
  healthSeconds: 5,
  maxQueueTokens: 100_000,
  maxQueueSeconds: 2,
  recall: 0.98,
  lexicalWeight: 0.05,
  cacheMib: 64,
  maxRequests: 512,
  connectionTimes: Object.freeze({ headers: 15, linger: 10, unread: 60 }),
  maxTexts: 1024,
  maxCharacters: 131_072,
  maxBodyMib: 16,
  bodySeconds: 60,
  drainSeconds: 30,
  trainingMemoryMib: 4096,
  logLevel: 'info',
});

export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}

/** @throws UserError `usage` when the server would be open to other machines by accident */
export function checkExposure(config: Pick<ServerConfig, 'host' | 'port' | 'apiKeys' | 'insecure'>): void {
  if (config.port === undefined || isLoopback(config.host) || config.apiKeys.length > 0 || config.insecure)
    return;
  throw new UserError(
    'usage',
    `--host ${config.host} is reachable from other machines: expected an API key (--api-key KEY, --api-key-file FILE or ` +
      'SENTENCE_JEPA_API_KEYS), came none. Add one, or --insecure to serve everybody who can reach it',
  );
}
