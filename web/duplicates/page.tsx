import { useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';

import { api, dataOf } from '../api/client.js';
import { useAnswer } from '../api/use-answer.js';
import { CurlButton } from '../parts/copy-button.js';
import { downloadLines } from '../parts/download.js';
import { Empty, Failure, Loading } from '../parts/notes.js';
import { useDebounced } from '../parts/use-debounced.js';
import { groupsOf, keyOf, type Pair } from './groups.js';

/** The slider rests for so long before pairs are asked for: in a large collection that is work. */
const DEBOUNCE_MS = 300;
const PAIRS = 500;

/** Whether a pair, by its key, is a duplicate. */
type Said = Readonly<Record<string, boolean>>;

export function DuplicatesPage() {
  const [threshold, setThreshold] = useState(0.9);
  const [tries, setTries] = useState(0);
  const asked = useDebounced(threshold, DEBOUNCE_MS);
  const query = { threshold: asked, limit: PAIRS };
  const { data, error, loading } = useAnswer(
    (signal) => dataOf(api.GET('/duplicates', { params: { query }, signal })),
    [asked, tries],
  );
  const groups = useMemo(() => groupsOf(data?.pairs ?? []), [data]);
  const pairs = groups.flat();
  // Here, as it stays while the slider is where there are no pairs.
  const [said, setSaid] = useState<Said>({});
  return (
    <>
      <div class="controls">
        <label class="wide">
          At least this alike (cosine): {threshold.toFixed(2)}
          <input
            type="range"
            min="0.5"
            max="1"
            step="0.01"
            value={threshold}
            onInput={(event) => setThreshold(event.currentTarget.valueAsNumber)}
          />
        </label>
        <CurlButton
          request={{ path: `/duplicates?threshold=${asked}&limit=${PAIRS}` }}
          what="the request for pairs"
        />
      </div>
      {error && <Failure message={error} again={() => setTries(tries + 1)} />}
      {!data && loading && <Loading what="pairs" />}
      {data?.pairs.length === 0 && (
        <Empty>
          <p>No two documents are as alike as {data.threshold}.</p>
          <p>Move the slider to the left to see pairs that are less alike.</p>
        </Empty>
      )}
      {pairs.length > 0 && (
        <Review
          {...{ groups, pairs, said }}
          busy={loading}
          onSaid={(pair, relevant) => setSaid((before) => ({ ...before, [keyOf(pair)]: relevant }))}
        />
      )}
    </>
  );
}

interface ReviewProps {
  groups: Pair[][];
  pairs: Pair[];
  said: Said;
  busy: boolean;
  onSaid(pair: Pair, relevant: boolean): void;
}

/** Pairs in groups, of which one at a time is the current one: j and k go on and back, y and n say what it is. */
function Review({ groups, pairs, said, busy, onSaid }: ReviewProps) {
  const [error, setError] = useState<string | undefined>(undefined);
  const [at, setAt] = useState(0);
  const list = useRef<HTMLDivElement>(null);
  const current = pairs[Math.min(at, pairs.length - 1)];

  const goTo = (place: number): void => {
    const next = Math.max(0, Math.min(place, pairs.length - 1));
    setAt(next);
    list.current?.querySelectorAll<HTMLElement>('.hit')[next]?.focus();
  };
  const say = async (pair: Pair, relevant: boolean): Promise<void> => {
    try {
      await dataOf(api.POST('/feedback', { body: { query: pair.a.text, id: pair.b.id, relevant } }));
      onSaid(pair, relevant);
      setError(undefined);
    } catch (failure) {
      setError((failure as Error).message);
    }
  };

  // A layout effect: the next key, however soon, is about the pair that this one led to.
  useLayoutEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      // Not where something is typed; the slider takes none of these keys.
      if ((event.target as Element).closest('input:not([type=range]), textarea, select, dialog')) return;
      if (event.key === 'j') goTo(at + 1);
      else if (event.key === 'k') goTo(at - 1);
      else if (event.key === 'y' || event.key === 'n') {
        void say(current, event.key === 'y');
        goTo(at + 1);
      }
    };
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  });

  const reviewed = pairs.filter((pair) => keyOf(pair) in said);
  const save = (): void =>
    downloadLines(
      'duplicates.ndjson',
      pairs.map((pair) => ({ ...pair, relevant: said[keyOf(pair)] })),
    );
  return (
    <section aria-busy={busy} aria-label="Pairs">
      <div class="bar">
        <p role="status">
          {pairs.length} pairs in {groups.length} groups, {reviewed.length} reviewed
        </p>
        <button type="button" onClick={save}>
          Export as NDJSON
        </button>
      </div>
      <p class="hint">
        <kbd>j</kbd> next, <kbd>k</kbd> back, <kbd>y</kbd> duplicate, <kbd>n</kbd> not a duplicate
      </p>
      {error && <Failure message={error} />}
      <div ref={list}>
        {groups.map((group) => (
          <ul key={keyOf(group[0])} class="hits group">
            {group.map((pair) => (
              <li
                key={keyOf(pair)}
                class="hit"
                tabIndex={-1}
                aria-current={pair === current ? 'true' : undefined}
                onClick={() => setAt(pairs.indexOf(pair))}
              >
                <div>
                  <p class="text">{pair.a.text}</p>
                  <p class="text">{pair.b.text}</p>
                  <p class="facts">
                    <span class="score">{pair.score.toFixed(3)}</span>
                    <span>{pair.a.id}</span>
                    <span>{pair.b.id}</span>
                  </p>
                </div>
                <div class="buttons">
                  {([true, false] as const).map((relevant) => (
                    <button
                      key={String(relevant)}
                      type="button"
                      aria-pressed={said[keyOf(pair)] === relevant}
                      aria-label={`${relevant ? 'Duplicate' : 'Not a duplicate'}: ${pair.a.text} / ${pair.b.text}`}
                      onClick={() => say(pair, relevant)}
                    >
                      {relevant ? 'Duplicate' : 'Not a duplicate'}
                    </button>
                  ))}
                </div>
              </li>
            ))}
          </ul>
        ))}
      </div>
    </section>
  );
}
