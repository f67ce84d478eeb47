import { once } from 'node:events';
import { mkdir, open, rm, type FileHandle } from 'node:fs/promises';
import path from 'node:path';

import { UserError } from '../../base/errors.js';
import { exists, fileError, readJson, writeFileAtomic } from '../../base/files.js';
import type { TrainableCollection } from '../search/collection.js';
import { normalized } from '../search/feedback-table.js';
import type { FinetuneRequest, SentData } from './request.js';

/** With fewer queries than this there is nothing to choose weights by. */
const LEAST_DEV_QUERIES = 10;
/** Documents that the queries are searched among while training: each evaluation embeds them all. */
const DEV_DOCUMENTS = 10_000;
const PAGE = 1000;
const MANIFEST = 'data.json';

/** What a job trains on, as `finetune` takes it. */
export interface TrainingData {
  /** The encoder to start from. */
  model: string;
  texts: string;
  pairs?: string;
  /** A folder in BEIR's layout. */
  dev?: string;
}

/**
 * Writes a job's data into its folder: the collection's documents or the texts that were sent, pairs of
 * the feedback and those that were sent, and the feedback's queries that choose the weights. Queries that
 * choose or judge are not among what is trained on, as a text or in a pair.
 *
 * @throws UserError `empty` when there is no text, `unavailable` when the disk is full
 */
export async function writeTrainingData(
  folder: string,
  model: string,
  { feedback }: Pick<FinetuneRequest, 'feedback'>,
  sent: SentData,
  collection: TrainableCollection,
): Promise<TrainingData> {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  const heldOut = [...(await collection.relevant('dev')), ...(await collection.relevant('test'))];
  const untouched = new Set(heldOut.map(({ query }) => normalized(query)));
  const isHeldOut = (text: string): boolean => untouched.has(normalized(text));

  const texts = path.join(folder, 'texts.txt');
  let count = 0;
  await writeLines(texts, async (write) => {
    for await (const text of sent.texts ?? textsOf(collection)) {
      if (isHeldOut(text)) continue;
      count++;
      await write(oneLine(text));
    }
  });
  if (count === 0)
    throw new UserError('empty', 'nothing to train on: expected documents in the collection, or "texts"');

  const found = feedback ? await collection.relevant('train') : [];
  const pairs = [
    ...found.map(({ query, text }): [string, string] => [query, text]),
    ...(sent.pairs ?? []),
  ].filter((pair) => !pair.some(isHeldOut));
  const pairsFile = path.join(folder, 'pairs.tsv');
  if (pairs.length > 0)
    await writeLines(pairsFile, async (write) => {
      for (const pair of pairs) await write(pair.map(oneLine).join('\t'));
    });

  const dev = feedback ? await collection.relevant('dev') : [];
  const queries = [...new Set(dev.map(({ query }) => query))];
  const hasDev = queries.length >= LEAST_DEV_QUERIES;
  if (hasDev) await writeDev(path.join(folder, 'dev'), queries, dev, collection);
  const data = {
    model,
    texts,
    ...(pairs.length > 0 && { pairs: pairsFile }),
    ...(hasDev && { dev: path.join(folder, 'dev') }),
  };
  await writeFileAtomic(path.join(folder, MANIFEST), JSON.stringify(data, null, 2) + '\n');
  return data;
}

/** What was written before, when it is whole: a training that goes on has to find the data that it began with. */
export async function readTrainingData(folder: string): Promise<TrainingData | undefined> {
  const file = path.join(folder, MANIFEST);
  return (await exists(file)) ? readJson<TrainingData>(file) : undefined;
}

/** The documents' texts, a page at a time. */
async function* textsOf(collection: TrainableCollection): AsyncGenerator<string> {
  for await (const { text } of documentsOf(collection)) yield text;
}

async function* documentsOf(collection: TrainableCollection): AsyncGenerator<{ id: string; text: string }> {
  for (let after: string | undefined; ;) {
    const page = await collection.list({ after, limit: PAGE });
    yield* page;
    if (page.length < PAGE) return;
    after = page[page.length - 1].id;
    // Reading a page holds the event loop; requests come in between.
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/**
 * corpus.jsonl, queries.jsonl and qrels/test.tsv: every relevant document, and others spread over the collection. They are
 * numbered: an id may have a tab, or be a query's number, which would mean that the query is that document.
 */
async function writeDev(
  folder: string,
  queries: readonly string[],
  relevant: readonly { query: string; id: string; text: string }[],
  collection: TrainableCollection,
): Promise<void> {
  await mkdir(path.join(folder, 'qrels'), { recursive: true });
  const wanted = new Set(relevant.map(({ id }) => id));
  const step = Math.max(1, Math.ceil(collection.info().documents / DEV_DOCUMENTS));
  const numberOf = new Map<string, number>();
  await writeLines(path.join(folder, 'corpus.jsonl'), async (write) => {
    let number = 0;
    for await (const { id, text } of documentsOf(collection)) {
      if (wanted.has(id)) numberOf.set(id, number);
      if (number % step === 0 || wanted.has(id)) await write(JSON.stringify({ _id: `d${number}`, text }));
      number++;
    }
  });
  const numberOfQuery = new Map(queries.map((query, i) => [query, i]));
  await writeLines(path.join(folder, 'queries.jsonl'), async (write) => {
    for (const [query, i] of numberOfQuery) await write(JSON.stringify({ _id: `q${i}`, text: query }));
  });
  await writeLines(path.join(folder, 'qrels', 'test.tsv'), async (write) => {
    await write('query-id\tcorpus-id\tscore');
    for (const { query, id } of relevant) {
      const number = numberOf.get(id);
      // Deleted meanwhile.
      if (number !== undefined) await write(`q${numberOfQuery.get(query)}\td${number}\t1`);
    }
  });
}

/** A file of lines, written as they come. */
async function writeLines(
  file: string,
  body: (write: (line: string) => Promise<void>) => Promise<void>,
): Promise<void> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(file, 'w');
    const stream = handle.createWriteStream();
    let failure: unknown;
    stream.on('error', (error) => (failure ??= error));
    await body(async (line) => {
      if (failure !== undefined) throw failure;
      if (!stream.write(line + '\n')) await once(stream, 'drain');
    });
    await new Promise<void>((resolve, reject) => stream.once('error', reject).end(resolve));
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw fileError(error, file, 'write');
  } finally {
    await handle?.close().catch(() => undefined);
  }
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').trim();
}
