import type { ComponentChildren } from 'preact';
import { useEffect, useMemo, useState } from 'preact/hooks';

import { api, dataOf } from '../api/client.js';
import { useAnswer } from '../api/use-answer.js';
import { Failure, Loading } from '../parts/notes.js';
import { useDebounced } from '../parts/use-debounced.js';
import {
  atlasOf,
  columnOf,
  movesOf,
  placesOf,
  type Atlas,
  type Layout,
  type Places,
  type Points,
} from './atlas.js';
import { hasWebGl, MapCanvas } from './canvas.js';
import { clusterColour, colouringOf, css, type Colouring } from './colours.js';
import { documentOf } from './documents.js';
import { DocumentList } from './list.js';

const NEIGHBOURS = 10;
const MOVED = 10;
const SEARCH_MS = 200;
const HOVER_MS = 60;
const NONE: ReadonlySet<number> = new Set();

interface ViewProps {
  /** Those that have a map. */
  models: readonly string[];
  model: string;
  layout: Layout;
  /** Of these. */
  choices: ComponentChildren;
}

export function MapView(props: ViewProps) {
  const { models } = props;
  const { data, error } = useAnswer(
    async (signal) =>
      atlasOf(
        await Promise.all(
          models.map((name) =>
            dataOf(api.GET('/map/points', { params: { query: { model: name } }, signal })),
          ),
        ),
      ),
    [],
  );
  if (error !== undefined) return <Failure message={error} />;
  return data ? <Explorer atlas={data} {...props} /> : <Loading what="points" />;
}

type Value = NonNullable<Points['values']>[number] | undefined;

/** A field's values by row, of the model's map. */
function useField(atlas: Atlas, model: string, field: string): Value[] | undefined {
  const { data } = useAnswer(
    field === ''
      ? undefined
      : (signal) => dataOf(api.GET('/map/points', { params: { query: { model, field } }, signal })),
    [model, field],
  );
  return useMemo(() => data?.values && columnOf(atlas, data, data.values), [data, atlas]);
}

function useColouring(
  atlas: Atlas,
  model: string,
  by: string,
  moves: Float32Array | undefined,
): Colouring & { clusters: readonly (number | undefined)[] } {
  const map = atlas.maps.get(model)!;
  const clusters = useMemo(() => columnOf(atlas, map, map.cluster), [atlas, map]);
  const values = useField(atlas, model, by.startsWith('field:') ? by.slice('field:'.length) : '');
  const colouring = useMemo((): Colouring => {
    if (by === 'moved' && moves) return colouringOf([...moves]);
    if (by.startsWith('field:')) return colouringOf(values ?? atlas.ids.map(() => undefined));
    return { of: clusters.map(clusterColour), legend: [] };
  }, [by, moves, values, clusters, atlas]);
  return { ...colouring, clusters };
}

/** What a text would lie among: the mean place of what it finds, weighted by how alike it is. */
function placeAmong(
  { x, y }: Places,
  hits: readonly { row: number; score: number }[],
): [number, number] | undefined {
  let [u, v, sum] = [0, 0, 0];
  for (const { row, score } of hits) {
    const weight = Math.exp(10 * score);
    u += weight * x[row];
    v += weight * y[row];
    sum += weight;
  }
  return sum > 0 ? [u / sum, v / sum] : undefined;
}

function Explorer({ atlas, models, model, layout, choices }: ViewProps & { atlas: Atlas }) {
  const map = atlas.maps.get(model)!;
  const places = useMemo(() => placesOf(atlas, model, layout), [atlas, model, layout]);
  const moves = useMemo(
    () =>
      models.length > 1
        ? movesOf(placesOf(atlas, models[0], 'umap'), placesOf(atlas, models[1], 'umap'))
        : undefined,
    [atlas],
  );
  const movedMost = useMemo(
    () =>
      [...(moves?.keys() ?? [])]
        .sort((a, b) => moves![b] - moves![a])
        .slice(0, MOVED)
        .map((row) => atlas.ids[row]),
    [moves, atlas],
  );
  const [by, setBy] = useState('cluster');
  const { of: colours, legend, clusters } = useColouring(atlas, model, by, moves);
  const [current, setCurrent] = useState<number | undefined>(undefined);
  const [opened, setOpened] = useState<number | undefined>(undefined);
  const [selected, setSelected] = useState<ReadonlySet<number>>(NONE);
  const [lasso, setLasso] = useState(false);
  const [text, setText] = useState('');
  const query = useDebounced(text.trim(), SEARCH_MS);
  const webGl = useMemo(hasWebGl, []);
  const rowsOf = (hits: readonly { id: string; score: number }[]): { row: number; score: number }[] =>
    hits.flatMap(({ id, score }) => {
      const row = atlas.rowOf.get(id);
      return row === undefined || Number.isNaN(places.x[row]) ? [] : [{ row, score }];
    });

  const near = useAnswer(
    opened === undefined
      ? undefined
      : async (signal) => {
          const id = atlas.ids[opened];
          const { text: asked } = await documentOf(id, signal);
          const body = { query: asked, k: NEIGHBOURS, mode: 'dense' as const, exclude: [id], model };
          return { text: asked, hits: (await dataOf(api.POST('/search', { body, signal }))).hits };
        },
    [opened, model],
  );
  const found = useAnswer(
    query === ''
      ? undefined
      : (signal) =>
          dataOf(api.POST('/search', { body: { query, k: NEIGHBOURS, mode: 'dense', model }, signal })),
    [query, model],
  );
  const neighbours = useMemo(
    () => (near.data && opened !== undefined ? rowsOf(near.data.hits).map(({ row }) => row) : []),
    [near.data, places],
  );
  const asked = useMemo(() => {
    const hits = found.data && query !== '' ? rowsOf(found.data.hits) : [];
    const place = placeAmong(places, hits);
    return place && { place, rows: hits.map(({ row }) => row) };
  }, [found.data, places, query]);
  const failure = near.error ?? found.error;
  const open = (row: number): void => {
    setCurrent(row);
    setOpened(row);
  };
  const openId = (id: string): void => {
    const row = atlas.rowOf.get(id);
    if (row !== undefined) open(row);
  };
  const inCluster = (cluster: number): Set<number> =>
    new Set(clusters.flatMap((each, row) => (each === cluster ? [row] : [])));
  return (
    <section aria-label="Map" class="explorer">
      <div class="controls">
        {choices}
        <label class="wide">
          Where would this lie?
          <input
            type="search"
            value={text}
            placeholder="usb stick is not recognised"
            autocomplete="off"
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </label>
        <label>
          Colour by
          <select value={by} onChange={(event) => setBy(event.currentTarget.value)}>
            <option value="cluster">cluster</option>
            {moves && <option value="moved">how far it moved</option>}
            {map.fields.map((field) => (
              <option key={field} value={`field:${field}`}>
                {field}
              </option>
            ))}
          </select>
        </label>
        {webGl && (
          <button type="button" aria-pressed={lasso} onClick={() => setLasso(!lasso)}>
            Lasso
          </button>
        )}
      </div>
      {failure && <Failure message={failure} />}
      <p role="status" class="hint">
        {map.ids.length.toLocaleString('en')} documents in {map.clusters.length} clusters
        {asked && `, ${asked.rows.length} of them near your text`}
      </p>
      {webGl ? (
        <>
          <Canvas
            {...{ atlas, places, colours, selected, current, neighbours, lasso }}
            query={asked}
            onOpen={open}
            onGo={setCurrent}
            onSelect={(rows) => setSelected(new Set(rows))}
          />
          <p class="hint">
            Drag and scroll to move, click for neighbours. On the map: <kbd>←</kbd> <kbd>↑</kbd> <kbd>→</kbd>{' '}
            <kbd>↓</kbd> go to the next document, <kbd>Enter</kbd> shows its neighbours, <kbd>+</kbd> and{' '}
            <kbd>-</kbd> zoom.
          </p>
        </>
      ) : (
        <div class="note">
          <p>
            This browser has no WebGL 2, so the points can't be drawn. The clusters below are theirs all the
            same; to see the map, switch hardware acceleration on in its settings.
          </p>
        </div>
      )}
      {legend.length > 0 && (
        <ul class="legend" aria-label="Colours">
          {legend.map(({ label, colour }) => (
            <li key={label}>
              <span class="swatch" style={{ background: css(colour) }} /> {label}
            </li>
          ))}
        </ul>
      )}
      <ul class="legend" aria-label="Clusters">
        {map.clusters.map(({ words, size }, cluster) => (
          <li key={cluster}>
            <button type="button" onClick={() => setSelected(inCluster(cluster))}>
              {by === 'cluster' && (
                <span class="swatch" style={{ background: css(clusterColour(cluster)) }} />
              )}{' '}
              {words.join(', ') || `cluster ${cluster + 1}`} ({size})
            </button>
          </li>
        ))}
      </ul>
      {opened !== undefined && near.data && (
        <DocumentList
          title={`Neighbours of “${near.data.text}”`}
          ids={near.data.hits.map(({ id }) => id)}
          onOpen={openId}
        />
      )}
      {selected.size > 0 && (
        <DocumentList
          title={`${selected.size.toLocaleString('en')} documents selected`}
          ids={[...selected].map((row) => atlas.ids[row])}
          onOpen={openId}
          onClear={() => setSelected(NONE)}
        />
      )}
      {moves && (
        <DocumentList
          title={`Moved most between ${models[0]} and ${models[1]}`}
          ids={movedMost}
          onOpen={openId}
        />
      )}
    </section>
  );
}

type CanvasOf = Omit<Parameters<typeof MapCanvas>[0], 'label' | 'onHover' | 'onLasso'> & {
  atlas: Atlas;
  onSelect(rows: number[]): void;
};

/** The points with the text of the one that the pointer or the keys are at. */
function Canvas({ atlas, onSelect, ...props }: CanvasOf) {
  const { places, current } = props;
  const [hover, setHover] = useState<{ row: number; at: readonly [number, number] } | undefined>(undefined);
  const row = useDebounced(hover?.row ?? current, HOVER_MS);
  useEffect(() => setHover(undefined), [places, current]);
  const { data } = useAnswer(
    row === undefined
      ? undefined
      : async (signal) => ({ row, text: (await documentOf(atlas.ids[row], signal)).text }),
    [row],
  );
  const told = data && data.row === row ? data.text : undefined;
  return (
    <div class="map-frame">
      <MapCanvas
        {...props}
        label="Map of the documents: arrows go from one to the next, Enter shows neighbours"
        onHover={(at, pixel) => setHover(at === undefined ? undefined : { row: at, at: pixel })}
        onLasso={onSelect}
      />
      <p class="map-text" role="status">
        {told ?? ''}
      </p>
    </div>
  );
}
