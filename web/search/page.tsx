import { useEffect, useRef, useState } from 'preact/hooks';

import { api, dataOf } from '../api/client.js';
import { useAnswer } from '../api/use-answer.js';
import { Empty, Failure, Loading } from '../parts/notes.js';
import { useDebounced } from '../parts/use-debounced.js';
import { Results, type Found, type Mode } from './results.js';
import { RunHere } from './run-here.js';

/** After the last key; together with the search it stays below 150 ms. */
const DEBOUNCE_MS = 60;
/** While the collection is empty. */
const POLL_MS = 2000;

const MODES: readonly { mode: Mode; label: string }[] = [
  { mode: 'dense', label: 'Meaning (dense)' },
  { mode: 'lexical', label: 'Words (lexical)' },
  { mode: 'hybrid', label: 'Both (hybrid)' },
];

/** "/" goes to the question from wherever nothing is typed. */
function useSlash(box: { current: HTMLInputElement | null }): void {
  useEffect(() => {
    const focus = (event: KeyboardEvent): void => {
      if (event.key !== '/' || (event.target as Element).closest('input, textarea, select, dialog')) return;
      event.preventDefault();
      box.current?.focus();
    };
    addEventListener('keydown', focus);
    return () => removeEventListener('keydown', focus);
  }, []);
}

export function SearchPage() {
  const [text, setText] = useState('');
  const [mode, setMode] = useState<Mode>('dense');
  const [other, setOther] = useState('');
  const query = useDebounced(text.trim(), DEBOUNCE_MS);
  const box = useRef<HTMLInputElement>(null);
  useSlash(box);

  const [tries, setTries] = useState(0);
  const askAgain = (): void => setTries((n) => n + 1);
  const { data, error } = useAnswer(
    async (signal) => {
      const [info, { models }] = await Promise.all([
        dataOf(api.GET('/info', { signal })),
        dataOf(api.GET('/models', { signal })),
      ]);
      const served = models.filter((model) => model.served && model.name !== info.model_id);
      return { info, others: served.map(({ name }) => name) };
    },
    [tries],
  );
  const isEmpty = data?.info.documents === 0;
  useEffect(() => {
    if (!isEmpty) return;
    const later = setTimeout(askAgain, POLL_MS);
    return () => clearTimeout(later);
  }, [data]);
  /** Tells that another model was activated, or all documents deleted. */
  const lookAt = (found: Found): void => {
    const foundNone = found.hits.length === 0 && found.mode !== 'lexical';
    if (foundNone || found.generation !== data?.info.generation) askAgain();
  };
  // One that went live, or is served no more, is not beside the live one.
  const beside = data?.others.includes(other) ? other : '';

  return (
    <>
      <form role="search" class="controls" onSubmit={(event) => event.preventDefault()}>
        <label class="wide">
          Question
          <input
            ref={box}
            type="search"
            value={text}
            placeholder="usb stick is not recognised"
            autocomplete="off"
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </label>
        <label>
          Search by
          <select value={mode} onChange={(event) => setMode(event.currentTarget.value as Mode)}>
            {MODES.map((each) => (
              <option key={each.mode} value={each.mode}>
                {each.label}
              </option>
            ))}
          </select>
        </label>
        {data && data.others.length > 0 && (
          <label>
            Beside
            <select value={beside} onChange={(event) => setOther(event.currentTarget.value)}>
              <option value="">no other model</option>
              {data.others.map((name) => (
                <option key={name}>{name}</option>
              ))}
            </select>
          </label>
        )}
      </form>
      {error && <Failure message={error} />}
      {!data && !error && <Loading what="the collection" />}
      {data && <RunHere key={data.info.fingerprint} query={query} info={data.info} />}
      {isEmpty && (
        <Empty>
          <p>The collection is empty.</p>
          <p>
            Add documents with <code>POST /documents</code> (<a href="/docs/">the interface</a>), or start the
            server with <code>--example</code>.
          </p>
        </Empty>
      )}
      {data && data.info.documents > 0 && query === '' && (
        <Empty>
          <p>
            Type a question to see which of {data.info.documents.toLocaleString('en')} documents ask the same.{' '}
            <kbd>/</kbd> brings you back to the question.
          </p>
        </Empty>
      )}
      {data && data.info.documents > 0 && query !== '' && (
        <div class="columns">
          <Results query={query} mode={mode} known={data.info.model_id} onFound={lookAt} />
          {beside !== '' && <Results query={query} mode={mode} model={beside} known={beside} />}
        </div>
      )}
    </>
  );
}
