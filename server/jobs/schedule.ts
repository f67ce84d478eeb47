import { UserError } from '../../base/errors.js';
import type { TrainableCollection } from '../search/collection.js';
import { hasEnded, type Job } from './job.js';
import type { FinetuneRequest } from './request.js';

const MINUTE_MS = 60_000;

/** When to train again without being asked. */
export interface Schedule {
  /** Documents and feedback that have come since the last job. */
  after: number;
  /** When a job may begin, local time; always when left out. */
  window?: TimeWindow;
  request: FinetuneRequest;
}

/** Minutes since midnight; over midnight when `from` is the later one. */
export interface TimeWindow {
  from: number;
  to: number;
}

/** @throws UserError `usage` unless it is HH:MM-HH:MM */
export function parseWindow(text: string): TimeWindow {
  const [from, to] = text.split('-').map((time) => {
    const [, hours, minutes] = /^(\d{1,2}):(\d\d)$/.exec(time.trim()) ?? [];
    return Number(hours) < 24 && Number(minutes) < 60 ? Number(hours) * 60 + Number(minutes) : undefined;
  });
  if (from === undefined || to === undefined || text.split('-').length !== 2)
    throw new UserError('usage', `--refit-window: expected HH:MM-HH:MM, as 01:30-05:00, found ${text}`);
  return { from, to };
}

/** Whether a moment lies in the window: from its first minute to before its last. */
export function isWithin({ from, to }: TimeWindow, moment: Date): boolean {
  const minute = moment.getHours() * 60 + moment.getMinutes();
  return from <= to ? from <= minute && minute < to : minute >= from || minute < to;
}

/** Looks every minute whether it is time. @returns what ends it */
export function startSchedule(
  { after, window, request }: Schedule,
  collection: TrainableCollection,
  jobs: { list(): Promise<Job[]>; submit(request: FinetuneRequest): Promise<Job> },
  log: (message: string) => void,
): () => void {
  const look = async (): Promise<void> => {
    if (window && !isWithin(window, new Date())) return;
    if (!(await jobs.list()).every(hasEnded)) return;
    const changes = await collection.changesSinceLastJob();
    if (changes < after || collection.info().documents === 0) return;
    const { id } = await jobs.submit(request);
    log(`job ${id}: ${changes} documents and feedback have come since the last one`);
  };
  const timer = setInterval(() => {
    look().catch((error: unknown) => log(`no job was begun: ${String(error)}`));
  }, MINUTE_MS);
  timer.unref();
  return () => clearInterval(timer);
}
