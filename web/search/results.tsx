import { api, dataOf, type Schemas } from '../api/client.js';
import { useAnswer } from '../api/use-answer.js';
import { CurlButton } from '../parts/copy-button.js';
import { Highlight } from '../parts/highlight.js';
import { Metadata } from '../parts/metadata.js';
import { Empty, Failure, Loading } from '../parts/notes.js';
import { FeedbackButtons } from './feedback-buttons.js';

export type Mode = NonNullable<Schemas['SearchRequest']['mode']>;

const HITS = 10;

/** What one model finds. */
export function Results({ query, mode, model }: { query: string; mode: Mode; model: string }) {
  const body = { query, k: HITS, mode, model };
  const {
    data: latest,
    error,
    loading,
  } = useAnswer((signal) => dataOf(api.POST('/search', { body, signal })), [query, mode, model]);
  // Of another question, when this one has no answer.
  const data = error === undefined ? latest : undefined;
  return (
    <section class="results" aria-busy={loading} aria-label={`Found by ${model}`}>
      <div class="bar">
        <h2>{model}</h2>
        <CurlButton request={{ method: 'POST', path: '/search', body }} what={`the search by ${model}`} />
      </div>
      {error && <Failure message={error} />}
      {!data && loading && <Loading what="results" />}
      <p class="hidden" role="status">
        {data && !loading && `${data.hits.length} results by ${model}`}
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
