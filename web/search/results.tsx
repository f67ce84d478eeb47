import { useEffect } from 'preact/hooks';

import { api, dataOf, type Schemas } from '../api/client.js';
import { useAnswer } from '../api/use-answer.js';
import { CurlButton } from '../parts/copy-button.js';
import { Highlight } from '../parts/highlight.js';
import { Metadata } from '../parts/metadata.js';
import { Empty, Failure, Loading } from '../parts/notes.js';
import { FeedbackButtons } from './feedback-buttons.js';

export type Mode = NonNullable<Schemas['SearchRequest']['mode']>;

export type Found = Schemas['SearchResponse'];

const HITS = 10;

interface ResultsProps {
  query: string;
  mode: Mode;
  /** The live one, whichever that is, unless given. */
  model?: string;
  /** What the model is called until an answer says so. */
  known: string;
  onFound?: (found: Found) => void;
}

/** What one model finds. */
export function Results({ query, mode, model, known, onFound }: ResultsProps) {
  const body = { query, k: HITS, mode, ...(model !== undefined && { model }) };
  const {
    data: latest,
    error,
    loading,
  } = useAnswer((signal) => dataOf(api.POST('/search', { body, signal })), [query, mode, model]);
  // Of another question, when this one has no answer.
  const data = error === undefined ? latest : undefined;
  useEffect(() => {
    if (latest) onFound?.(latest);
  }, [latest]);
  const name = data?.model ?? known;
  return (
    <section class="results" aria-busy={loading} aria-label={`Found by ${name}`}>
      <div class="bar">
        <h2>{name}</h2>
        <CurlButton request={{ path: '/search', body }} what={`the search by ${name}`} />
      </div>
      {error && <Failure message={error} />}
      {!data && loading && <Loading what="results" />}
      <p class="hidden" role="status">
        {data && !loading && `${data.hits.length} results by ${name}`}
      </p>
      {data?.hits.length === 0 && (
        <Empty>
          <p>Nothing found.</p>
          <p>
            {mode === 'lexical' ? 'Search by meaning: choose dense or hybrid.' : 'The collection is empty.'}
          </p>
        </Empty>
      )}
      <ol class="hits">
        {data?.hits.map((hit) => (
          <li key={hit.id} class="hit">
            <div>
              <p class="text">
                <Highlight text={hit.text} query={query} />
              </p>
              <p class="facts">
                <span class="score" title={`Score (${data.mode})`}>
                  {hit.score.toFixed(3)}
                </span>
                <span class="id">{hit.id}</span>
              </p>
              <Metadata metadata={hit.metadata} />
            </div>
            <FeedbackButtons query={query} id={hit.id} text={hit.text} />
          </li>
        ))}
      </ol>
    </section>
  );
}
