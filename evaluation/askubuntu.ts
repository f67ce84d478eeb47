import path from 'node:path';

import { UserError } from '../base/errors.js';
import { exists } from '../base/files.js';
import { readLines } from '../base/lines.js';
import { embeddingDiagnostics } from './diagnostics.js';
import type { Evaluation, Scores } from './evaluation.js';
import { averagePrecision, mean, precision, reciprocalRank } from './ranking-metrics.js';
import { cosine, encodeUnique } from './vectors.js';

/** One query of the benchmark: some 20 questions that BM25 found, and which of them people marked similar. */
export interface CandidateList {
  query: string;
  candidates: string[];
  /** Whether candidates[i] is similar to the query. */
  similar: boolean[];
  bm25: number[];
  /** Where it stands, for messages: file:line. */
  where: string;
}

const SPLITS = ['dev', 'test'] as const;
type Split = (typeof SPLITS)[number];

/**
 * The Ask Ubuntu benchmark (Lei et al. 2016, "Semi-supervised question retrieval with gated convolutions"):
 * re-rank each query's candidates by the cosine of the titles. It has been published in three ways, and all
 * are measured:
 *
 * - `map`, `mrr`, `p@1`, `p@5`: the paper's, over the split's queries with a similar candidate (test: 186)
 * - `...:with-negative`: over those that also have a candidate that is not similar (test: 179)
 * - `...:mteb`, for split test: MTEB's AskUbuntuDupQuestions, dev and test together, both kinds of candidate
 *   required (182 + 179 = 361)
 *
 * `folder` holds the benchmark's own dev.txt and test.txt, and the titles in text_tokenized.txt, zipped or
 * not. Split dev needs no test.txt: a checkpoint chosen on dev never sees the test.
 *
 * @throws UserError `not-found` that names the file which is expected
 */
export async function openAskUbuntu(spec: string, folder: string, split = 'test'): Promise<Evaluation> {
  const lists = await readSplits(folder, split);
  const ids = [...new Set(lists.all.flatMap(({ query, candidates }) => [query, ...candidates]))];
  const titles = await readTitles(folder, lists.all);
  return {
    spec,
    primary: 'map',
    notes: [],
    async run(encoder, options) {
      const started = performance.now();
      const texts = ids.map((id) => titles.get(id)!);
      const { vectors, rows } = await encodeUnique(encoder, texts, options);
      const rowOf = new Map(ids.map((id, i) => [id, rows[i]]));
      const scored = judge(spec, lists, ({ query, candidates }) =>
        candidates.map((id) => cosine(vectors, rowOf.get(query)!, rowOf.get(id)!)),
      );
      scored.counts.titles = vectors.n;
      return {
        ...scored,
        diagnostics: embeddingDiagnostics(vectors),
        seconds: (performance.now() - started) / 1000,
      };
    },
  };
}

/** The same protocols for the BM25 scores that the benchmark's files carry: needs no text and no encoder. */
export async function scoreBm25Column(spec: string, folder: string, split = 'test'): Promise<Scores> {
  const started = performance.now();
  const scored = judge(spec, await readSplits(folder, split), ({ bm25 }) => bm25);
  return { ...scored, seconds: (performance.now() - started) / 1000 };
}

interface Lists {
  /** The split's own. */
  split: CandidateList[];
  /** MTEB's pool; absent for split dev. */
  pool?: CandidateList[];
  all: CandidateList[];
}

async function readSplits(folder: string, split: string): Promise<Lists> {
  if (!SPLITS.includes(split as Split))
    throw new UserError('usage', `askubuntu: --split can be ${SPLITS.join(' or ')}, not "${split}"`);
  const dev = await readCandidateLists(path.join(folder, 'dev.txt'));
  if (split === 'dev') return { split: dev, all: dev };
  const test = await readCandidateLists(path.join(folder, 'test.txt'));
  const pool = [...dev, ...test];
  return { split: test, pool, all: pool };
}

function judge(
  spec: string,
  lists: Lists,
  score: (list: CandidateList) => number[],
): Omit<Scores, 'seconds'> {
  const hasPositive = ({ similar }: CandidateList): boolean => similar.includes(true);
  const hasBoth = ({ similar }: CandidateList): boolean => similar.includes(true) && similar.includes(false);
  const protocols = [
    { suffix: '', lists: lists.split.filter(hasPositive) },
    { suffix: ':with-negative', lists: lists.split.filter(hasBoth) },
    ...(lists.pool ? [{ suffix: ':mteb', lists: lists.pool.filter(hasBoth) }] : []),
  ];
  const metrics: Record<string, number> = {};
  const counts: Record<string, number> = {};
  const judged = new Map(lists.all.map((list) => [list, judgeRanking(list.similar, score(list))]));
  for (const { suffix, lists: chosen } of protocols) {
    if (chosen.length === 0) continue;
    counts[`queries${suffix}`] = chosen.length;
    for (const name of ['map', 'mrr', 'p@1', 'p@5'] as const)
      metrics[name + suffix] = mean(chosen.map((list) => judged.get(list)![name]));
  }
  const primary = protocols[0].lists;
  return {
    spec,
    metrics,
    counts,
    perQuery: {
      metric: 'map',
      ids: primary.map(({ query }) => query),
      values: Float64Array.from(primary, (list) => judged.get(list)!.map),
    },
  };
}

/** Candidates with equal scores keep their order in the file. */
function judgeRanking(
  similar: boolean[],
  scores: number[],
): { map: number; mrr: number; 'p@1': number; 'p@5': number } {
  const order = scores.map((_, i) => i).sort((i, j) => scores[j] - scores[i]);
  const gains = order.map((i) => Number(similar[i]));
  return {
    map: averagePrecision(gains, similar.filter(Boolean).length),
    mrr: reciprocalRank(gains),
    'p@1': precision(gains, 1),
    'p@5': precision(gains, 5),
  };
}

/** Reads dev.txt or test.txt: query TAB similar ids TAB candidate ids TAB BM25 scores, ids separated by spaces. */
export async function readCandidateLists(file: string): Promise<CandidateList[]> {
  if (!(await exists(file)))
    throw new UserError(
      'not-found',
      `${file}: no such file; expected the benchmark's dev.txt and test.txt (the repository taolei87/askubuntu) in ${path.dirname(file)}`,
    );
  const lists: CandidateList[] = [];
  for await (const { text, number } of readLines(file)) {
    if (text.trim() === '') continue;
    const where = `${file}:${number}`;
    const [query, similarIds, candidateIds, scores, ...more] = text.split('\t').map(words);
    const bm25 = scores?.map(Number);
    if (query?.length !== 1 || !bm25 || more.length > 0 || !bm25.every(Number.isFinite))
      throw new UserError(
        'malformed',
        `${where}: expected query TAB similar ids TAB candidate ids TAB BM25 scores, found "${text.slice(0, 60)}"`,
      );
    if (candidateIds.length === 0 || bm25.length !== candidateIds.length)
      throw new UserError(
        'malformed',
        `${where}: expected a BM25 score for each candidate, found ${candidateIds.length} candidates and ${bm25.length} scores`,
      );
    const positives = new Set(similarIds);
    const similar = candidateIds.map((id) => positives.has(id));
    lists.push({ query: query[0], candidates: candidateIds, similar, bm25, where });
  }
  if (!lists.some(({ similar }) => similar.includes(true)))
    throw new UserError('empty', `${file}: expected queries with similar candidates, found none`);
  return lists;
}

function words(field: string): string[] {
  return field.split(' ').filter((word) => word !== '');
}

/** The titles of the questions in `lists`, from a file of id TAB title TAB body. */
async function readTitles(folder: string, lists: CandidateList[]): Promise<Map<string, string>> {
  const plain = path.join(folder, 'text_tokenized.txt');
  const zipped = `${plain}.gz`;
  const file = (await exists(plain)) ? plain : zipped;
  if (!(await exists(file)))
    throw new UserError(
      'not-found',
      `${zipped}: no such file, and no ${path.basename(plain)} beside it; expected the benchmark's texts (id TAB title TAB body, from the repository taolei87/askubuntu). Its BM25 column needs no text: --method bm25`,
    );
  const wanted = new Set(lists.flatMap(({ query, candidates }) => [query, ...candidates]));
  const titles = new Map<string, string>();
  for await (const { text, number } of readLines(file)) {
    const [id, title] = text.split('\t', 2);
    if (!wanted.has(id)) continue;
    if (!title?.trim())
      throw new UserError('malformed', `${file}:${number}: expected id TAB title TAB body, found no title`);
    titles.set(id, title.trim());
  }
  for (const { query, candidates, where } of lists)
    for (const id of [query, ...candidates])
      if (!titles.has(id)) throw new UserError('malformed', `${where}: question ${id} is not in ${file}`);
  return titles;
}
