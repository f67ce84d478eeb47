import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { UserError } from '../base/errors.js';
import { readLines } from '../base/lines.js';
import type { components } from '../server/http/openapi.js';
import { BenchProcess, freePort } from './processes.js';
import { figure, markdownTable } from './report.js';
import { percentile } from './statistics.js';
import { RunningLoad, type SteadyAnswer } from './steady-load.js';

type Job = components['schemas']['Job'];

export interface JobsBenchOptions {
  model: string;
  /** What is in the collection, beside the second text of each pair. */
  texts: readonly string[];
  /** Tab-separated: what somebody asked, and the text of the document that had the answer. */
  pairs: string;
  /** Of the job. */
  request: object;
  searchesPerSecond: number;
  writesPerSecond: number;
  /** Before the job, and after everything. */
  seconds: number;
  say(line: string): void;
}

/** What was measured between two moments. */
interface Phase {
  name: string;
  requests: number;
  perSecond: number;
  p50: number;
  p99: number;
  /** Longest time between two answers. */
  longestGap: number;
}

export interface JobsBench {
  documents: number;
  feedback: number;
  job: Job;
  phases: Phase[];
  /** Median p99 of what was measured during the job, over that of before it. */
  p99Ratio: number;
  checks: {
    requests: number;
    failed: number;
    firstFailure?: string;
    /** Searches whose scores were compared with the cosines of both models. */
    searches: number;
    hits: number;
    /** Hits whose score is not the cosine by the model that the answer names. */
    mixed: number;
    /** Hits whose score both models would give: those tell nothing. */
    undecided: number;
    written: number;
    /** Acknowledged documents that a model does not find, by model. */
    missing: Record<string, number>;
  };
}

/** How far an fp32 score may be from the cosine of two fp32 vectors. */
const TOLERANCE = 1e-4;
/** Around a switch of models: what is measured as "at the flip". */
const AROUND_MS = 2000;
const POLL_MS = 50;

/**
 * A server that is searched and written to at a steady rate while a job trains, embeds, judges and goes live, then while it
 * is rolled back and activated again: how long answers take in each phase, and whether each of them is whole.
 */
export async function benchJobs(options: JobsBenchOptions): Promise<JobsBench> {
  const { say, seconds } = options;
  const dataDir = await mkdtemp(path.join(tmpdir(), 'bench-jobs-'));
  const port = await freePort();
  const script = fileURLToPath(new URL('../cli/main.js', import.meta.url));
  const server = new BenchProcess('sentence-jepa', process.execPath, [
    ...[script, 'serve', '--model', options.model, '--data-dir', dataDir],
    ...['--host', '127.0.0.1', '--port', String(port), '--log-level', 'error'],
  ]);
  const url = `http://127.0.0.1:${port}`;
  let load: RunningLoad | undefined;
  try {
    await server.answers(`${url}/ready`);
    const { documents, feedback, queries } = await fill(url, options);
    say(`${documents} documents, ${feedback} pairs of feedback`);
    const { searchesPerSecond, writesPerSecond } = options;
    // Connections, and code that is compiled when it is used, are not the job's doing.
    await (await startLoad(url, queries, options, 5)).stop();

    load = new RunningLoad({ url, queries, searchesPerSecond, writesPerSecond });
    const marks: [name: string, from: number][] = [['before', Date.now()]];
    await sleep(seconds * 1000);
    const started = await post<Job>(`${url}/finetune`, options.request);
    const job = await follow(url, started.id, marks, say);
    marks.push(['after', Date.now()]);
    await sleep(seconds * 1000);
    const models = await get<{ models: { name: string; state: string }[] }>(`${url}/models`);
    const other = models.models.find(({ state }) => state !== 'live')!.name;
    const live = models.models.find(({ state }) => state === 'live')!.name;
    for (const target of [`${other}/activate`, `${live}/activate`]) {
      marks.push([`switched to ${target.replace('/activate', '')}`, Date.now()]);
      await post(`${url}/models/${target}`);
      await sleep(2 * AROUND_MS);
    }
    marks.push(['rolled back', Date.now()]);
    await post(`${url}/models/rollback`);
    await sleep(seconds * 500);
    const end = Date.now();
    await load.stop();
    const { answers } = load;
    say(`${answers.length} answers; checking them`);

    const phases = marks.map(([name, from], i) => phaseOf(name, answers, from, marks[i + 1]?.[1] ?? end));
    const flips = flipsOf(answers);
    flips.forEach((at) => phases.push(phaseOf('around a flip', answers, at - AROUND_MS, at + AROUND_MS)));
    const during = phases.filter(({ name }) => ['training', 'embedding', 'judging'].includes(name));
    return {
      documents,
      feedback,
      job,
      phases,
      p99Ratio: Math.max(...during.map(({ p99 }) => p99)) / phases[0].p99,
      checks: await check(url, answers, [live, other]),
    };
  } finally {
    await load?.stop().catch(() => undefined);
    await server.stop();
    await rm(dataDir, { recursive: true, force: true });
  }
}

async function startLoad(
  url: string,
  queries: readonly string[],
  { searchesPerSecond }: JobsBenchOptions,
  seconds: number,
): Promise<RunningLoad> {
  const load = new RunningLoad({ url, queries, searchesPerSecond, writesPerSecond: 1 });
  await sleep(seconds * 1000);
  return load;
}

/** Documents and feedback, and what is searched for: the questions of the feedback. */
async function fill(
  url: string,
  { texts, pairs }: JobsBenchOptions,
): Promise<{ documents: number; feedback: number; queries: string[] }> {
  const idOf = new Map<string, string>();
  const add = (text: string): string => {
    const id = idOf.get(text) ?? `d${idOf.size}`;
    idOf.set(text, id);
    return id;
  };
  for (const text of texts) add(text);
  const feedback: object[] = [];
  const queries: string[] = [];
  for await (const { text, number } of readLines(pairs)) {
    const [query, document] = text.split('\t');
    if (!query || !document)
      throw new UserError('malformed', `${pairs}:${number}: expected two texts with a tab between them`);
    feedback.push({ query, id: add(document), relevant: true });
    queries.push(query);
  }
  await send(
    `${url}/documents`,
    [...idOf].map(([text, id]) => ({ id, text })),
  );
  await send(`${url}/feedback`, feedback);
  return { documents: idOf.size, feedback: feedback.length, queries: queries.slice(0, 500) };
}

async function send(url: string, lines: readonly object[]): Promise<void> {
  const body = lines.map((line) => JSON.stringify(line)).join('\n');
  await answerOf(
    await fetch(url, { method: 'POST', headers: { 'content-type': 'application/x-ndjson' }, body }),
    url,
  );
}

async function follow(
  url: string,
  id: number,
  marks: [string, number][],
  say: (line: string) => void,
): Promise<Job> {
  for (let state = ''; ;) {
    const job = await get<Job>(`${url}/finetune/${id}`);
    if (job.state !== state) {
      state = job.state;
      say(`the job is ${state}`);
      if (state === 'failed') throw new UserError('backend', `the job failed: ${job.error}`);
      if (state === 'done') {
        say(job.verdict!.reason);
        return job;
      }
      if (state !== 'queued') marks.push([state, Date.now()]);
    }
    await sleep(POLL_MS);
  }
}

function phaseOf(name: string, all: readonly SteadyAnswer[], from: number, to: number): Phase {
  const answers = all.filter(({ due }) => due >= from && due < to);
  const milliseconds = answers.map(({ due, answered }) => answered - due);
  const moments = answers.map(({ answered }) => answered).sort((a, b) => a - b);
  return {
    name,
    requests: answers.length,
    perSecond: answers.length / ((to - from) / 1000),
    p50: percentile(milliseconds, 0.5),
    p99: percentile(milliseconds, 0.99),
    longestGap: moments.slice(1).reduce((gap, at, i) => Math.max(gap, at - moments[i]), 0),
  };
}

/** When answers began to name another generation. */
function flipsOf(answers: readonly SteadyAnswer[]): number[] {
  const searches = answers.filter(({ search }) => search).sort((a, b) => a.answered - b.answered);
  const flips: number[] = [];
  let generation = searches[0].search!.generation;
  for (const { answered, search } of searches) {
    // What was under way ends on the one before: a later answer of it is no flip.
    if (search!.generation === generation || answered - (flips.at(-1) ?? 0) < AROUND_MS) continue;
    flips.push(answered);
    generation = search!.generation;
  }
  return flips;
}

async function check(
  url: string,
  answers: readonly SteadyAnswer[],
  models: readonly string[],
): Promise<JobsBench['checks']> {
  const failures = answers.filter(({ status }) => status !== 200);
  const searches = answers.flatMap(({ search, generation }) =>
    search ? [{ ...search, header: generation }] : [],
  );
  const texts = new Set(searches.flatMap(({ query, hits }) => [query, ...hits.map(({ text }) => text)]));
  const vectors = new Map<string, Map<string, number[]>>();
  for (const model of models) vectors.set(model, await embed(url, [...texts], model));
  let [hits, mixed, undecided] = [0, 0, 0];
  for (const { model, generation, header, query, hits: found } of searches) {
    const right = vectors.get(model)!;
    const wrong = vectors.get(models.find((name) => name !== model)!)!;
    for (const { text, score } of found) {
      hits++;
      const of = (side: Map<string, number[]>): number => cosine(side.get(query)!, side.get(text)!);
      const isRight = Math.abs(of(right) - score) <= TOLERANCE && header === generation;
      if (!isRight) mixed++;
      else if (Math.abs(of(wrong) - score) <= TOLERANCE) undecided++;
    }
  }
  const written = answers.flatMap((answer) => (answer.written ? [answer.written] : []));
  const missing: Record<string, number> = {};
  for (const model of models) {
    missing[model] = 0;
    for (const { id, text } of written) {
      const { hits } = await post<{ hits: { id: string }[] }>(`${url}/search`, { query: text, k: 10, model });
      if (!hits.some((hit) => hit.id === id)) missing[model]++;
    }
  }
  return {
    requests: answers.length,
    failed: failures.length,
    ...(failures[0] && { firstFailure: `${failures[0].status}: ${failures[0].error}` }),
    searches: searches.length,
    ...{ hits, mixed, undecided, written: written.length, missing },
  };
}

async function embed(url: string, texts: readonly string[], model: string): Promise<Map<string, number[]>> {
  const vectors = new Map<string, number[]>();
  for (let from = 0; from < texts.length; from += 32) {
    const inputs = texts.slice(from, from + 32);
    const rows = await post<number[][]>(`${url}/embed`, { inputs, model });
    inputs.forEach((text, i) => vectors.set(text, rows[i]));
  }
  return vectors;
}

function cosine(a: readonly number[], b: readonly number[]): number {
  return a.reduce((sum, x, i) => sum + x * b[i], 0);
}

async function get<T>(url: string): Promise<T> {
  return answerOf(await fetch(url), url);
}

async function post<T>(url: string, body?: object): Promise<T> {
  const headers = { 'content-type': 'application/json' };
  return answerOf(
    await fetch(url, { method: 'POST', ...(body && { headers, body: JSON.stringify(body) }) }),
    url,
  );
}

async function answerOf<T>(answer: Response, url: string): Promise<T> {
  const text = await answer.text();
  if (!answer.ok) throw new UserError('backend', `${url} answers ${answer.status}: ${text.slice(0, 300)}`);
  return JSON.parse(text) as T;
}

export function jobsTable({ documents, feedback, job, phases, p99Ratio, checks }: JobsBench): string {
  const { failed, requests, searches, hits, mixed, undecided, written, missing } = checks;
  const rows = phases.map(({ name, requests, perSecond, p50, p99, longestGap }) => [
    name,
    figure(requests),
    figure(perSecond),
    figure(p50),
    figure(p99),
    figure(longestGap),
  ]);
  const lost = Object.entries(missing).map(([model, n]) => `${n} by ${model}`);
  return [
    `${documents} documents, ${feedback} pairs of feedback. Job: ${job.verdict!.decision}: ${job.verdict!.reason}.`,
    markdownTable(['', 'requests', 'requests/s', 'p50 ms', 'p99 ms', 'longest gap ms'], rows),
    `Highest p99 of the job's phases: ${figure(p99Ratio)} times that of before.`,
    [
      `- ${failed} of ${requests} requests failed${checks.firstFailure ? ` (${checks.firstFailure})` : ''}`,
      `- ${mixed} of ${hits} hits in ${searches} answers have another score than the cosine by the model that the answer names (${undecided} would have the same by the other model)`,
      `- of ${written} documents that were written meanwhile, not found: ${lost.join(', ')}`,
    ].join('\n'),
  ].join('\n\n');
}

/** Whether no answer was wrong and nothing was lost. */
export function isWhole({ checks: { failed, mixed, missing } }: JobsBench): boolean {
  return failed === 0 && mixed === 0 && Object.values(missing).every((n) => n === 0);
}
