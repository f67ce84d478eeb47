import { Tensor } from 'onnxruntime-node';

import { shareOf, type PackedPrecision } from './onnx/packed-graph.js';
import { finish, inference, openSession, type SessionOptions, type TokenSession } from './session.js';

export interface PackedSessionOptions extends SessionOptions {
  heads: number;
  precision: PackedPrecision;
}

/**
 * Hides a place without a token. The place has the text's first token, whose score is at most the largest, so that it
 * counts exp(-40) = 4e-18 of that at most, which vanishes in fp32. A number so low that exp of it is denormal would make
 * processors slow: a sixth of the time in int8.
 */
const HIDDEN = -40;

/** Places in a text's row are a multiple of this: the lanes of a processor's vector. */
const LANES = 8;

/**
 * A graph of onnx/packed-graph.ts in memory. Texts of any length share a batch, and none of it is padding but in attention.
 * In int8, texts whose rows are not as wide are computed apart: a text's vector then is the same, bit for bit, alone and
 * in any batch.
 *
 * @param graph an .onnx file, or its bytes
 * @throws UserError `corrupt` when it can't be loaded
 */
export async function openPackedSession(
  graph: string | Uint8Array,
  options: PackedSessionOptions,
): Promise<TokenSession> {
  const session = await openSession(graph, options.threads);
  const { hiddenSize, precision } = options;
  const run = async (sequences: readonly Int32Array[]): Promise<Float32Array> => {
    const { pooled } = await session.run(feeds(sequences, options), ['pooled']);
    return pooled.data as Float32Array;
  };
  return {
    encodeTokens: (sequences, normalize) =>
      inference(async () => {
        const groups = precision === 'int8' ? byWidth(sequences) : [sequences.map((_, i) => i)];
        const pooled = new Float32Array(sequences.length * hiddenSize);
        for (const group of groups) {
          const rows = await run(group.map((i) => sequences[i]));
          group.forEach((i, at) =>
            pooled.set(rows.subarray(at * hiddenSize, (at + 1) * hiddenSize), i * hiddenSize),
          );
        }
        return finish(pooled, options, normalize);
      }),
    close: () => session.release(),
  };
}

function widthOf(length: number): number {
  return LANES * Math.ceil(length / LANES);
}

/** Places of sequences whose rows are equally wide. */
function byWidth(sequences: readonly Int32Array[]): number[][] {
  const groups = new Map<number, number[]>();
  sequences.forEach(({ length }, i) => {
    const width = widthOf(length);
    const group = groups.get(width);
    if (group) group.push(i);
    else groups.set(width, [i]);
  });
  return [...groups.values()];
}

function feeds(
  sequences: readonly Int32Array[],
  { heads, pooling }: Pick<PackedSessionOptions, 'heads' | 'pooling'>,
): Record<string, Tensor> {
  const texts = sequences.length;
  const lengths = sequences.map(({ length }) => length);
  const tokens = lengths.reduce((sum, length) => sum + length, 0);
  const width = widthOf(Math.max(...lengths));
  const ids = new Int32Array(tokens);
  const positions = new Int32Array(tokens);
  const places = new Int32Array(texts * width);
  const query = new Int32Array(texts * heads * width);
  const context = new Int32Array(tokens * heads);
  const mask = new Float32Array(texts * width).fill(HIDDEN);
  const shares = new Float32Array(texts * width);
  let first = 0;
  sequences.forEach((sequence, text) => {
    ids.set(sequence, first);
    for (let place = 0; place < width; place++) {
      const real = place < sequence.length;
      const row = real ? first + place : first;
      const at = text * width + place;
      places[at] = row;
      if (real) {
        positions[row] = place;
        mask[at] = 0;
        shares[at] = shareOf(pooling, place, sequence.length);
      }
      for (let head = 0; head < heads; head++) {
        const piece = (text * heads + head) * width + place;
        query[piece] = row * 3 * heads + head;
        if (real) context[row * heads + head] = piece;
      }
    }
    first += sequence.length;
  });
  return {
    ids: new Tensor('int32', ids, [tokens]),
    positions: new Tensor('int32', positions, [tokens]),
    places: new Tensor('int32', places, [texts, width]),
    query: new Tensor('int32', query, [texts, heads, width]),
    context: new Tensor('int32', context, [tokens, heads]),
    mask: new Tensor('float32', mask, [texts, 1, 1, width]),
    shares: new Tensor('float32', shares, [texts, 1, width]),
  };
}
