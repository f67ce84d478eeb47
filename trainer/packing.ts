import type { PackedBatch } from './types.js';

/** Lays n token sequences end to end. */
export function pack(sequences: readonly Int32Array[]): PackedBatch {
  const offsets = new Int32Array(sequences.length + 1);
  sequences.forEach((sequence, i) => (offsets[i + 1] = offsets[i] + sequence.length));
  const ids = new Int32Array(offsets[sequences.length]);
  sequences.forEach((sequence, i) => ids.set(sequence, offsets[i]));
  return { ids, offsets };
}

/** Batches as one, the first one's sequences first. */
export function join(...batches: readonly PackedBatch[]): PackedBatch {
  const ids = new Int32Array(batches.reduce((sum, batch) => sum + batch.ids.length, 0));
  const offsets = new Int32Array(1 + batches.reduce((sum, batch) => sum + batch.offsets.length - 1, 0));
  let row = 0;
  let sequence = 0;
  for (const batch of batches) {
    ids.set(batch.ids, row);
    for (const end of batch.offsets.subarray(1)) offsets[++sequence] = row + end;
    row += batch.ids.length;
  }
  return { ids, offsets };
}

/** Cuts a batch into parts of at most so many tokens, of one sequence at least, in order. */
export function cut({ ids, offsets }: PackedBatch, tokens: number): PackedBatch[] {
  const parts: PackedBatch[] = [];
  for (let first = 0; first < offsets.length - 1;) {
    let end = first + 1;
    while (end < offsets.length - 1 && offsets[end + 1] - offsets[first] <= tokens) end++;
    parts.push({
      ids: ids.subarray(offsets[first], offsets[end]),
      offsets: offsets.slice(first, end + 1).map((row) => row - offsets[first]),
    });
    first = end;
  }
  return parts;
}

/** Sequences that attention takes together, side by side in tiles of one width: each token sees those of its own sequence. */
export interface TileGroup {
  /** Tokens that a tile has room for. */
  width: number;
  /** Which sequences are in each. */
  tiles: number[][];
}

/** Of the narrowest tiles; the next ones are twice as wide each. */
const LEAST_WIDTH = 32;

/**
 * Lays a batch out for attention, the one part that can't work on packed rows. Each sequence, the longest first, goes to
 * the first tile that has room for it, and to a new one, no wider than it needs, where none has.
 *
 * @param offsets as in PackedBatch
 * @returns the widest first
 */
export function attentionTiles(offsets: Int32Array): TileGroup[] {
  const lengthOf = (sequence: number): number => offsets[sequence + 1] - offsets[sequence];
  const order = Array.from({ length: offsets.length - 1 }, (_, i) => i);
  order.sort((a, b) => lengthOf(b) - lengthOf(a) || a - b);
  const all: { width: number; room: number; sequences: number[] }[] = [];
  for (const sequence of order) {
    const length = lengthOf(sequence);
    let tile = all.find(({ room }) => room >= length);
    if (!tile) {
      const width = widthFor(length);
      all.push((tile = { width, room: width, sequences: [] }));
    }
    tile.sequences.push(sequence);
    tile.room -= length;
  }
  const groups = new Map<number, TileGroup>();
  for (const { width, sequences } of all) {
    if (!groups.has(width)) groups.set(width, { width, tiles: [] });
    groups.get(width)!.tiles.push(sequences);
  }
  return [...groups.values()];
}

function widthFor(length: number): number {
  return Math.max(LEAST_WIDTH, 2 ** Math.ceil(Math.log2(length)));
}

/**
 * Groups sequences into batches of nearly the same number of tokens, those together that need tiles of one width, else in the
 * order they come. Sorted by length, as padding would have it, or with a small one at the end, batches would have more shapes, and
 * each is compiled for.
 *
 * @param lengths tokens of each sequence
 * @param budget tokens of a batch at most; a sequence longer than it is a batch of its own
 * @returns the sequences' positions in `lengths`, the widest first
 */
export function batchesByWidth(lengths: ArrayLike<number>, budget: number): number[][] {
  const byWidth = new Map<number, number[]>();
  for (let i = 0; i < lengths.length; i++) {
    const width = widthFor(lengths[i]);
    const alike = byWidth.get(width);
    if (alike) alike.push(i);
    else byWidth.set(width, [i]);
  }
  const widths = [...byWidth.keys()].sort((a, b) => b - a);
  return widths.flatMap((width) => {
    const sequences = byWidth.get(width)!;
    const tokens = sequences.reduce((sum, i) => sum + lengths[i], 0);
    // One sequence may reach over the end of a batch's share.
    const share = tokens / Math.ceil(tokens / Math.max(1, budget - width));
    const batches = new Map<number, number[]>();
    let before = 0;
    for (const i of sequences) {
      const place = Math.floor(before / share);
      const batch = batches.get(place);
      if (batch) batch.push(i);
      else batches.set(place, [i]);
      before += lengths[i];
    }
    return [...batches.values()];
  });
}
