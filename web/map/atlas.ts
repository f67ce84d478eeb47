import type { Schemas } from '../api/client.js';

export type Points = Schemas['MapPoints'];
export type Layout = 'umap' | 'pca';

/** Places by row of the atlas; NaN where a map lacks the document. */
export interface Places {
  x: Float32Array;
  y: Float32Array;
}

/** The maps of one or two models, with one row for each document that is on any of them. */
export interface Atlas {
  ids: readonly string[];
  rowOf: ReadonlyMap<string, number>;
  maps: ReadonlyMap<string, Points>;
}

/** @param before whose `ids` are kept where they are the same, so that a row is known to be the same document still */
export function atlasOf(maps: readonly Points[], before?: Atlas): Atlas {
  const ids = [...new Set(maps.flatMap((map) => map.ids))];
  const same = before?.ids.length === ids.length && before.ids.every((id, row) => id === ids[row]);
  return {
    ids: same ? before.ids : ids,
    rowOf: same ? before.rowOf : new Map(ids.map((id, row) => [id, row])),
    maps: new Map(maps.map((map) => [map.model, map])),
  };
}

export function placesOf({ ids, rowOf, maps }: Atlas, model: string, layout: Layout): Places {
  const places = { x: new Float32Array(ids.length).fill(NaN), y: new Float32Array(ids.length).fill(NaN) };
  const map = maps.get(model)!;
  // Of a draft there is only PCA.
  const { x, y } = map[layout] ?? map.pca;
  map.ids.forEach((id, i) => {
    const row = rowOf.get(id)!;
    places.x[row] = x[i];
    places.y[row] = y[i];
  });
  return places;
}

/** Places on the way, of which a share is done; where one of the two lacks a document, it is where the other has it. */
export function placesBetween(from: Places, to: Places, share: number): Places {
  const between = (a: Float32Array, b: Float32Array): Float32Array =>
    a.map((value, i) =>
      Number.isNaN(value) ? b[i] : Number.isNaN(b[i]) ? value : value + share * (b[i] - value),
    );
  return { x: between(from.x, to.x), y: between(from.y, to.y) };
}

/** A column of a map by row of the atlas. */
export function columnOf<T>({ ids, rowOf }: Atlas, map: Points, column: readonly T[]): (T | undefined)[] {
  const rows = new Array<T | undefined>(ids.length).fill(undefined);
  map.ids.forEach((id, i) => (rows[rowOf.get(id)!] = column[i]));
  return rows;
}

/** How far each document is apart on two maps, as a share of the first one's extent; 0 where it is on one alone. */
export function movesOf(before: Places, after: Places): Float32Array {
  const { width, height } = extentOf(before);
  const side = Math.max(width, height);
  return before.x.map((x, i) => {
    const distance = Math.hypot(after.x[i] - x, after.y[i] - before.y[i]) / side;
    return Number.isNaN(distance) ? 0 : distance;
  });
}

/** The rectangle around all places. */
export function extentOf({ x, y }: Places): { middle: [number, number]; width: number; height: number } {
  let [left, right, bottom, top] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let i = 0; i < x.length; i++) {
    if (Number.isNaN(x[i])) continue;
    left = Math.min(left, x[i]);
    right = Math.max(right, x[i]);
    bottom = Math.min(bottom, y[i]);
    top = Math.max(top, y[i]);
  }
  return {
    middle: [(left + right) / 2, (bottom + top) / 2],
    width: Math.max(right - left, 1e-3),
    height: Math.max(top - bottom, 1e-3),
  };
}

/** The rows within a closed line. */
export function rowsWithin({ x, y }: Places, line: readonly (readonly [number, number])[]): number[] {
  const rows: number[] = [];
  for (let row = 0; row < x.length; row++) {
    let inside = false;
    for (let i = 0, j = line.length - 1; i < line.length; j = i++) {
      const [[ax, ay], [bx, by]] = [line[i], line[j]];
      if (ay > y[row] !== by > y[row] && x[row] < ((bx - ax) * (y[row] - ay)) / (by - ay) + ax)
        inside = !inside;
    }
    if (inside) rows.push(row);
  }
  return rows;
}

/** The nearest row in a direction, within 45 degrees of it; undefined at the rim. */
export function rowTowards(
  { x, y }: Places,
  from: number,
  [dx, dy]: readonly [number, number],
): number | undefined {
  let [nearest, least]: [number | undefined, number] = [undefined, Infinity];
  for (let row = 0; row < x.length; row++) {
    const [u, v] = [x[row] - x[from], y[row] - y[from]];
    const along = u * dx + v * dy;
    const distance = Math.hypot(u, v);
    if (distance > 0 && along >= distance * Math.SQRT1_2 && distance < least)
      [nearest, least] = [row, distance];
  }
  return nearest;
}
