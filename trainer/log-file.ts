import { mkdir, open, readFile, type FileHandle } from 'node:fs/promises';
import path from 'node:path';

import { UserError } from '../base/errors.js';
import { fileError, writeFileAtomic } from '../base/files.js';
import type { EvaluationEntry, LogEntry, Run, RunStart, StepEntry } from './run-log.js';

/** log.jsonl: an entry a line, appended as it happens. */
export class LogFile {
  private constructor(
    private readonly file: string,
    private readonly handle: FileHandle,
  ) {}

  /**
   * Starts a log; one that is there already is replaced.
   *
   * @param options.keepThrough goes on with the log instead, after this step: what was logged of later steps,
   *   the adaptation, the run's end and a line that was cut short are taken out first, for a resumed run writes them again
   * @throws UserError as readRun does, and `unavailable` when the file can't be written
   */
  static async open(file: string, { keepThrough }: { keepThrough?: number } = {}): Promise<LogFile> {
    if (keepThrough !== undefined) {
      const kept = (await readEntries(file)).filter(
        (entry) =>
          entry.type === 'start' || ('step' in entry && entry.type !== 'end' && entry.step <= keepThrough),
      );
      await writeFileAtomic(file, kept.map(lineOf).join(''));
    }
    try {
      await mkdir(path.dirname(file), { recursive: true });
      return new LogFile(file, await open(file, keepThrough === undefined ? 'w' : 'a'));
    } catch (error) {
      throw fileError(error, file, 'write');
    }
  }

  /** @throws UserError `unavailable` when the disk is full */
  async write(entry: LogEntry): Promise<void> {
    try {
      await this.handle.appendFile(lineOf(entry));
    } catch (error) {
      throw fileError(error, this.file, 'write');
    }
  }

  async close(): Promise<void> {
    await this.handle.close();
  }
}

/**
 * Reads a log. The last line may be cut short, as kill -9 leaves it: it is passed over.
 *
 * @throws UserError `not-found`; `corrupt`, with file and line, for anything else that is no log entry
 */
export async function readRun(file: string): Promise<Run> {
  const [start, ...entries] = await readEntries(file);
  const adapted = entries.find((entry) => entry.type === 'adapt');
  return {
    start,
    steps: entries.filter((entry): entry is StepEntry => entry.type === 'step'),
    evaluations: entries.filter((entry): entry is EvaluationEntry => entry.type === 'evaluation'),
    ...(adapted && { adapted }),
    end: entries.find((entry) => entry.type === 'end'),
  };
}

const TYPES: readonly string[] = ['start', 'step', 'evaluation', 'adapt', 'end'] satisfies LogEntry['type'][];

/** The start of the run, and what came after it. */
async function readEntries(file: string): Promise<[RunStart, ...LogEntry[]]> {
  let lines: string[];
  try {
    lines = (await readFile(file, 'utf8')).split('\n');
  } catch (error) {
    throw fileError(error, file, 'read');
  }
  const [start, ...entries] = lines.flatMap((line, i) => {
    const isLast = i === lines.length - 1;
    if (isLast && line === '') return [];
    const entry = parseEntry(line);
    if (entry) return [entry];
    if (isLast) return [];
    throw new UserError(
      'corrupt',
      `${file}:${i + 1}: expected a log entry (JSON, type ${TYPES.join(', ')}), found ${line.slice(0, 80) || 'an empty line'}`,
    );
  });
  if (start?.type !== 'start')
    throw new UserError(
      'corrupt',
      `${file}:1: expected the start of a run, found ${start?.type ?? 'nothing'}`,
    );
  return [start, ...entries];
}

function parseEntry(line: string): LogEntry | undefined {
  try {
    const entry = JSON.parse(line) as LogEntry | null;
    return entry && TYPES.includes(entry.type) ? entry : undefined;
  } catch {
    return undefined;
  }
}

function lineOf(entry: LogEntry): string {
  return JSON.stringify(entry) + '\n';
}
