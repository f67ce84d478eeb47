import { useRef, useState } from 'preact/hooks';

import { api, dataOf, type Schemas } from '../api/client.js';
import { useAnswer } from '../api/use-answer.js';
import { useRefresh } from '../api/use-refresh.js';
import { Empty, Failure, Loading } from '../parts/notes.js';
import type { Layout } from './atlas.js';
import { MapView } from './view.js';

/** While a map is made, and else. */
const BUILDING_MS = 1000;
const REFRESH_MS = 5000;

type State = Schemas['MapState'];

/** Whether there is something to look at: a map, or the draft of one. */
const isThere = ({ layouts }: State): boolean => layouts !== undefined;
const LAYOUTS: Record<Layout, string> = { umap: 'Neighbours (UMAP)', pca: 'Directions (PCA)' };

export function MapPage() {
  const [tries, setTries] = useState(0);
  const askAgain = (): void => setTries((n) => n + 1);
  const [chosen, setChosen] = useState<string | undefined>(undefined);
  const [wanted, setLayout] = useState<Layout>('umap');
  const [refused, setRefused] = useState<string | undefined>(undefined);
  const answer = useAnswer(
    async (signal) => {
      const [info, { models }] = await Promise.all([
        dataOf(api.GET('/info', { signal })),
        dataOf(api.GET('/models', { signal })),
      ]);
      const served = models.filter((model) => model.served);
      const states = await Promise.all(
        served.map(({ name }) => dataOf(api.GET('/map', { params: { query: { model: name } }, signal }))),
      );
      return { info, states };
    },
    [tries],
  );
  const { error, loading } = answer;
  // What was there stays in view when a later look fails.
  const last = useRef(answer.data);
  const data = (last.current = answer.data ?? last.current);
  const states = data?.states ?? [];
  const isBuilding = states.some(({ state }) => state === 'building');
  useRefresh(loading, askAgain, isBuilding ? BUILDING_MS : REFRESH_MS);

  const model = states.some((state) => state.model === chosen) ? chosen : data?.info.model_id;
  const shown = states.find((state) => state.model === model);
  const made = states.filter(isThere);
  const layouts = (['umap', 'pca'] as const).filter((each) => shown?.layouts?.includes(each));
  const layout = layouts.includes(wanted) ? wanted : 'pca';
  // A map that was made again is loaded again.
  const versions = made.map(({ generation, made: when }) => `${generation} ${when}`).join();
  const make = async (): Promise<void> => {
    try {
      await dataOf(api.POST('/map', { params: { query: { model } } }));
      setRefused(undefined);
    } catch (failure) {
      setRefused((failure as Error).message);
    }
    askAgain();
  };
  const choices = (
    <>
      {states.length > 1 && (
        <label>
          Model
          <select value={model} onChange={(event) => setChosen(event.currentTarget.value)}>
            {states.map((state) => (
              <option key={state.model}>{state.model}</option>
            ))}
          </select>
        </label>
      )}
      {shown && isThere(shown) && (
        <label>
          Laid out by
          <select value={layout} onChange={(event) => setLayout(event.currentTarget.value as Layout)}>
            {layouts.map((each) => (
              <option key={each} value={each}>
                {LAYOUTS[each]}
              </option>
            ))}
          </select>
        </label>
      )}
    </>
  );
  return (
    <>
      {(error ?? refused) && <Failure message={(error ?? refused)!} />}
      {!data && !error && <Loading what="the map" />}
      {data && data.info.documents < 2 && (
        <Empty>
          <p>There are too few documents for a map.</p>
          <p>
            Add documents with <code>POST /documents</code> (<a href="/docs/">the interface</a>), or start the
            server with <code>--example</code>.
          </p>
        </Empty>
      )}
      {data && data.info.documents >= 2 && shown && <Note state={shown} make={make} />}
      {shown && isThere(shown) ? (
        <MapView
          versions={versions}
          models={made.map((state) => state.model)}
          model={shown.model}
          layout={layout}
          choices={choices}
        />
      ) : (
        <div class="controls">{choices}</div>
      )}
    </>
  );
}

function Note({ state, make }: { state: State; make: () => void }) {
  if (state.state === 'building')
    return (
      <div class="note" role="status">
        <label>
          {state.layouts?.length === 1
            ? 'Where neighbours belong is being worked out; until then the map shows directions (PCA).'
            : 'The map is being made.'}{' '}
          You may leave this page.
          <progress value={state.progress} />
        </label>
      </div>
    );
  if (state.state === 'ready') return null;
  return (
    <div class={state.state === 'failed' ? 'note failure' : 'note'}>
      {state.state === 'none' && (
        <p>
          There is no map of {state.model} yet. Making one takes seconds for thousands of documents and
          minutes for 50,000; the server answers meanwhile.
        </p>
      )}
      {state.state === 'stale' && (
        <p>Documents changed since this map was made: {state.since} that came are not on it.</p>
      )}
      {state.state === 'failed' && <p>The map could not be made: {state.error}</p>}
      <button type="button" class={state.state === 'none' ? 'primary' : undefined} onClick={make}>
        {state.state === 'none' ? 'Make the map' : 'Make it again'}
      </button>
    </div>
  );
}
