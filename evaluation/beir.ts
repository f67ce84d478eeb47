import { readdir } from 'node:fs/promises';
import path from 'node:path';

import { messageOf, UserError } from '../base/errors.js';
import { exists, fileError } from '../base/files.js';
import { readLines } from '../base/lines.js';
import { embeddingDiagnostics } from './diagnostics.js';
import type { Evaluation, Scores } from './evaluation.js';
import { rankDocuments } from './ranking.js';
import { averagePrecision, mean, ndcg, recall, reciprocalRank } from './ranking-metrics.js';
import { encodeUnique, takeRows } from './vectors.js';

const DEPTH = 100;

/** A retrieval data set in the layout of BEIR (Thakur et al. 2021), texts joined as an encoder sees them. */
export interface BeirFolder {
  documents: { ids: string[]; texts: string[] };
  /** Only those with at least one relevant document. */
  queries: { ids: string[]; texts: string[] };
  /** Per query: document id -> graded relevance, above 0. */
  relevance: Map<string, number>[];
  notes: string[];
}

/**
 * Retrieval: every query against every document by cosine, metrics averaged over the queries as BEIR and
 * trec_eval do. A query that is itself a document (the same id) is left out of its own ranking.
 */
export async function openBeir(spec: string, folder: string, split = 'test'): Promise<Evaluation> {
  const data = await readBeirFolder(folder, split);
  const { documents, queries, notes } = data;
  const rowOfId = new Map(documents.ids.map((id, row) => [id, row]));
  const itself = Int32Array.from(queries.ids, (id) => rowOfId.get(id) ?? -1);
  return {
    spec,
    primary: 'map@100',
    notes,
    async run(encoder, options) {
      const started = performance.now();
      const { vectors, rows } = await encodeUnique(encoder, [...documents.texts, ...queries.texts], options);
      const documentVectors = takeRows(vectors, rows.subarray(0, documents.ids.length));
      const queryVectors = takeRows(vectors, rows.subarray(documents.ids.length));
      const ranked = rankDocuments(queryVectors, documentVectors, DEPTH, itself);

      const rankings = queries.ids.map((_, q) =>
        Array.from(ranked.subarray(q * DEPTH, (q + 1) * DEPTH))
          .filter((row) => row >= 0)
          .map((row) => documents.ids[row]),
      );
      return {
        spec,
        ...scoreRankings(data, rankings),
        diagnostics: embeddingDiagnostics(documentVectors),
        seconds: (performance.now() - started) / 1000,
      };
    },
  };
}

/**
 * Metrics of rankings, averaged over the queries.
 *
 * @param rankings per query the ids of documents, best first, without the query's own
 */
export function scoreRankings(
  { documents, queries, relevance }: BeirFolder,
  rankings: readonly (readonly string[])[],
): Pick<Scores, 'metrics' | 'perQuery' | 'counts'> {
  const perQuery = rankings.map((ids, q) => {
    const documentGains = relevance[q];
    const gains = ids.map((id) => documentGains.get(id) ?? 0);
    return {
      'map@100': averagePrecision(gains, documentGains.size, 100),
      'mrr@10': reciprocalRank(gains, 10),
      'ndcg@10': ndcg(gains, [...documentGains.values()], 10),
      'recall@10': recall(gains, documentGains.size, 10),
      'recall@100': recall(gains, documentGains.size, 100),
    };
  });
  const names = ['map@100', 'mrr@10', 'ndcg@10', 'recall@10', 'recall@100'] as const;
  const links = relevance.reduce((sum, documentGains) => sum + documentGains.size, 0);
  return {
    metrics: Object.fromEntries(names.map((name) => [name, mean(perQuery.map((query) => query[name]))])),
    perQuery: {
      metric: 'map@100',
      ids: queries.ids,
      values: Float64Array.from(perQuery, (query) => query['map@100']),
    },
    counts: { documents: documents.ids.length, queries: queries.ids.length, links },
  };
}

/**
 * Reads corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv. When the split is not there and the folder holds
 * one qrels file, that one is taken and `notes` says so.
 *
 * @throws UserError with file and line for what is missing, empty or not as BEIR writes it
 */
export async function readBeirFolder(folder: string, split: string): Promise<BeirFolder> {
  const { file: qrels, notes } = await chooseQrels(folder, split);
  const documents = await readTexts(path.join(folder, 'corpus.jsonl'));
  const allQueries = await readTexts(path.join(folder, 'queries.jsonl'));
  const textOfQuery = new Map(allQueries.ids.map((id, i) => [id, allQueries.texts[i]]));
  const documentIds = new Set(documents.ids);

  const links = new Map<string, Map<string, number>>();
  let unknownDocuments = 0;
  for await (const { text, number } of readLines(qrels)) {
    if (text.trim() === '' || (number === 1 && text.startsWith('query-id'))) continue;
    const where = `${qrels}:${number}`;
    const fields = text.split('\t');
    const score = Number(fields[2]);
    if (fields.length !== 3 || fields[2].trim() === '' || !Number.isFinite(score))
      throw new UserError(
        'malformed',
        `${where}: expected query-id TAB corpus-id TAB score, found "${clip(text)}"`,
      );
    const [query, document] = fields;
    if (!textOfQuery.has(query))
      throw new UserError(
        'malformed',
        `${where}: query "${query}" is not in ${path.join(folder, 'queries.jsonl')}`,
      );
    if (score <= 0 || query === document) continue;
    if (!documentIds.has(document)) unknownDocuments++;
    if (!links.has(query)) links.set(query, new Map());
    links.get(query)!.set(document, score);
  }
  if (links.size === 0)
    throw new UserError(
      'empty',
      `${qrels}: expected links between queries and documents, found none with a score above 0`,
    );
  const total = [...links.values()].reduce((sum, documentGains) => sum + documentGains.size, 0);
  if (unknownDocuments >= total)
    throw new UserError(
      'malformed',
      `${qrels}: none of its documents is in ${path.join(folder, 'corpus.jsonl')}`,
    );
  if (unknownDocuments > 0)
    notes.push(
      `${qrels}: ${unknownDocuments} links name documents that are not in the corpus; they count as not found`,
    );

  const ids = [...links.keys()];
  return {
    documents,
    queries: { ids, texts: ids.map((id) => textOfQuery.get(id)!) },
    relevance: [...links.values()],
    notes,
  };
}

async function chooseQrels(folder: string, split: string): Promise<{ file: string; notes: string[] }> {
  const qrelsFolder = path.join(folder, 'qrels');
  const wanted = path.join(qrelsFolder, `${split}.tsv`);
  if (await exists(wanted)) return { file: wanted, notes: [] };
  if (!(await exists(folder))) throw new UserError('not-found', `${folder}: no such folder`);
  let found: string[];
  try {
    found = (await readdir(qrelsFolder)).filter((name) => name.endsWith('.tsv')).sort();
  } catch (error) {
    throw new UserError(
      'not-found',
      `${folder}: expected a BEIR folder with corpus.jsonl, queries.jsonl and qrels/${split}.tsv: ${fileError(error, qrelsFolder, 'read').message}`,
      { cause: error },
    );
  }
  if (found.length === 1) {
    const file = path.join(qrelsFolder, found[0]);
    return { file, notes: [`${wanted} is not there: using ${file}, the only split`] };
  }
  const splits = found.map((name) => path.basename(name, '.tsv')).join(', ');
  throw new UserError(
    'not-found',
    `${wanted}: no such file; --split can be ${splits || 'none: the folder is empty'}`,
  );
}

/** A file of {"_id", "title"?, "text"}, a line each; title and text are joined by a space. */
async function readTexts(file: string): Promise<{ ids: string[]; texts: string[] }> {
  const ids: string[] = [];
  const texts: string[] = [];
  const lineOf = new Map<string, number>();
  for await (const { text: line, number } of readLines(file)) {
    if (line.trim() === '') continue;
    const where = `${file}:${number}`;
    let record: { _id?: unknown; title?: unknown; text?: unknown } | null;
    try {
      record = JSON.parse(line) as typeof record;
    } catch (error) {
      throw new UserError('malformed', `${where}: expected a JSON object a line: ${messageOf(error)}`, {
        cause: error,
      });
    }
    const { _id: id, title = '', text } = record ?? {};
    if (typeof id !== 'string' || typeof text !== 'string' || (title !== null && typeof title !== 'string'))
      throw new UserError(
        'malformed',
        `${where}: expected {"_id": string, "title"?: string, "text": string}, found ${clip(line)}`,
      );
    const before = lineOf.get(id);
    if (before !== undefined)
      throw new UserError('malformed', `${where}: the id "${id}" is already taken by line ${before}`);
    lineOf.set(id, number);
    ids.push(id);
    texts.push(title ? `${title} ${text}`.trim() : text);
  }
  if (ids.length === 0) throw new UserError('empty', `${file}: expected a JSON object a line, found none`);
  return { ids, texts };
}

function clip(text: string): string {
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
