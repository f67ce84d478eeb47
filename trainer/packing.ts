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

/** Sequences of like length that attention takes together, padded to the longest. */
export interface AttentionBlock {
  /** Which sequences, by falling length. */
  sequences: number[];
  /** Tokens of the longest. */
  width: number;
}

/** A block's longest sequence is at most this much longer than its shortest. */
const STRETCH = 1.5;

/**
 * Cuts a batch into blocks for attention, the one part that can't work on packed rows.
 *
 * @param offsets as in PackedBatch
 */
export function attentionBlocks(offsets: Int32Array): AttentionBlock[] {
  const lengthOf = (sequence: number): number => offsets[sequence + 1] - offsets[sequence];
  const order = Array.from({ length: offsets.length - 1 }, (_, i) => i);
  order.sort((a, b) => lengthOf(b) - lengthOf(a) || a - b);
  const blocks: AttentionBlock[] = [];
  for (const sequence of order) {
    const block = blocks.at(-1);
    if (block && block.width <= STRETCH * lengthOf(sequence)) block.sequences.push(sequence);
    else blocks.push({ sequences: [sequence], width: lengthOf(sequence) });
  }
  return blocks;
}
