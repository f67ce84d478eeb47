/** VICReg in loops over doubles, as its definition reads: what TensorFlow's terms and gradients are held against. */
type Matrix = number[][];

const mean = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
const column = (z: Matrix, j: number): number[] => z.map((row) => row[j]);

function covariance(z: Matrix, i: number, j: number): number {
  const [a, b] = [column(z, i), column(z, j)];
  const [meanA, meanB] = [mean(a), mean(b)];
  return a.reduce((sum, value, k) => sum + (value - meanA) * (b[k] - meanB), 0) / (z.length - 1);
}

export function invarianceTerm(z: Matrix, other: Matrix): number {
  return mean(z.map((row, i) => mean(row.map((value, j) => (value - other[i][j]) ** 2))));
}

export function varianceTerm(z: Matrix): number {
  return mean(z[0].map((_, j) => Math.max(0, 1 - Math.sqrt(covariance(z, j, j) + 1e-4))));
}

export function covarianceTerm(z: Matrix): number {
  let sum = 0;
  for (let i = 0; i < z[0].length; i++)
    for (let j = 0; j < z[0].length; j++) if (i !== j) sum += covariance(z, i, j) ** 2;
  return sum / z[0].length;
}

/** Central differences, row-major. */
export function numericalGradient(of: (z: Matrix) => number, z: Matrix): number[] {
  const step = 1e-5;
  return z.flatMap((row, i) =>
    row.map((value, j) => {
      const at = (moved: number): number =>
        of(z.map((r, k) => (k === i ? r.map((v, l) => (l === j ? moved : v)) : r)));
      return (at(value + step) - at(value - step)) / (2 * step);
    }),
  );
}
