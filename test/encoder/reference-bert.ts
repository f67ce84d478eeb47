import type { BertConfig } from '../../encoder/bert.js';
import type { Tensor } from '../../encoder/safetensors.js';

/**
 * BERT (Devlin et al. 2018) for one sequence, written for reading: plain loops over numbers, 64-bit, no
 * batch and no padding. What the graphs must compute.
 *
 * @returns the last hidden states, a row a token
 */
export function referenceBert(
  config: BertConfig,
  weights: ReadonlyMap<string, Tensor>,
  ids: ArrayLike<number>,
): number[][] {
  const data = (name: string): Float32Array => weights.get(name)!.data;
  const { hiddenSize, heads } = config;
  const headSize = hiddenSize / heads;

  const linear = (x: number[][], name: string): number[][] => {
    const weight = data(`${name}.weight`);
    return x.map((row) =>
      Array.from(data(`${name}.bias`), (bias, out) =>
        row.reduce((sum, value, i) => sum + value * weight[out * row.length + i], bias),
      ),
    );
  };
  const layerNorm = (x: number[][], name: string): number[][] =>
    x.map((row) => {
      const mean = row.reduce((a, b) => a + b) / row.length;
      const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / row.length;
      const scale = data(`${name}.weight`);
      const shift = data(`${name}.bias`);
      return row.map(
        (value, i) => ((value - mean) / Math.sqrt(variance + config.layerNormEps)) * scale[i] + shift[i],
      );
    });
  const add = (x: number[][], y: number[][]): number[][] =>
    x.map((row, t) => row.map((value, i) => value + y[t][i]));

  const embedding = (table: string, row: number): number[] =>
    Array.from(
      data(`embeddings.${table}_embeddings.weight`).subarray(row * hiddenSize, (row + 1) * hiddenSize),
    );
  let x = layerNorm(
    Array.from({ length: ids.length }, (_, t) => {
      const [word, position, type] = [
        embedding('word', ids[t]),
        embedding('position', t),
        embedding('token_type', 0),
      ];
      return word.map((value, i) => value + position[i] + type[i]);
    }),
    'embeddings.LayerNorm',
  );

  for (let layer = 0; layer < config.layers; layer++) {
    const at = `encoder.layer.${layer}`;
    const [query, key, value] = ['query', 'key', 'value'].map((part) =>
      linear(x, `${at}.attention.self.${part}`),
    );
    const context = x.map(() => new Array<number>(hiddenSize).fill(0));
    for (let head = 0; head < heads; head++) {
      const columns = Array.from({ length: headSize }, (_, i) => head * headSize + i);
      for (let t = 0; t < x.length; t++) {
        const scores = key.map(
          (k) => columns.reduce((sum, c) => sum + query[t][c] * k[c], 0) / Math.sqrt(headSize),
        );
        const largest = Math.max(...scores);
        const exponentials = scores.map((score) => Math.exp(score - largest));
        const total = exponentials.reduce((a, b) => a + b);
        for (const c of columns)
          context[t][c] = exponentials.reduce((sum, e, s) => sum + (e / total) * value[s][c], 0);
      }
    }
    x = layerNorm(
      add(linear(context, `${at}.attention.output.dense`), x),
      `${at}.attention.output.LayerNorm`,
    );
    const inner = linear(x, `${at}.intermediate.dense`).map((row) =>
      row.map((value) => 0.5 * value * (1 + erf(value / Math.SQRT2))),
    );
    x = layerNorm(add(linear(inner, `${at}.output.dense`), x), `${at}.output.LayerNorm`);
  }
  return x;
}

/** The error function by its Maclaurin series (Abramowitz and Stegun 7.1.6), to 1e-12 for |x| < 4. */
export function erf(x: number): number {
  if (Math.abs(x) > 5) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum) && n < 200; n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

export function meanOf(rows: number[][]): number[] {
  return rows[0].map((_, i) => rows.reduce((sum, row) => sum + row[i], 0) / rows.length);
}

export function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    ab += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return ab / Math.sqrt(aa * bb);
}
