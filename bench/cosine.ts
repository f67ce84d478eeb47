/** Cosines of the rows of `a` to those of `b`, both n x d. NaN anywhere makes both NaN. */
export function leastAndMeanCosine(
  a: Float32Array,
  b: Float32Array,
  n: number,
): { least: number; mean: number } {
  const d = a.length / n;
  let [least, sum] = [Infinity, 0];
  for (let row = 0; row < n; row++) {
    let [dot, aa, bb] = [0, 0, 0];
    for (let j = row * d; j < (row + 1) * d; j++) {
      dot += a[j] * b[j];
      aa += a[j] * a[j];
      bb += b[j] * b[j];
    }
    const cosine = dot / Math.sqrt(aa * bb);
    least = Math.min(least, cosine);
    sum += cosine;
  }
  return { least, mean: sum / n };
}
