import type { BertConfig } from '../bert.js';
import { bytesOf, type Tensor } from '../safetensors.js';
import type { Graph } from './graph.js';
import { exactRows, quantizeRows } from './quantize.js';

/** What every graph of a BERT has. Methods return the name of the value that they add. */
export interface BertParts {
  /** @throws Error for a name that there is no tensor of */
  weight(name: string): Tensor;
  /** The tensor as it is. */
  float(name: string): string;
  /** Layer norm (Ba et al. 2016) with the weights of that name. */
  norm(name: string, input: string): string;
  /**
   * Word embeddings of token ids. Those that were stored in 8 bits are so in the graph: the rows are the same to the
   * bit, in a quarter of the memory.
   *
   * @param inEightBits whether others are rounded to 8 bits
   */
  wordRows(ids: string, inEightBits: boolean): string;
}

/** @param weights under the names of bertTensors */
export function bertParts(
  graph: Graph,
  { layerNormEps }: Pick<BertConfig, 'layerNormEps'>,
  weights: ReadonlyMap<string, Tensor>,
): BertParts {
  const weight = (name: string): Tensor => {
    const tensor = weights.get(name);
    if (!tensor) throw new Error(`${name}: no such tensor`);
    return tensor;
  };
  const float = (name: string): string => {
    const { shape, data } = weight(name);
    return graph.tensor(name, 'float', shape, bytesOf(data));
  };
  const norm = (name: string, input: string): string =>
    graph.node('LayerNormalization', name, [input, float(`${name}.weight`), float(`${name}.bias`)], {
      axis: { int: -1 },
      epsilon: { float: layerNormEps },
    });
  const wordRows = (ids: string, inEightBits: boolean): string => {
    const name = 'embeddings.word_embeddings';
    const table = weight(`${name}.weight`);
    const integers = inEightBits ? quantizeRows(table) : exactRows(table);
    if (!integers) return graph.node('Gather', `${name}.rows`, [float(`${name}.weight`), ids]);
    const { values, scales } = integers;
    const matrix = graph.tensor(`${name}.weight`, 'int8', table.shape, bytesOf(values));
    const scale = graph.tensor(`${name}.scale`, 'float', [scales.length, 1], bytesOf(scales));
    const rows = graph.node('Gather', `${name}.integers`, [matrix, ids]);
    return graph.node('Mul', `${name}.rows`, [
      graph.node('Cast', `${name}.cast`, [rows], { to: { int: 1 } }),
      graph.node('Gather', `${name}.scales`, [scale, ids]),
    ]);
  };
  return { weight, float, norm, wordRows };
}

/** Weights [out, in] -> one matrix [in, sum of out], as MatMul reads it, and the biases end to end. */
export function sideBySide(parts: [weight: Tensor, bias: Tensor][]): { columns: Tensor; bias: Tensor } {
  const inner = parts[0][0].shape[1];
  const outer = parts.reduce((sum, [weight]) => sum + weight.shape[0], 0);
  const columns = new Float32Array(inner * outer);
  const bias = new Float32Array(outer);
  let first = 0;
  for (const [weight, partBias] of parts) {
    const out = weight.shape[0];
    for (let i = 0; i < inner; i++)
      for (let o = 0; o < out; o++) columns[i * outer + first + o] = weight.data[o * inner + i];
    bias.set(partBias.data, first);
    first += out;
  }
  return { columns: { shape: [inner, outer], data: columns }, bias: { shape: [outer], data: bias } };
}
