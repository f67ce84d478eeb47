/** Step and value. */
export type Point = [number, number];

/** Mean over the neighbours: `window` points, fewer at the ends. Centred, so that nothing is shown late. */
export function smooth(points: readonly Point[], window: number): Point[] {
  const sums = [0];
  for (const [, value] of points) sums.push(sums[sums.length - 1] + value);
  const reach = Math.floor(window / 2);
  return points.map(([step], i) => {
    const from = Math.max(0, i - reach);
    const to = Math.min(points.length, i + reach + 1);
    return [step, (sums[to] - sums[from]) / (to - from)];
  });
}

/** At most `limit` points that keep every spike: the lowest and highest of equal stretches, in their order. */
export function envelope(points: readonly Point[], limit: number): Point[] {
  if (points.length <= limit) return [...points];
  const stretches = Math.floor(limit / 2);
  return Array.from({ length: stretches }, (_, i) => {
    const stretch = points.slice(
      Math.floor((i * points.length) / stretches),
      Math.floor(((i + 1) * points.length) / stretches),
    );
    const lowest = stretch.reduce((a, b) => (b[1] < a[1] ? b : a));
    const highest = stretch.reduce((a, b) => (b[1] > a[1] ? b : a));
    return lowest === highest ? [lowest] : [lowest, highest].sort((a, b) => a[0] - b[0]);
  }).flat();
}
