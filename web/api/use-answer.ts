import { useEffect, useState } from 'preact/hooks';

import { NotNow } from './client.js';
import { key } from './key.js';

const AGAIN_MS = 1500;

export interface AnswerState<T> {
  /** Of the latest request that was answered; stays while the next one is under way, or the server away. */
  data?: T;
  error?: string;
  loading: boolean;
}

/**
 * Asks whenever what it depends on changes, after a key was given, and until a server that is away is back. The request
 * before is aborted.
 *
 * @param ask undefined where there is nothing to ask
 */
export function useAnswer<T>(
  ask: ((signal: AbortSignal) => Promise<T>) | undefined,
  dependsOn: readonly unknown[],
): AnswerState<T> {
  const [state, setState] = useState<AnswerState<T>>({ loading: ask !== undefined });
  const [tries, setTries] = useState(0);
  useEffect(() => {
    if (!ask) {
      setState({ loading: false });
      return;
    }
    const abort = new AbortController();
    let later: ReturnType<typeof setTimeout> | undefined;
    setState((before) => ({ ...before, loading: true }));
    ask(abort.signal).then(
      (data) => {
        if (!abort.signal.aborted) setState({ data, loading: false });
      },
      (error: Error) => {
        if (abort.signal.aborted) return;
        const isAway = error instanceof NotNow;
        setState(({ data }) => ({ ...(isAway && { data }), error: error.message, loading: false }));
        if (isAway) later = setTimeout(() => setTries((n) => n + 1), AGAIN_MS);
      },
    );
    return () => {
      abort.abort();
      clearTimeout(later);
    };
  }, [...dependsOn, key.value, tries]);
  return state;
}
