import { Deck, LinearInterpolator, OrthographicView, type OrthographicViewState } from '@deck.gl/core';
import { LineLayer, ScatterplotLayer } from '@deck.gl/layers';
import KDBush from 'kdbush';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';

import { extentOf, placesBetween, rowsWithin, rowTowards, type Places } from './atlas.js';
import type { Colour } from './colours.js';
import {
  PointsLayer,
  progressOf,
  type ColourAttribute,
  type Move,
  type PlaceAttribute,
} from './points-layer.js';

const MOVE_MS = 1200;
const STILL: Move = { began: 0, duration: 0 };
/** Of what is not on a map: the graphics card is not sure to see NaN, and the index can't be sorted with it. */
const NOWHERE = 1e30;
/** Pixels across: smaller where there are many, which would hide each other. */
const sizeOf = (points: number): number => Math.max(2, Math.min(6, 250 / Math.sqrt(points)));
/** Around the pointer, where a point is found. */
const REACH_PIXELS = 12;
const ARROWS: Record<string, readonly [number, number]> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, 1],
  ArrowDown: [0, -1],
};

export const hasWebGl = (): boolean => document.createElement('canvas').getContext('webgl2') !== null;

export interface CanvasProps {
  /** Of the rows: while they are the same, points move to new places. */
  ids: readonly string[];
  places: Places;
  colours: readonly Colour[];
  /** Rows that stand out; all others step back while there are any. */
  selected: ReadonlySet<number>;
  /** Has a place on the map, as the neighbours and what was found have. */
  current: number | undefined;
  /** Joined to the current one by lines. */
  neighbours: readonly number[];
  /** Where a text that was searched for would lie, and what it found. */
  query: { place: readonly [number, number]; rows: readonly number[] } | undefined;
  lasso: boolean;
  label: string;
  onHover(row: number | undefined, at: readonly [number, number]): void;
  onGo(row: number): void;
  onOpen(row: number): void;
  onLasso(rows: number[]): void;
}

type Line = [number, number][];

interface Travel {
  ids: readonly string[];
  from: Places;
  to: Places;
  origins: PlaceAttribute;
  move: Move;
}

function placeAttribute({ x, y }: Places): PlaceAttribute {
  const value = new Float32Array(2 * x.length).fill(NOWHERE);
  for (let row = 0; row < x.length; row++) {
    if (Number.isNaN(x[row])) continue;
    value[2 * row] = x[row];
    value[2 * row + 1] = y[row];
  }
  return { value, size: 2 };
}

function colourAttribute(colours: readonly Colour[], selected: ReadonlySet<number>): ColourAttribute {
  const value = new Uint8Array(4 * colours.length);
  for (let row = 0; row < colours.length; row++) {
    value.set(colours[row], 4 * row);
    value[4 * row + 3] = selected.size === 0 || selected.has(row) ? 220 : 40;
  }
  return { value, size: 4, normalized: true };
}

/** From wherever the points are at this moment. */
function onwards({ ids, from, to, move }: Travel, places: Places): Travel {
  const duration = matchMedia('(prefers-reduced-motion: reduce)').matches ? 0 : MOVE_MS;
  const now = placesBetween(from, to, progressOf(move));
  // What was nowhere appears in its place.
  const begin = placesBetween(now, places, 0);
  return {
    ...{ ids, from: begin, to: places, origins: placeAttribute(begin) },
    move: { began: performance.now(), duration },
  };
}

/** Made when it is asked for: not while points begin to move. */
function lazyIndexOf({ value }: PlaceAttribute): () => KDBush {
  let index: KDBush | undefined;
  return () => {
    if (index) return index;
    index = new KDBush(value.length / 2, 64, Float32Array);
    for (let i = 0; i < value.length; i += 2) index.add(value[i], value[i + 1]);
    return index.finish();
  };
}

/** The points, drawn by WebGL; which of them is meant is found here, without reading pixels back. */
export function MapCanvas(props: CanvasProps) {
  const { ids, places, colours, selected, current, neighbours, query, lasso } = props;
  const box = useRef<HTMLDivElement>(null);
  const deck = useRef<Deck<OrthographicView> | undefined>(undefined);
  const [line, setLine] = useState<Line>([]);
  const pressed = useRef<readonly [number, number] | undefined>(undefined);
  const positions = useMemo(() => placeAttribute(places), [places]);
  const colors = useMemo(() => colourAttribute(colours, selected), [colours, selected]);
  const index = useMemo(() => lazyIndexOf(positions), [positions]);

  useEffect(() => {
    const element = box.current!;
    const { middle, width, height } = extentOf(places);
    const scale = Math.min((element.clientWidth || 1) / width, (element.clientHeight || 1) / height);
    deck.current = new Deck({
      parent: element,
      // Discs have no smoother edges by it, and a program that draws them takes twice as long.
      deviceProps: { webgl: { antialias: false } },
      views: new OrthographicView({ flipY: false }),
      initialViewState: {
        target: [...middle, 0],
        zoom: Math.log2(0.9 * scale),
      } as OrthographicViewState,
      controller: true,
      getCursor: () => 'inherit',
      layers: [],
    });
    return () => deck.current?.finalize();
  }, []);

  const travel = useRef<Travel | undefined>(undefined);
  useEffect(() => {
    const at = (row: number): [number, number] => [places.x[row], places.y[row]];
    if (travel.current?.ids !== ids)
      travel.current = { ids, from: places, to: places, origins: positions, move: STILL };
    else if (travel.current.to !== places) travel.current = onwards(travel.current, places);
    const { origins, move } = travel.current;
    const ink = getComputedStyle(box.current!).color.match(/\d+/g)!.slice(0, 3).map(Number) as [
      number,
      number,
      number,
    ];
    const rings = [...(current === undefined ? [] : [current]), ...neighbours, ...(query?.rows ?? [])];
    deck.current?.setProps({
      controller: { dragPan: !lasso, keyboard: false, doubleClickZoom: false },
      layers: [
        new PointsLayer({
          id: 'points',
          data: { length: ids.length, attributes: { origins, positions, colors } },
          size: sizeOf(places.x.length),
          move,
        }),
        new LineLayer({
          id: 'neighbours',
          data: current === undefined ? [] : neighbours,
          getSourcePosition: () => at(current!),
          getTargetPosition: (row: number) => at(row),
          getColor: [...ink, 160],
          getWidth: 1.5,
          updateTriggers: { getSourcePosition: [current, places], getTargetPosition: places },
        }),
        new ScatterplotLayer({
          id: 'rings',
          data: rings,
          getPosition: (row: number) => at(row),
          getRadius: (row: number) => (row === current ? 9 : 6),
          radiusUnits: 'pixels',
          filled: false,
          stroked: true,
          lineWidthUnits: 'pixels',
          getLineWidth: 2,
          getLineColor: ink,
          updateTriggers: { getPosition: places, getRadius: current, getLineColor: ink.join() },
        }),
        new ScatterplotLayer({
          id: 'query',
          data: query ? [query.place] : [],
          getPosition: ([x, y]: readonly [number, number]) => [x, y, 0],
          getRadius: 7,
          radiusUnits: 'pixels',
          getFillColor: [225, 40, 60],
          stroked: true,
          lineWidthUnits: 'pixels',
          getLineWidth: 3,
          getLineColor: ink,
        }),
      ],
    });
  }, [ids, places, positions, colors, current, neighbours, query, lasso]);

  const pixelOf = (event: PointerEvent): [number, number] => {
    const { left, top } = box.current!.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  };
  const rowAt = (pixel: readonly [number, number]): number | undefined => {
    const view = deck.current?.getViewports()[0];
    if (!view) return undefined;
    const [x, y] = view.unproject([...pixel]);
    const reach = REACH_PIXELS / 2 ** (view.zoom ?? 0);
    let [nearest, least]: [number | undefined, number] = [undefined, Infinity];
    for (const row of index().within(x, y, reach)) {
      const distance = Math.hypot(places.x[row] - x, places.y[row] - y);
      if (distance < least) [nearest, least] = [row, distance];
    }
    return nearest;
  };

  const move = (event: PointerEvent): void => {
    const pixel = pixelOf(event);
    if (lasso && pressed.current) setLine((before) => [...before, pixel]);
    else if (!pressed.current) props.onHover(rowAt(pixel), pixel);
  };
  const press = (event: PointerEvent): void => {
    pressed.current = pixelOf(event);
    if (!lasso) return;
    box.current!.setPointerCapture(event.pointerId);
    setLine([pressed.current as [number, number]]);
  };
  const release = (event: PointerEvent): void => {
    const from = pressed.current;
    pressed.current = undefined;
    const pixel = pixelOf(event);
    if (lasso) {
      const view = deck.current?.getViewports()[0];
      if (view)
        props.onLasso(
          rowsWithin(
            places,
            line.map((each) => view.unproject(each) as [number, number]),
          ),
        );
      setLine([]);
    } else if (from && Math.hypot(pixel[0] - from[0], pixel[1] - from[1]) < 4) {
      const row = rowAt(pixel);
      if (row !== undefined) props.onOpen(row);
    }
  };
  const zoomBy = (step: number): void => {
    const view = deck.current?.getViewports()[0];
    if (!view) return;
    const [x, y] = view.unproject([view.width / 2, view.height / 2]);
    const [u, v] = current === undefined ? [x, y] : [places.x[current], places.y[current]];
    deck.current?.setProps({
      initialViewState: {
        target: [u, v, 0],
        zoom: (view.zoom ?? 0) + step,
        transitionDuration: 200,
        transitionInterpolator: new LinearInterpolator(['target', 'zoom']),
      } as OrthographicViewState,
    });
  };
  const key = (event: KeyboardEvent): void => {
    if (event.key === 'Enter' && current !== undefined) props.onOpen(current);
    else if (event.key === '+') zoomBy(1);
    else if (event.key === '-') zoomBy(-1);
    else if (event.key in ARROWS) {
      const from = current ?? places.x.findIndex((x) => !Number.isNaN(x));
      const next = current === undefined ? from : rowTowards(places, from, ARROWS[event.key]);
      if (next !== undefined) props.onGo(next);
    } else return;
    event.preventDefault();
  };

  return (
    <div
      ref={box}
      class={lasso ? 'map lasso' : 'map'}
      tabIndex={0}
      role="application"
      aria-label={props.label}
      onPointerMove={move}
      onPointerDown={press}
      onPointerUp={release}
      onPointerLeave={() => props.onHover(undefined, [0, 0])}
      onKeyDown={key}
    >
      {line.length > 1 && (
        <svg aria-hidden="true">
          <polygon points={line.map((pixel) => pixel.join()).join(' ')} />
        </svg>
      )}
    </div>
  );
}
