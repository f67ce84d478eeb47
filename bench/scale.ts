import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { mean } from '../evaluation/ranking-metrics.js';
import { RECALL_K } from '../server/search/recall.js';
import { startNginx } from './nginx.js';
import { onConnection, startOwn, storedVectors, type StartedPostgres } from './pgserver.js';
import type { BenchProcess } from './processes.js';
import { figure, markdownTable } from './report.js';
import {
  ask,
  figuresOf,
  fillServer,
  info,
  isUnderWay,
  meanRecall,
  partTexts,
  queueDocuments,
  readVectors,
  searchLoad,
  startServer,
  startWorker,
  stop,
  type BenchServer,
  type Fill,
  type SearchFigures,
  type SearchLoad,
} from './search-server.js';

export interface ScaleOptions {
  /** A model folder, or the name of a model. */
  model: string;
  texts: readonly string[];
  /** An empty database, or one that an earlier run has filled; a PostgreSQL is started without. */
  store?: string;
  /** Where `pip install --target` put PyPI's pgserver; needed without `store`. */
  pgserver?: string;
  /** Keeps the embedded collection and the PostgreSQL that is started, so that another run finds both filled. */
  dataDir?: string;
  /** Servers behind nginx, one measurement for each number. */
  servers: readonly number[];
  /** Workers that embed what fills the database, and documents while all servers are asked; with 0 servers fill it, and that is left out. */
  workers: number;
  /** Documents that they embed, of those that are stored: again, under their ids. */
  ingest: number;
  concurrency: number;
  /** Of each load, in each round. */
  seconds: number;
  rounds: number;
  say(line: string): void;
}

interface Store {
  /** Missing when it was filled before. */
  fill?: Fill;
  index: string;
  recallAt10: number;
}

export interface ScaleBench {
  documents: number;
  embedded: Store;
  postgres: Store & {
    version: string;
    /** Of the live generation's vectors with their index, and of the index alone. */
    vectorBytes: number;
    indexBytes: number;
  };
  /** The mean share of the ten hits of a query that both stores give. */
  sameHits: number;
  /** Without `servers`: the embedded server, asked without nginx. */
  loads: ({ servers?: number } & SearchFigures)[];
  ingesting?: Ingesting;
}

/** All servers, while workers embed. */
interface Ingesting extends SearchFigures {
  servers: number;
  workers: number;
  documents: number;
  documentsPerSecond: number;
  /** Of /search, when all are stored. */
  recallAt10: number;
}

/**
 * Servers on one PostgreSQL behind nginx, beside one server with the embedded store: what /search finds and takes. All
 * of it shares this machine's cores. The vectors of queries are remembered by each server, so that encoding is left out.
 */
export async function benchScale(options: ScaleOptions): Promise<ScaleBench> {
  const { texts, model, seconds, rounds, concurrency, say } = options;
  const { queries, documents } = partTexts(texts);
  const scratch = await mkdtemp(path.join(tmpdir(), 'bench-scale-'));
  const kept = path.resolve(options.dataDir ?? path.join(scratch, 'filled'));
  const processes = new Set<BenchProcess>();
  let postgres: StartedPostgres | undefined;
  try {
    // PostgreSQL runs as another user when this is root's.
    await chmod(scratch, 0o755);
    await mkdir(kept, { recursive: true });
    if (options.store === undefined) postgres = await startOwn(options.pgserver, kept);
    const store = options.store ?? postgres!.url;

    const dataDir = path.join(kept, 'embedded');
    const embedded = await startServer(model, dataDir, processes);
    const embeddedFill = await fillServer(embedded.url, documents, say);
    const shared: BenchServer[] = [];
    for (let i = 0; i < Math.max(...options.servers); i++)
      shared.push(await startServer(model, path.join(scratch, `server-${i}`), processes, '--store', store));
    for (let i = 0; i < options.workers; i++)
      await startWorker(model, path.join(scratch, `worker-${i}`), processes, '--store', store);
    const postgresFill = await fillServer(shared[0].url, documents, say, options.workers > 0);

    const fronts: { servers?: number; url: string }[] = [{ url: embedded.url }];
    for (const servers of options.servers) {
      const folder = path.join(scratch, `nginx-${servers}`);
      await mkdir(folder);
      const nginx = await startNginx(
        folder,
        shared.slice(0, servers).map(({ port }) => port),
      );
      processes.add(nginx.process);
      fronts.push({ servers, url: nginx.url });
    }

    const { dimensions, index } = await info(embedded.url);
    const vectors = await readVectors(dataDir, dimensions);
    const ofEmbedded = await ask(embedded.url, queries);
    // Each server has to remember the vectors of the queries.
    const ofPostgres = await Promise.all(shared.map(({ url }) => ask(url, queries)));
    const exact = ofEmbedded.queryVectors.map((vector) => vectors.table.search(vector, RECALL_K));
    const recallAt10 = (found: readonly string[][]): number =>
      meanRecall(vectors, ofEmbedded.queryVectors, exact, found);

    const bodies = queries.map((query) => JSON.stringify({ query, k: RECALL_K }));
    const results = fronts.map((): SearchLoad[] => []);
    for (let round = 0; round < rounds; round++)
      for (const [f, { url, servers }] of fronts.entries()) {
        say(`round ${round + 1} of ${rounds}, ${servers ?? 'embedded'}`);
        results[f].push(await searchLoad({ url, bodies, concurrency, seconds }));
      }
    const sizes = await sizesOf(store);
    const ingesting = options.workers > 0 ? await measureIngest() : undefined;
    await Promise.all([embedded, ...shared].map((server) => stop(server, processes)));

    const [found] = ofPostgres.map((each) => each.found);
    return {
      documents: documents.length,
      embedded: { fill: embeddedFill, index: index.kind, recallAt10: recallAt10(ofEmbedded.found) },
      postgres: { fill: postgresFill, recallAt10: recallAt10(found), ...sizes },
      sameHits: mean(
        found.map((ids, q) => ids.filter((id) => ofEmbedded.found[q].includes(id)).length / ids.length),
      ),
      loads: fronts.map(({ servers }, f) => ({ servers, ...figuresOf(results[f]) })),
      ingesting,
    };

    async function measureIngest(): Promise<Ingesting> {
      const { workers } = options;
      const { url } = fronts.at(-1)!;
      const n = Math.min(options.ingest, documents.length);
      const waiting = await queueDocuments(url, documents, 0, n);
      const loads: SearchLoad[] = [];
      let ingest;
      let goesOn: boolean;
      do {
        const load = await searchLoad({ url, bodies, concurrency, seconds });
        ingest = await waiting();
        say(`${ingest.documents.done} of ${n} documents embedded by ${workers} workers`);
        goesOn = isUnderWay(ingest);
        // The last one went on when all were embedded.
        if (goesOn || loads.length === 0) loads.push(load);
      } while (goesOn);
      const embedded = (Date.parse(ingest.ended!) - Date.parse(ingest.started!)) / 1000;
      return {
        ...{ servers: Math.max(...options.servers), workers, documents: n },
        documentsPerSecond: n / embedded,
        recallAt10: recallAt10((await ask(shared[0].url, queries)).found),
        ...figuresOf(loads),
      };
    }
  } finally {
    await Promise.all([...processes].map((process) => process.stop()));
    await postgres?.stop();
    await rm(scratch, { recursive: true, force: true });
  }
}

async function sizesOf(
  store: string,
): Promise<Pick<ScaleBench['postgres'], 'version' | 'index' | 'vectorBytes' | 'indexBytes'>> {
  const { version, vectorBytes, indexBytes, index } = (await onConnection(store, storedVectors))!;
  const kind = index ? `hnsw${index.half ? ', half precision' : ''}` : 'exact';
  return { version, index: kind, vectorBytes, indexBytes };
}

export function scaleTable({
  documents,
  embedded,
  postgres,
  sameHits,
  loads,
  ingesting,
}: ScaleBench): string {
  const filled = (name: string, pick: (fill: Fill) => number): string[][] => {
    const [one, other] = [embedded, postgres].map(({ fill }) => (fill ? figure(pick(fill)) : ''));
    return one || other ? [[name, one, other]] : [];
  };
  const perDocument = (bytes: number): string => figure(bytes / documents);
  return [
    `${documents.toLocaleString('en')} documents; ${postgres.version}.`,
    markdownTable(
      ['', 'embedded', 'PostgreSQL'],
      [
        ['index', embedded.index, postgres.index],
        ['recall@10 of /search', embedded.recallAt10.toFixed(4), postgres.recallAt10.toFixed(4)],
        ['of ten hits, the same in both', '', (10 * sameHits).toFixed(2)],
        ['bytes of vectors and index a document', '', perDocument(postgres.vectorBytes)],
        ['of the index alone', '', perDocument(postgres.indexBytes)],
        ...filled(
          `documents stored a second${ingesting ? ', by workers on PostgreSQL' : ''}`,
          ({ documentsPerSecond }) => documentsPerSecond,
        ),
        ...filled('seconds until the index holds them', ({ secondsUntilBuilt }) => secondsUntilBuilt),
      ],
    ),
    markdownTable(
      ['/search', 'queries/s', 'p50 ms', 'p99 ms'],
      loads.map(({ servers, queriesPerSecond, p50, p99 }) => [
        servers === undefined
          ? 'embedded, one server'
          : `PostgreSQL, nginx, ${servers} ${servers === 1 ? 'server' : 'servers'}`,
        figure(queriesPerSecond),
        figure(p50),
        figure(p99),
      ]),
    ),
    ...(ingesting ? [ingestingTable(ingesting)] : []),
    'All of these processes, and the one that asks, share the cores of this machine: more servers than cores cost, and what they add on machines of their own is not in these figures.',
  ].join('\n\n');
}

function ingestingTable({ servers, workers, documents, ...figures }: Ingesting): string {
  const { queriesPerSecond, p50, p99, documentsPerSecond, recallAt10 } = figures;
  return markdownTable(
    [`${servers} servers, while ${workers} workers embed`, ''],
    [
      ['documents embedded again, under their ids', documents.toLocaleString('en')],
      ['embedded and stored a second', figure(documentsPerSecond)],
      ['queries/s of /search', figure(queriesPerSecond)],
      ['p50 ms', figure(p50)],
      ['p99 ms', figure(p99)],
      ['recall@10 of /search, afterwards', recallAt10.toFixed(4)],
    ],
  );
}
