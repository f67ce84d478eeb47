import { LRUCache } from 'lru-cache';

import type { Inference, InferenceOptions, InferenceStats } from './inference.js';

/** Longer texts are seldom asked for twice, and would each take the room of many. */
const MOST_CHARACTERS = 2_000;
/** Of an entry beside its text and its numbers, about. */
const ENTRY_BYTES = 200;

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
  const vectors = new LRUCache<string, Float32Array>({
    maxSize: bytes,
    sizeCalculation: (vector, key) => vector.byteLength + 2 * key.length + ENTRY_BYTES,
  });
  let hits = 0;
  let misses = 0;

  const encode = async (texts: readonly string[], options: InferenceOptions = {}): Promise<Float32Array> => {
    if (options.priority === 'bulk' || options.probe) return inference.encode(texts, options);
    options.signal?.throwIfAborted();
    const keyOf = (text: string): string => `${options.normalize ?? ''} ${text}`;
    const found = texts.map((text) => vectors.get(keyOf(text)));
    const unknown = [...new Set(texts.filter((_, i) => !found[i]))];
    hits += found.filter(Boolean).length;
    misses += unknown.length;
    const rows = new Float32Array(texts.length * d);
    const rowOf = new Map(unknown.map((text, i) => [text, i * d]));
    const made = unknown.length > 0 ? await inference.encode(unknown, options) : rows;
    texts.forEach((text, i) => {
      const from = rowOf.get(text);
      const vector = from === undefined ? found[i]! : made.subarray(from, from + d);
      rows.set(vector, i * d);
    });
    for (const [text, from] of rowOf)
      // A copy: of a part of a large buffer the whole would stay.
      if (text.length <= MOST_CHARACTERS) vectors.set(keyOf(text), made.slice(from, from + d));
    return rows;
  };

  return {
    ...{ name: inference.name, dimensions: d, maxTokens: inference.maxTokens },
    ...{ folder: inference.folder, pooling: inference.pooling },
    ...{ fingerprint: inference.fingerprint, precision: inference.precision },
    get cosineToFp32() {
      return inference.cosineToFp32;
    },
    encode,
    tokenize: (texts) => inference.tokenize(texts),
    countTokens: (texts, options) => inference.countTokens(texts, options),
    stats: (): InferenceStats => ({
      ...inference.stats(),
      cache: { hits, misses, vectors: vectors.size, bytes: vectors.calculatedSize },
    }),
    forget: () => vectors.clear(),
    close: () => inference.close(),
  };
}
