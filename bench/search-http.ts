import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

import hnswlib from 'hnswlib-node';

import { mean } from '../evaluation/ranking-metrics.js';
import type { components } from '../server/http/openapi.js';
import { RECALL_K, recallOf } from '../server/search/recall.js';
import { indexFolder } from '../server/search/engine.js';
import { HierarchicalNSW, isForThisMachine } from '../server/search/hnswlib/load.js';
import type { BenchProcess } from './processes.js';
import { figure, markdownTable } from './report.js';
import {
  ask,
  figuresOf,
  fillServer,
  info,
  meanRecall,
  partTexts,
  readVectors,
  searchLoad,
  startServer,
  stop,
  type BenchServer,
  type Fill,
  type SearchFigures,
  type SearchLoad,
} from './search-server.js';
import { median } from './statistics.js';

export interface SearchHttpOptions {
  /** A model folder, or the name of a model. */
  model: string;
  texts: readonly string[];
  /** Filled once and kept, so that another run finds it filled; a folder of the run's own without it. */
  dataDir?: string;
  /** Of each load, in each round. */
  seconds: number;
  rounds: number;
  say(line: string): void;
}

export interface SearchHttpBench {
  documents: number;
  dimensions: number;
  index: components['schemas']['Info']['index'];
  /** Missing when the folder was filled before. */
  fill?: Fill;
  /** Resident memory of the server beyond that of one without documents, by document. */
  bytesPerDocument?: number;
  /** From the process' start until /ready answers: with these documents, and with none. */
  readySeconds: number;
  readySecondsEmpty: number;
  /** What /search finds of the exact ten nearest. */
  recallAt10: number;
  loads: ({ concurrency: number; ofBareLoop?: number } & SearchFigures)[];
  /** hnswlib-node alone, as npm installs it, on the server's graph at the server's ef; missing where search is exact. */
  bareLoop?: {
    ef: number;
    queriesPerSecond: number;
    recallAt10: number;
    /** Of the copy that the server searches with, where `setup --search` has compiled one for this processor. */
    compiledQueriesPerSecond?: number;
  };
}

const CONCURRENCIES = [1, 8];

/**
 * A server filled with texts, asked for others of the same file: its recall, and what it takes beside hnswlib-node called in
 * a bare loop. The vectors of queries are remembered by the server, so that encoding is left out.
 */
export async function benchSearchHttp(options: SearchHttpOptions): Promise<SearchHttpBench> {
  const { texts, seconds, rounds, say } = options;
  const { queries, documents } = partTexts(texts);

  const scratch = await mkdtemp(path.join(tmpdir(), 'bench-search-'));
  const dataDir = options.dataDir ?? path.join(scratch, 'filled');
  const servers = new Set<BenchProcess>();
  const start = async (folder: string): Promise<BenchServer> => {
    const server = await startServer(options.model, folder, servers);
    say(`${folder}: ready after ${server.readySeconds.toFixed(2)} s`);
    return server;
  };
  try {
    await mkdir(dataDir, { recursive: true });
    const empty = await start(path.join(scratch, 'empty'));
    const emptyMiB = empty.process.usage()?.memoryMiB;
    await stop(empty, servers);

    const filling = await start(dataDir);
    const fill = await fillServer(filling.url, documents, say);
    await stop(filling, servers);

    const server = await start(dataDir);
    const { index, dimensions } = await info(server.url);
    const vectors = await readVectors(dataDir, dimensions);
    const { found, queryVectors } = await ask(server.url, queries);
    const exact = queryVectors.map((vector) => vectors.table.search(vector, RECALL_K));
    const recallAt10 = meanRecall(vectors, queryVectors, exact, found);
    const memoryMiB = server.process.usage()?.memoryMiB;

    const isGraph = index.kind === 'hnsw';
    const bare = isGraph ? await openBareGraph(hnswlib.HierarchicalNSW, dataDir, dimensions) : undefined;
    const compiled =
      isGraph && isForThisMachine ? await openBareGraph(HierarchicalNSW, dataDir, dimensions) : undefined;
    const points = queryVectors.map((vector) => Array.from(vector));
    const bareRates: number[] = [];
    const compiledRates: number[] = [];
    const results = CONCURRENCIES.map((): SearchLoad[] => []);
    const bodies = queries.map((query) => JSON.stringify({ query, k: RECALL_K }));
    for (let round = 0; round < rounds; round++) {
      say(`round ${round + 1} of ${rounds}`);
      if (bare) bareRates.push(bareRate(bare.graph, points, seconds));
      if (compiled) compiledRates.push(bareRate(compiled.graph, points, seconds));
      for (const [c, concurrency] of CONCURRENCIES.entries()) {
        results[c].push(await searchLoad({ url: server.url, bodies, concurrency, seconds }));
      }
    }
    await stop(server, servers);

    return {
      documents: documents.length,
      dimensions,
      index,
      fill,
      ...(emptyMiB !== undefined &&
        memoryMiB !== undefined && {
          bytesPerDocument: ((memoryMiB - emptyMiB) * 2 ** 20) / documents.length,
        }),
      readySeconds: server.readySeconds,
      readySecondsEmpty: empty.readySeconds,
      recallAt10,
      loads: CONCURRENCIES.map((concurrency, c) => {
        const figures = figuresOf(results[c]);
        return {
          concurrency,
          ...figures,
          ...(bare && { ofBareLoop: figures.queriesPerSecond / median(bareRates) }),
        };
      }),
      ...(bare && {
        bareLoop: {
          ef: bare.ef,
          queriesPerSecond: median(bareRates),
          ...(compiled && { compiledQueriesPerSecond: median(compiledRates) }),
          recallAt10: mean(
            points.map((point, q) => {
              const { neighbors, distances } = bare.graph.searchKnn(point, RECALL_K);
              return recallOf(
                exact[q],
                neighbors.map((key, i) => ({ key, score: 1 - distances[i] })),
              );
            }),
          ),
        },
      }),
    };
  } finally {
    await Promise.all([...servers].map((process) => process.stop()));
    await rm(scratch, { recursive: true, force: true });
  }
}

export function searchHttpTable(result: SearchHttpBench): string {
  const { documents, index, fill, bytesPerDocument, readySeconds, readySecondsEmpty, recallAt10 } = result;
  const { loads, bareLoop } = result;
  const rows = [
    ...(fill
      ? [
          ['documents stored a second', figure(fill.documentsPerSecond)],
          ['seconds until the graph holds them', figure(fill.secondsUntilBuilt)],
        ]
      : []),
    ...(bytesPerDocument === undefined ? [] : [['bytes of memory a document', figure(bytesPerDocument)]]),
    [
      'seconds from start to ready',
      `${figure(readySeconds)} (${figure(readySecondsEmpty)} without documents)`,
    ],
    ['recall@10 of /search', recallAt10.toFixed(4)],
  ];
  const searches = [
    ...loads.map(({ concurrency, queriesPerSecond, p50, p99, ofBareLoop }) => [
      `/search, ${concurrency} at a time`,
      figure(queriesPerSecond),
      ofBareLoop === undefined ? '' : figure(ofBareLoop),
      figure(p50),
      figure(p99),
    ]),
    ...(bareLoop
      ? [
          [
            `hnswlib-node in a loop, ef ${bareLoop.ef}, recall ${bareLoop.recallAt10.toFixed(4)}`,
            figure(bareLoop.queriesPerSecond),
            '',
            '',
            '',
          ],
        ]
      : []),
    ...(bareLoop?.compiledQueriesPerSecond === undefined
      ? []
      : [
          [
            'the same, compiled for this processor, as the server has it',
            figure(bareLoop.compiledQueriesPerSecond),
            '',
            '',
            '',
          ],
        ]),
  ];
  return [
    `${documents.toLocaleString('en')} documents, index ${index.kind}.`,
    markdownTable(['', 'measured'], rows),
    markdownTable(['', 'queries/s', 'of the loop', 'p50 ms', 'p99 ms'], searches),
  ].join('\n\n');
}

/** The graph that the server wrote, and the ef that it chose. */
async function openBareGraph(
  Graph: typeof HierarchicalNSW,
  dataDir: string,
  dimensions: number,
): Promise<{ graph: hnswlib.HierarchicalNSW; ef: number }> {
  // One model, one generation.
  const folder = indexFolder(dataDir, 1);
  const manifest = JSON.parse(await readFile(path.join(folder, 'index.json'), 'utf8')) as {
    file: string;
    chosen: { ef: number };
  };
  const graph = new Graph('ip', dimensions);
  graph.readIndexSync(path.join(folder, manifest.file));
  graph.setEf(manifest.chosen.ef);
  return { graph, ef: manifest.chosen.ef };
}

function bareRate(graph: hnswlib.HierarchicalNSW, points: readonly number[][], seconds: number): number {
  const begin = performance.now();
  let n = 0;
  for (; performance.now() - begin < seconds * 1000; n++)
    graph.searchKnn(points[n % points.length], RECALL_K);
  return n / ((performance.now() - begin) / 1000);
}
