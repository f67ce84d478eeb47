import type { TokenSession } from '../../encoder/session.js';

/** Every text's vector [d] of batches that go through a session one after the other; the session is closed. */
export async function vectorsFrom(
  session: TokenSession,
  batches: readonly Int32Array[][],
  d: number,
): Promise<Float32Array[]> {
  try {
    const rows: Float32Array[] = [];
    for (const batch of batches) {
      const vectors = await session.encodeTokens(batch);
      for (let i = 0; i < batch.length; i++) rows.push(vectors.slice(i * d, (i + 1) * d));
    }
    return rows;
  } finally {
    await session.close();
  }
}

export function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  return Array.from(a).reduce((largest, value, i) => Math.max(largest, Math.abs(value - b[i])), 0);
}
