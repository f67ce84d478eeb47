import { useEffect, useState } from 'preact/hooks';

import { api, dataOf } from '../api/client.js';

/** Tells /feedback what somebody has found about a query and a document. */
export function FeedbackButtons({ query, id, text }: { query: string; id: string; text: string }) {
  const [said, setSaid] = useState<boolean | undefined>(undefined);
  const [error, setError] = useState<string | undefined>(undefined);
  // What was said was said of that query.
  useEffect(() => {
    setSaid(undefined);
    setError(undefined);
  }, [query, id]);
  const say = async (relevant: boolean): Promise<void> => {
    try {
      await dataOf(api.POST('/feedback', { body: { query, id, relevant } }));
      setSaid(relevant);
      setError(undefined);
    } catch (failure) {
      setError((failure as Error).message);
    }
  };
  const button = (relevant: boolean, label: string) => (
    <button
      type="button"
      aria-pressed={said === relevant}
      aria-label={`${label}: ${text}`}
      onClick={() => say(relevant)}
    >
      {label}
    </button>
  );
  return (
    <div class="buttons">
      {button(true, 'Duplicate')}
      {button(false, 'Not a duplicate')}
      {error && (
        <span role="alert" class="failure">
          {error}
        </span>
      )}
    </div>
  );
}
