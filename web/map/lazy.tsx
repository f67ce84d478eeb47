import { useEffect, useState } from 'preact/hooks';

import { Failure, Loading } from '../parts/notes.js';

/** The page Map, with its drawing library, which comes when somebody opens it. */
export function LazyMapPage() {
  const [Page, setPage] = useState<(() => preact.JSX.Element) | undefined>(undefined);
  const [error, setError] = useState<string | undefined>(undefined);
  useEffect(() => {
    import('./page.js').then(
      ({ MapPage }) => setPage(() => MapPage),
      () =>
        setError(
          'The map did not load. Reload this page; the server may have been updated since it was opened.',
        ),
    );
  }, []);
  if (error !== undefined) return <Failure message={error} />;
  return Page ? <Page /> : <Loading what="the map" />;
}
