import { useState } from 'preact/hooks';

import { useAnswer } from '../api/use-answer.js';
import { downloadLines } from '../parts/download.js';
import { Failure, Loading } from '../parts/notes.js';
import { documentsOf } from './documents.js';

/** More are not listed, but downloaded. */
const LISTED = 50;

interface ListProps {
  title: string;
  ids: readonly string[];
  onOpen(id: string): void;
  onClear?(): void;
}

export function DocumentList({ title, ids, onOpen, onClear }: ListProps) {
  const [failed, setFailed] = useState<string | undefined>(undefined);
  const [busy, setBusy] = useState(false);
  const listed = ids.slice(0, LISTED);
  const { data, error, loading } = useAnswer((signal) => documentsOf(listed, signal), [listed.join('\n')]);
  const save = async (): Promise<void> => {
    setBusy(true);
    try {
      downloadLines('documents.ndjson', await documentsOf(ids));
      setFailed(undefined);
    } catch (failure) {
      setFailed((failure as Error).message);
    }
    setBusy(false);
  };
  const failure = error ?? failed;
  return (
    <section aria-label={title} aria-busy={loading}>
      <div class="bar">
        <h2>{title}</h2>
        <div class="buttons">
          {onClear && (
            <button type="button" class="quiet" onClick={onClear}>
              Clear
            </button>
          )}
          <button type="button" disabled={busy} onClick={save}>
            {busy ? 'Reading …' : 'Download as NDJSON'}
          </button>
        </div>
      </div>
      {failure && <Failure message={failure} />}
      {!data && loading && <Loading what="documents" />}
      <ul class="hits">
        {data?.map(({ id, text }) => (
          <li key={id} class="hit">
            <p class="text">{text}</p>
            <button type="button" class="quiet" onClick={() => onOpen(id)}>
              Neighbours<span class="hidden"> of {text}</span>
            </button>
          </li>
        ))}
      </ul>
      {ids.length > LISTED && (
        <p class="hint">
          The first {LISTED} of {ids.length.toLocaleString('en')}; the download has all.
        </p>
      )}
    </section>
  );
}
