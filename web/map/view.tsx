import type { ComponentChildren } from 'preact';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';

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

interface ViewProps {
  /** Those that have a map, or the draft of one. */
  models: readonly string[];
  /** Tells when one of the maps is another one. */
  versions: string;
  model: string;
  layout: Layout;
  /** Of these. */
  choices: ComponentChildren;
}

export function MapView({ models, versions, ...props }: ViewProps) {
  const { data, error } = useAnswer(
    (signal) =>
      Promise.all(
        models.map((name) => dataOf(api.GET('/map/points', { params: { query: { model: name } }, signal }))),
      ),
    [versions],
  );
  const last = useRef<Atlas | undefined>(undefined);
  const atlas = useMemo(() => (last.current = data && atlasOf(data, last.current)), [data]);
  if (error !== undefined) return <Failure message={error} />;
  return atlas?.maps.has(props.model) ? <Explorer atlas={atlas} {...props} /> : <Loading what="points" />;
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

const nameOf = (words: readonly string[], cluster: number): string =>
  words.join(', ') || `cluster ${cluster + 1}`;

/** Of a choice such as `field:topic`; undefined of another kind. */
const argumentOf = (choice: string, kind: string): string | undefined =>
  choice.startsWith(`${kind}:`) ? choice.slice(kind.length + 1) : undefined;

function useColouring(
  atlas: Atlas,
  model: string,
  by: string,
  moves: Float32Array | undefined,
): Colouring & { clusters: readonly (number | undefined)[] } {
  const map = atlas.maps.get(model)!;
  const clusters = useMemo(() => columnOf(atlas, map, map.cluster), [atlas, map]);
  const values = useField(atlas, model, argumentOf(by, 'field') ?? '');
  const colouring = useMemo((): Colouring => {
    if (by === 'moved' && moves) return colouringOf([...moves]);
    if (argumentOf(by, 'field') !== undefined) return colouringOf(values ?? atlas.ids.map(() => undefined));
    const other = atlas.maps.get(argumentOf(by, 'clusters') ?? '');
    if (!other) return { of: clusters.map(clusterColour), legend: [] };
    const others = columnOf(atlas, other, other.cluster);
    return {
      of: others.map(clusterColour),
      legend: other.clusters.map(({ words }, cluster) => ({
        label: nameOf(words, cluster),
        colour: clusterColour(cluster),
      })),
    };
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

type ExplorerProps = Omit<ViewProps, 'models' | 'versions'> & { atlas: Atlas };

function Explorer({ atlas, model, layout, choices }: ExplorerProps) {
  const models = [...atlas.maps.keys()];
  const map = atlas.maps.get(model)!;
  const places = useMemo(() => placesOf(atlas, model, layout), [atlas, model, layout]);
  const moves = useMemo(
    () =>
      models.length > 1 && models.every((name) => atlas.maps.get(name)!.umap)
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
  const [chosen, setBy] = useState('cluster');
  // The other model may be the one that is shown now.
  const by = argumentOf(chosen, 'clusters') === model ? 'cluster' : chosen;
  const { of: colours, legend, clusters } = useColouring(atlas, model, by, moves);
  // By id: the rows are others when a map was made again.
  const [current, setCurrent] = useState<string | undefined>(undefined);
  const [opened, setOpened] = useState<string | undefined>(undefined);
  const [selected, setSelected] = useState<readonly string[]>([]);
  const [lasso, setLasso] = useState(false);
  const [text, setText] = useState('');
  const query = useDebounced(text.trim(), SEARCH_MS);
  const webGl = useMemo(hasWebGl, []);
  /** Undefined where the map that is shown lacks the document. */
  const rowOf = (id: string): number | undefined => {
    const row = atlas.rowOf.get(id);
    return row === undefined || Number.isNaN(places.x[row]) ? undefined : row;
  };
  const rowsOf = (hits: readonly { id: string; score: number }[]): { row: number; score: number }[] =>
    hits.flatMap(({ id, score }) => {
      const row = rowOf(id);
      return row === undefined ? [] : [{ row, score }];
    });

  const near = useAnswer(
    opened === undefined
      ? undefined
      : async (signal) => {
          const { text: asked } = await documentOf(opened, signal);
          const body = { query: asked, k: NEIGHBOURS, mode: 'dense' as const, exclude: [opened], model };
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
  const selectedRows = useMemo(
    () => new Set(selected.flatMap((id) => atlas.rowOf.get(id) ?? [])),
    [selected, atlas],
  );
  const asked = useMemo(() => {
    const hits = found.data && query !== '' ? rowsOf(found.data.hits) : [];
    const place = placeAmong(places, hits);
    return place && { place, rows: hits.map(({ row }) => row) };
  }, [found.data, places, query]);
  const failure = near.error ?? found.error;
  const open = (id: string): void => {
    setCurrent(id);
    setOpened(id);
  };
  const inCluster = (cluster: number): string[] => atlas.ids.filter((_, row) => clusters[row] === cluster);
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
            {models
              .filter((other) => other !== model)
              .map((other) => (
                <option key={other} value={`clusters:${other}`}>
                  cluster of {other}
                </option>
              ))}
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
            {...{ atlas, places, colours, neighbours, lasso }}
            selected={selectedRows}
            current={current === undefined ? undefined : rowOf(current)}
            query={asked}
            onOpen={(row) => open(atlas.ids[row])}
            onGo={(row) => setCurrent(atlas.ids[row])}
            onSelect={(rows) => setSelected(rows.map((row) => atlas.ids[row]))}
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
              {nameOf(words, cluster)} ({size})
            </button>
          </li>
        ))}
      </ul>
      {opened !== undefined && near.data && (
        <DocumentList
          title={`Neighbours of “${near.data.text}”`}
          ids={near.data.hits.map(({ id }) => id)}
          onOpen={open}
        />
      )}
      {selected.length > 0 && (
        <DocumentList
          title={`${selected.length.toLocaleString('en')} documents selected`}
          ids={selected}
          onOpen={open}
          onClear={() => setSelected([])}
        />
      )}
      {moves && (
        <DocumentList
          title={`Moved most between ${models[0]} and ${models[1]}`}
          ids={movedMost}
          onOpen={open}
        />
      )}
    </section>
  );
}

type CanvasOf = Omit<Parameters<typeof MapCanvas>[0], 'ids' | 'label' | 'onHover' | 'onLasso'> & {
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
        ids={atlas.ids}
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
