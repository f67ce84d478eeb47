import { setTimeout as sleep } from 'node:timers/promises';

import type { FinetuneRequest } from '../../jobs/request.js';
import { hasEnded, type Job } from '../../jobs/job.js';
import type { Jobs } from '../../jobs/jobs.js';
import { verdictReport } from '../../jobs/verdict.js';
import type { Feedback } from '../../search/feedback-table.js';
import type { TrainableCollection } from '../../search/collection.js';
import { ndjson, parseJson, type Line } from '../body.js';
import { HttpError } from '../errors.js';
import { checkCount, checkText, type Call, type Handlers } from '../handler.js';
import type { components } from '../openapi.js';
import { checkSchema } from '../spec.js';

type JobAnswer = components['schemas']['Job'];

const checkFeedback = checkSchema('Feedback', 'the line');
/** Lines of feedback, and bytes of them, that are stored together. */
const FEEDBACK_LINES = 1000;
const FEEDBACK_BYTES = 1 << 20;
const EVENTS_EVERY_MS = 500;

async function answerOf(jobs: Jobs, job: Job): Promise<JobAnswer> {
  const { request, ...rest } = job;
  return { ...rest, request: { ...request, sent: undefined }, ...(await jobs.progress(job)) } as JobAnswer;
}

/** @throws HttpError `not-found` */
async function checkKnown(
  collection: TrainableCollection,
  feedback: readonly Feedback[],
  fieldOf: (i: number) => string,
): Promise<void> {
  const known = await collection.existing(feedback.map(({ id }) => id));
  const unknown = feedback.findIndex(({ id }) => !known.has(id));
  if (unknown < 0) return;
  const field = `${fieldOf(unknown)}id`;
  throw new HttpError(
    'not-found',
    `${field}: no document has the id ${JSON.stringify(feedback[unknown].id)}`,
    { param: field },
  );
}

/** Stores lines as they come; those about documents that are not there are left out. */
async function addLines(
  { limits, countBytes, services: { collection } }: Call<'addFeedback'>,
  lines: AsyncIterable<Line>,
): Promise<components['schemas']['FeedbackStored']> {
  const counts = { stored: 0, unknown: 0 };
  let group: Feedback[] = [];
  let groupBytes = 0;
  const store = async (): Promise<void> => {
    if (group.length === 0) return;
    const known = await collection.existing(group.map(({ id }) => id));
    const about = group.filter(({ id }) => known.has(id));
    await collection.addFeedback(about);
    counts.stored += about.length;
    counts.unknown += group.length - about.length;
    countBytes(-groupBytes);
    group = [];
    groupBytes = 0;
  };
  try {
    for await (const { number, bytes } of lines) {
      const line = parseJson(bytes, `line ${number}`);
      try {
        checkFeedback(line);
        checkText((line as Feedback).query, 'query', limits);
      } catch (error) {
        if (!(error instanceof HttpError)) throw error;
        throw new HttpError(error.kind, `line ${number}: ${error.message}`, { fields: { line: number } });
      }
      group.push(line as Feedback);
      groupBytes += bytes.length;
      if (group.length === FEEDBACK_LINES || groupBytes >= FEEDBACK_BYTES) await store();
    }
  } finally {
    await store();
  }
  return counts;
}

export const trainingHandlers: Handlers<
  | 'finetune'
  | 'listJobs'
  | 'getJob'
  | 'cancelJob'
  | 'jobEvents'
  | 'jobReport'
  | 'addFeedback'
  | 'countFeedback'
  | 'listModels'
  | 'activateModel'
  | 'rollbackModel'
> = {
  async finetune({ body, services: { jobs }, limits, response }) {
    for (const [i, text] of (body.texts ?? []).entries()) checkText(text, `texts[${i}]`, limits);
    const { texts, pairs, ...asked } = body;
    const job = await jobs.submit(asked as FinetuneRequest, {
      texts,
      pairs: pairs as [string, string][] | undefined,
    });
    response.status(202);
    return answerOf(jobs, job);
  },

  async listJobs({ services: { jobs } }) {
    return { jobs: await Promise.all((await jobs.list()).map((job) => answerOf(jobs, job))) };
  },

  getJob: async ({ path: { id }, services: { jobs } }) => answerOf(jobs, await jobs.job(Number(id))),

  async cancelJob({ path: { id }, services: { jobs } }) {
    return answerOf(jobs, await jobs.cancel(Number(id)));
  },

  async jobEvents({ path, services: { jobs }, request, response, signal, draining }) {
    const id = Number(path.id);
    await jobs.job(id);
    response.status(200).set({ 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
    if (request.method === 'HEAD') {
      response.end();
      return undefined;
    }
    response.flushHeaders();
    const log = jobs.log(id);
    const seen = Number(request.headers['last-event-id'] ?? 0) || 0;
    const stop = AbortSignal.any([signal, draining]);
    let told = '';
    for (let line = 0; !stop.aborted;) {
      const job = await jobs.job(id);
      const text = JSON.stringify(await answerOf(jobs, job));
      if (text !== told) response.write(`event: job\ndata: ${text}\n\n`);
      told = text;
      for (const entry of await log.next())
        if (++line > seen) response.write(`id: ${line}\nevent: log\ndata: ${entry}\n\n`);
      if (hasEnded(job)) break;
      await sleep(EVENTS_EVERY_MS, undefined, { signal: stop }).catch(() => undefined);
    }
    response.end();
    return undefined;
  },

  async jobReport({ path: { id }, services: { jobs }, request, response }) {
    const job = await jobs.job(Number(id));
    if (request.accepts(['text/markdown', 'text/html']) === 'text/html') {
      const report = await jobs.report(job.id);
      if (report !== undefined) {
        // The trainer's report is one file, with its own styles and plots.
        response.set(
          'Content-Security-Policy',
          "default-src 'none'; style-src 'unsafe-inline'; img-src data:",
        );
        response.type('html').send(report);
        return undefined;
      }
    }
    if (!job.verdict)
      throw new HttpError('not-found', `job ${job.id} has no report: it is ${job.state}`, { param: 'id' });
    response.type('text/markdown').send(verdictReport(job.id, job.verdict));
    return undefined;
  },

  async addFeedback(call) {
    const { body, lines, services, limits } = call;
    if (lines) return addLines(call, lines);
    const feedback = 'feedback' in body ? body.feedback : [body];
    checkCount(feedback.length, 'feedback', limits, `send a stream of ${ndjson}, which may be of any length`);
    const fieldOf = (i: number): string => ('feedback' in body ? `feedback[${i}].` : '');
    feedback.forEach(({ query }, i) => checkText(query, `${fieldOf(i)}query`, limits));
    await checkKnown(services.collection, feedback, fieldOf);
    await services.collection.addFeedback(feedback);
    return { stored: feedback.length, unknown: 0 };
  },

  countFeedback: ({ services: { collection } }) => collection.feedbackCounts(),

  listModels({ services: { collection } }) {
    const models = collection
      .generations()
      .map(({ model, source: _source, ...rest }) => ({ name: model, ...rest }));
    return { models };
  },

  async activateModel({ path: { name }, services: { jobs } }) {
    const { id, model } = await jobs.activate(name);
    return { id, model };
  },

  async rollbackModel({ services: { jobs } }) {
    const { id, model } = await jobs.rollback();
    return { id, model };
  },
};
