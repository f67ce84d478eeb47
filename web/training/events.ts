import { useEffect, useState } from 'preact/hooks';

import { NotNow, type Schemas } from '../api/client.js';
import { key, keyWanted } from '../api/key.js';

export type Job = Schemas['Job'];

/** An entry of the trainer's log, as far as the curves need it. */
export interface LogEntry {
  type: string;
  step?: number;
  loss?: number;
  terms?: Record<string, number>;
  std?: number;
  effectiveRank?: number;
  results?: { metrics: Record<string, number> }[];
}

const ENDED: readonly string[] = ['done', 'failed', 'cancelled'] satisfies Job['state'][];
const AGAIN_MS = 1500;

export const hasEnded = ({ state }: Job): boolean => ENDED.includes(state);

interface ServerEvent {
  event: string;
  id?: string;
  data: string;
}

/** EventSource would do, but it can't send a key. */
async function* eventsOf(body: ReadableStream<Uint8Array>): AsyncGenerator<ServerEvent> {
  const reader = body
    .pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>)
    .getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split('\n\n');
    rest = blocks.pop()!;
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split('\n').map((line) => line.split(/: (.*)/s, 2)));
      yield fields as ServerEvent;
    }
  }
}

export interface Watched {
  job?: Job;
  log: readonly LogEntry[];
  error?: string;
}

/** A job as it goes. A stream that breaks off is taken up where it was. */
export function useJobEvents(id: number): Watched {
  const [watched, setWatched] = useState<Watched>({ log: [] });
  useEffect(() => {
    const abort = new AbortController();
    let seen = '0';
    let later: ReturnType<typeof setTimeout> | undefined;
    setWatched({ log: [] });
    const watch = async (): Promise<void> => {
      const headers: Record<string, string> = { 'Last-Event-ID': seen };
      if (key.value !== '') headers.Authorization = `Bearer ${key.value}`;
      const answer = await fetch(`/finetune/${id}/events`, { headers, signal: abort.signal }).catch(() => {
        throw new NotNow(
          'The server does not answer. Start it again; the training goes on, and so does this page.',
        );
      });
      if (answer.status === 401) keyWanted.value = 'The training can only be watched with a key.';
      if (answer.status === 503) throw new NotNow('The server is starting.');
      if (!answer.ok) throw new Error(((await answer.json()) as Schemas['Error']).error);
      let ended = false;
      for await (const { event, id: line, data } of eventsOf(answer.body!)) {
        if (abort.signal.aborted) return;
        if (event === 'job') {
          const job = JSON.parse(data) as Job;
          ended = hasEnded(job);
          setWatched(({ log }) => ({ job, log }));
        } else {
          seen = line!;
          const entry = JSON.parse(data) as LogEntry;
          setWatched(({ job, log }) => ({ job, log: [...log, entry] }));
        }
      }
      if (!ended) throw new NotNow('The connection to the server broke off; trying again.');
    };
    const keepOn = (): void => {
      watch().catch((error: Error) => {
        if (abort.signal.aborted) return;
        setWatched((before) => ({ ...before, error: error.message }));
        // A stream that is cut off in the middle is a TypeError.
        if (error instanceof NotNow || error instanceof TypeError) later = setTimeout(keepOn, AGAIN_MS);
      });
    };
    keepOn();
    return () => {
      abort.abort();
      clearTimeout(later);
    };
  }, [id, key.value]);
  return watched;
}
