import { createHash } from 'node:crypto';

import { pino } from 'pino';

import type { Inference } from '../../server/batching/inference.js';
import { defaults, type ServerConfig } from '../../server/config.js';
import { startServer, type RunningServer } from '../../server/main.js';
import { Maps } from '../../server/map/maps.js';
import type { TrainableCollection } from '../../server/search/collection.js';
import type { Services } from '../../server/services.js';
import { openTestCollection, type TestCollection } from './test-collection.js';

const DIMENSIONS = 8;
export const FAKE_MODEL = 'fake-encoder';
/** Tokens that the fake encoder reads at most; a word is a token, [CLS] and [SEP] are two. */
export const FAKE_MAX_TOKENS = 16;

/** Vectors that depend on the text alone and have length 2 before normalization. */
function fakeVector(text: string, normalize: boolean): number[] {
  const bytes = createHash('sha256').update(text).digest();
  const raw = Array.from({ length: DIMENSIONS }, (_, j) => bytes[j] - 127.5);
  const length = Math.hypot(...raw) / (normalize ? 1 : 2);
  return raw.map((x) => x / length);
}

export interface FakeInference extends Inference {
  /** What `encode` was called with. */
  calls: { texts: readonly string[]; priority?: string; signal?: AbortSignal }[];
  /** While set, `encode` waits for it. */
  gate?: Promise<void>;
  failure?: unknown;
}

export function fakeInference(): FakeInference {
  const words = (text: string): string[] => ['[CLS]', ...text.trim().split(/\s+/), '[SEP]'];
  const fake: FakeInference = {
    name: FAKE_MODEL,
    dimensions: DIMENSIONS,
    maxTokens: FAKE_MAX_TOKENS,
    fingerprint: 'f'.repeat(64),
    folder: '/nowhere',
    pooling: 'mean',
    precision: 'fp32',
    backend: 'onnxruntime',
    calls: [],
    async encode(texts, { priority, signal, normalize = true } = {}) {
      fake.calls.push({ texts, priority, signal });
      await fake.gate;
      signal?.throwIfAborted();
      if (fake.failure !== undefined) throw fake.failure;
      return Float32Array.from(texts.flatMap((text) => fakeVector(text, normalize)));
    },
    async encodeWithLengths(texts, options) {
      const vectors = await fake.encode(texts, options);
      const lengths = Uint32Array.from(texts, (text) => Math.min(words(text).length, FAKE_MAX_TOKENS));
      return { vectors, lengths };
    },
    async tokenize(texts) {
      return texts.map((text) =>
        words(text).map((word, id, { length }) => ({
          id,
          text: word,
          special: id === 0 || id === length - 1,
        })),
      );
    },
    async countTokens(texts) {
      return texts.map((text) => words(text).length);
    },
    stats: () => ({
      workers: 1,
      workersWanted: 1,
      threadsPerWorker: 1,
      queuedTexts: 0,
      queuedTokens: { interactive: 0, bulk: 0 },
      tokensPerSecond: 0,
      texts: 0,
      tokens: 0,
      batches: 0,
    }),
    async close() {},
  };
  return fake;
}

/** Without training: test/server/jobs-*.test.ts has that. */
export function fakeServices(inference: Inference, collection: TrainableCollection): Services {
  const jobs = { list: async () => [], presets: ['context'], close: async () => undefined };
  const maps = new Maps('/nowhere');
  return { inference, collection, jobs, maps } as unknown as Services;
}

export const testConfig: ServerConfig = {
  dataDir: '/nowhere',
  host: '127.0.0.1',
  port: 0,
  apiKeys: [],
  insecure: false,
  reembed: false,
  batchSeconds: 60,
  healthSeconds: 5,
  maxQueueTokens: 100_000,
  maxQueueSeconds: 60,
  recall: 0.98,
  lexicalWeight: 0.05,
  cacheMib: 64,
  limits: {
    texts: defaults.maxTexts,
    characters: defaults.maxCharacters,
    bytes: defaults.maxBodyMib * 2 ** 20,
    bodySeconds: defaults.bodySeconds,
  },
  training: { memoryMib: defaults.trainingMemoryMib },
  maxRequests: defaults.maxRequests,
  connectionTimes: defaults.connectionTimes,
  drainSeconds: 5,
  logLevel: 'silent',
};

export interface TestServer {
  server: RunningServer;
  url: string;
  inference: FakeInference;
  collection: TestCollection;
}

/** A real server on a free port, with a collection of its own; the encoder behind it is made up. */
export async function startTestServer(
  config: Partial<ServerConfig> = {},
  opened?: Promise<unknown>,
): Promise<TestServer> {
  const inference = fakeInference();
  const collection = await openTestCollection(inference);
  const open = async (): Promise<Services> => {
    await opened;
    return fakeServices(inference, collection);
  };
  const server = await startServer({ ...testConfig, ...config }, pino({ level: 'silent' }), open).catch(
    async (error: unknown) => {
      await collection.close();
      throw error;
    },
  );
  if (!opened) await server.ready;
  return { server, url: server.url, inference, collection };
}

/** Starts a server, and stops it whatever comes of it. */
export async function withServer(
  config: Parameters<typeof startTestServer>[0],
  use: (test: TestServer) => Promise<void>,
): Promise<void> {
  const test = await startTestServer(config);
  try {
    await use(test);
  } finally {
    await test.server.close();
  }
}

/** A promise and what resolves it. */
export function gate(): { opened: Promise<void>; open: () => void } {
  let open = (): void => undefined;
  return { opened: new Promise((resolve) => (open = resolve)), open: () => open() };
}

export interface Answer {
  status: number;
  headers: Headers;
  text: string;
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  body: any;
}

export async function call(url: string, init?: RequestInit): Promise<Answer> {
  const response = await fetch(url, init);
  const text = await response.text();
  const isJson = response.headers.get('content-type')?.includes('application/json');
  return { status: response.status, headers: response.headers, text, body: isJson ? JSON.parse(text) : text };
}

/** `body` as it is when it is text or bytes, else as JSON. */
export function send(
  method: string,
  url: string,
  body: unknown,
  headers: Record<string, string> = { 'Content-Type': 'application/json' },
): Promise<Answer> {
  const raw = typeof body === 'string' || body instanceof Uint8Array;
  return call(url, { method, headers, body: raw ? (body as RequestInit['body']) : JSON.stringify(body) });
}

export const post = (url: string, body: unknown, headers?: Record<string, string>): Promise<Answer> =>
  send('POST', url, body, headers);
