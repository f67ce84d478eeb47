/**
 * Eigenvalues of a symmetric matrix, in rising order: Householder's reduction to tridiagonal form, then
 * implicit QL (Martin, Reinsch and Wilkinson 1968; Dubrulle 1970). About 4/3 n^3 operations.
 *
 * @param matrix n x n, row-major; only the lower triangle is read, and it is overwritten
 */
export function symmetricEigenvalues(matrix: Float64Array, n: number): Float64Array {
  const { diagonal, offDiagonal } = tridiagonalize(matrix, n);
  return tridiagonalEigenvalues(diagonal, offDiagonal);
}

/** @returns the diagonal [n], and beside it offDiagonal[i] = T[i][i - 1], i = 1 .. n - 1 */
function tridiagonalize(a: Float64Array, n: number): { diagonal: Float64Array; offDiagonal: Float64Array } {
  const diagonal = new Float64Array(n);
  const offDiagonal = new Float64Array(n);
  const p = new Float64Array(n);
  for (let i = n - 1; i >= 1; i--) {
    // The reflector u makes row i zero left of its off-diagonal: A <- A - u q' - q u' with q = p - (u'p / 2h) u, p = A u / h.
    const u = a.subarray(i * n, i * n + i);
    diagonal[i] = a[i * n + i];
    let scale = 0;
    for (let j = 0; j < i; j++) scale += Math.abs(u[j]);
    if (i === 1 || scale === 0) {
      offDiagonal[i] = u[i - 1];
      continue;
    }
    let squares = 0;
    for (let j = 0; j < i; j++) {
      u[j] /= scale;
      squares += u[j] * u[j];
    }
    const length = u[i - 1] >= 0 ? -Math.sqrt(squares) : Math.sqrt(squares);
    offDiagonal[i] = scale * length;
    const h = squares - u[i - 1] * length;
    u[i - 1] -= length;

    p.fill(0, 0, i);
    for (let j = 0; j < i; j++) {
      const row = a.subarray(j * n, j * n + j + 1);
      const uj = u[j];
      let sum = row[j] * uj;
      for (let k = 0; k < j; k++) {
        sum += row[k] * u[k];
        p[k] += row[k] * uj;
      }
      p[j] += sum;
    }
    let up = 0;
    for (let j = 0; j < i; j++) {
      p[j] /= h;
      up += u[j] * p[j];
    }
    const shift = up / (2 * h);
    for (let j = 0; j < i; j++) p[j] -= shift * u[j];
    for (let j = 0; j < i; j++) {
      const row = a.subarray(j * n, j * n + j + 1);
      const uj = u[j];
      const qj = p[j];
      for (let k = 0; k <= j; k++) row[k] -= uj * p[k] + qj * u[k];
    }
  }
  diagonal[0] = a[0];
  return { diagonal, offDiagonal };
}

function tridiagonalEigenvalues(d: Float64Array, offDiagonal: Float64Array): Float64Array {
  const n = d.length;
  // Shifted so that e[i] couples i and i + 1.
  const e = new Float64Array(n);
  e.set(offDiagonal.subarray(1));
  for (let l = 0; l < n; l++) {
    for (;;) {
      let m = l;
      while (m < n - 1 && Math.abs(e[m]) > Number.EPSILON * (Math.abs(d[m]) + Math.abs(d[m + 1]))) m++;
      if (m === l) break;
      let g = (d[l + 1] - d[l]) / (2 * e[l]);
      let r = Math.hypot(g, 1);
      g = d[m] - d[l] + e[l] / (g + (g >= 0 ? r : -r));
      let s = 1;
      let c = 1;
      let p = 0;
      let i = m - 1;
      for (; i >= l; i--) {
        const f = s * e[i];
        const b = c * e[i];
        r = Math.hypot(f, g);
        e[i + 1] = r;
        if (r === 0) {
          d[i + 1] -= p;
          e[m] = 0;
          break;
        }
        s = f / r;
        c = g / r;
        g = d[i + 1] - p;
        r = (d[i] - g) * s + 2 * c * b;
        p = s * r;
        d[i + 1] = g + p;
        g = c * r - b;
      }
      if (i >= l) continue;
      d[l] -= p;
      e[l] = g;
      e[m] = 0;
    }
  }
  return d.sort();
}
