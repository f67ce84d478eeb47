import { LRUCache } from 'lru-cache';

import type { Encoded, Inference, InferenceOptions, InferenceStats } from './inference.js';

/** Longer texts are seldom asked for twice, and would each take the room of many. */
const MOST_CHARACTERS = 2_000;
/** Of an entry beside its text and its numbers, about. */
const ENTRY_BYTES = 200;

interface Entry {
  vector: Float32Array;
  /** Tokens of its text. */
  length: number;
}

/**
 * An Inference that remembers vectors: what is asked for again, as a search box does with every key, is not computed
 * again. What was used longest ago goes first. Bulk work passes by: a collection that is embedded would push out all that
 * people ask for.
 *
 * @param bytes of memory, about; 0 remembers nothing
 */
export function cachedInference(inference: Inference, bytes: number): Inference {
  if (bytes === 0) return inference;
  const d = inference.dimensions;
  const entries = new LRUCache<string, Entry>({
    maxSize: bytes,
    sizeCalculation: ({ vector }, key) => vector.byteLength + 2 * key.length + ENTRY_BYTES,
  });
  let hits = 0;
  let misses = 0;

  const encodeWithLengths = async (
    texts: readonly string[],
    options: InferenceOptions = {},
  ): Promise<Encoded> => {
    if (options.priority === 'bulk' || options.probe) return inference.encodeWithLengths(texts, options);
    options.signal?.throwIfAborted();
    const keyOf = (text: string): string => `${options.normalize ?? ''} ${text}`;
    const found = texts.map((text) => entries.get(keyOf(text)));
    const unknown = [...new Set(texts.filter((_, i) => !found[i]))];
    hits += found.filter(Boolean).length;
    misses += unknown.length;
    const made = new Map<string, Entry>();
    if (unknown.length > 0) {
      const { vectors, lengths } = await inference.encodeWithLengths(unknown, options);
      unknown.forEach((text, i) =>
        made.set(text, { vector: vectors.subarray(i * d, (i + 1) * d), length: lengths[i] }),
      );
    }
    const vectors = new Float32Array(texts.length * d);
    const lengths = new Uint32Array(texts.length);
    texts.forEach((text, i) => {
      const { vector, length } = found[i] ?? made.get(text)!;
      vectors.set(vector, i * d);
      lengths[i] = length;
    });
    for (const [text, { vector, length }] of made)
      // A copy: of a part of a large buffer the whole would stay.
      if (text.length <= MOST_CHARACTERS) entries.set(keyOf(text), { vector: vector.slice(), length });
    return { vectors, lengths };
  };

  return {
    ...{ name: inference.name, dimensions: d, maxTokens: inference.maxTokens },
    ...{ folder: inference.folder, pooling: inference.pooling },
    ...{ fingerprint: inference.fingerprint, precision: inference.precision, backend: inference.backend },
    get cosineToFp32() {
      return inference.cosineToFp32;
    },
    encode: async (texts, options) => (await encodeWithLengths(texts, options)).vectors,
    encodeWithLengths,
    tokenize: (texts, options) => inference.tokenize(texts, options),
    countTokens: (texts, options) => inference.countTokens(texts, options),
    stats: (): InferenceStats => ({
      ...inference.stats(),
      cache: { hits, misses, vectors: entries.size, bytes: entries.calculatedSize },
    }),
    forget: () => entries.clear(),
    close: () => inference.close(),
  };
}
