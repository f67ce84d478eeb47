import { open } from 'node:fs/promises';

/** Where a training is, read from its log. */
export interface TrainingProgress {
  step: number;
  steps: number;
  loss?: number;
  terms?: Record<string, number>;
  std?: number;
  effective_rank?: number;
  /** Of the latest evaluation. */
  metrics?: Record<string, number>;
  seconds_left?: number;
}

/** The time that is left is told by the mean of so many steps. */
const RECENT_STEPS = 20;

interface Entry {
  type: string;
  step?: number;
  steps?: number;
  loss?: number;
  terms?: Record<string, number>;
  std?: number;
  effectiveRank?: number;
  seconds?: number;
  results?: { metrics: Record<string, number> }[];
}

/** The trainer's log as it grows: an entry a line. Nothing is read twice. */
export class TrainingLog {
  private at = 0;
  private rest = '';

  constructor(private readonly file: string) {}

  /** Lines that came since the last call; none while there is no file. Begins again when the file was written anew. */
  async next(): Promise<string[]> {
    const handle = await open(this.file, 'r').catch(() => undefined);
    if (!handle) return [];
    try {
      const { size } = await handle.stat();
      if (size < this.at) {
        this.at = 0;
        this.rest = '';
      }
      const { buffer, bytesRead } = await handle.read(
        Buffer.alloc(size - this.at),
        0,
        size - this.at,
        this.at,
      );
      this.at += bytesRead;
      const lines = (this.rest + buffer.toString('utf8', 0, bytesRead)).split('\n');
      this.rest = lines.pop()!;
      return lines;
    } finally {
      await handle.close();
    }
  }
}

/** What a log says so far; nothing before its first line. */
export function progressOf(lines: readonly string[]): TrainingProgress | undefined {
  const entries = lines.map((line) => JSON.parse(line) as Entry);
  const steps = entries.find(({ type }) => type === 'start')?.steps;
  if (steps === undefined) return undefined;
  const made = entries.filter(({ type }) => type === 'step');
  const last = made.at(-1);
  const recent = made.slice(-RECENT_STEPS).map(({ seconds = 0 }) => seconds);
  const secondsAStep = recent.reduce((sum, seconds) => sum + seconds, 0) / recent.length;
  const evaluation = entries.findLast(({ type }) => type === 'evaluation');
  return {
    step: last?.step ?? 0,
    steps,
    ...(last && {
      loss: last.loss,
      terms: last.terms,
      std: last.std,
      effective_rank: last.effectiveRank,
      seconds_left: secondsAStep * (steps - last.step!),
    }),
    ...(evaluation?.results?.[0] && { metrics: evaluation.results[0].metrics }),
  };
}
