import { version } from '../../base/paths.js';
import type { BertConfig } from '../bert.js';
import type { Pooling } from '../model-folder.js';
import { bytesOf, type Tensor } from '../safetensors.js';
import { bertParts, sideBySide } from './bert-parts.js';
import { Graph } from './graph.js';
import { quantizeColumns } from './quantize.js';

/** `int8`: weights in 7 bits with a scale for each column, activations in 8 bits with a scale for each token. */
export type PackedPrecision = 'fp32' | 'int8';

/** What 8 bits of an activation stand for as unsigned numbers: zero is in the middle. */
const ZERO = 128;
const LARGEST = 127;

/**
 * BERT as this program runs it: tokens of all texts one behind the other, so that no padding goes through a dense layer,
 * and pooling inside. Only attention sees a text as a row of `width` places. Inputs, int32 but for the last two:
 *
 * - ids, positions [tokens]: each token, and its place in its text
 * - places [texts, width]: the row of the token at each place; the text's first where it has none
 * - query [texts, heads, width]: of the packed queries, keys and values [tokens, 3, heads, size of a head], the piece that
 *   is the query of each head and place
 * - context [tokens, heads]: of the attention's outputs [texts, heads, width, size of a head], a token's pieces
 * - mask [texts, 1, 1, width], float: 0 for a token, a negative number for none
 * - shares [texts, 1, width], float: what each place counts in the mean; for `cls` 1 for the first
 *
 * Output: `pooled`, float [texts, hidden].
 *
 * With `int8` a text's vector depends on nothing but its tokens and the width, to the last bit: sums of products are
 * integers, scales are those of a token's own row, and everything else is computed row by row.
 *
 * @param weights under the names of bertTensors
 * @returns the file's bytes in chunks
 */
export function packedGraph(
  config: BertConfig,
  weights: ReadonlyMap<string, Tensor>,
  precision: PackedPrecision,
): Uint8Array[] {
  const { hiddenSize, heads } = config;
  const size = hiddenSize / heads;
  const graph = new Graph('packed-bert');
  const { weight, norm, wordRows } = bertParts(graph, config, weights);

  /** Dense layers that read the same input, side by side: [tokens, in] -> [tokens, sum of out]. */
  const dense = (name: string, parts: string[], input: string, activation?: 'gelu'): string => {
    const { columns, bias } = sideBySide(
      parts.map((part) => [weight(`${part}.weight`), weight(`${part}.bias`)]),
    );
    const biases = graph.tensor(`${name}.bias`, 'float', bias.shape, bytesOf(bias.data));
    const product =
      precision === 'fp32' ? floatProduct(name, columns, input) : product8(name, columns, input);
    if (activation) return graph.node('com.microsoft.BiasGelu', `${name}.gelu`, [product, biases]);
    return graph.node('Add', name, [product, biases]);
  };
  const floatProduct = (name: string, columns: Tensor, input: string): string =>
    graph.node('MatMul', `${name}.product`, [
      input,
      graph.tensor(`${name}.weight`, 'float', columns.shape, bytesOf(columns.data)),
    ]);
  const product8 = (name: string, columns: Tensor, input: string): string => {
    const { values, scales } = quantizeColumns(columns);
    const matrix = graph.tensor(`${name}.weight`, 'int8', columns.shape, bytesOf(values));
    const columnScales = graph.tensor(`${name}.scale`, 'float', [scales.length], bytesOf(scales));
    const largest = graph.node('Max', `${name}.largest`, [
      graph.node('ReduceMax', `${name}.input.largest`, [graph.node('Abs', `${name}.input.abs`, [input])], {
        axes: { ints: [1] },
      }),
      graph.floats(1e-20),
    ]);
    const scaled = graph.node('Mul', `${name}.input.scaled`, [
      input,
      graph.node('Div', `${name}.input.inverse`, [graph.floats(LARGEST), largest]),
    ]);
    const integers = graph.node('QuantizeLinear', `${name}.input.integers`, [
      ...[scaled, graph.floats(1), graph.uint8(ZERO)],
    ]);
    const product = graph.node('com.microsoft.MatMulIntegerToFloat', `${name}.integers`, [
      ...[integers, matrix, graph.floats(1 / LARGEST), columnScales, graph.uint8(ZERO)],
    ]);
    // ONNX Runtime has one scale for all of an input: that of each row comes after.
    return graph.node('Mul', `${name}.product`, [product, largest]);
  };

  const ids = graph.input('ids', 'int32', ['tokens']);
  const positions = graph.input('positions', 'int32', ['tokens']);
  const places = graph.input('places', 'int32', ['texts', 'width']);
  const query = graph.input('query', 'int32', ['texts', heads, 'width']);
  const context = graph.input('context', 'int32', ['tokens', heads]);
  const mask = graph.input('mask', 'float', ['texts', 1, 1, 'width']);
  const shares = graph.input('shares', 'float', ['texts', 1, 'width']);

  // A text's tokens are all of the first type: its embedding is part of every position's.
  const type = weight('embeddings.token_type_embeddings.weight').data.subarray(0, hiddenSize);
  const table = weight('embeddings.position_embeddings.weight');
  const positionRows = graph.tensor(
    'embeddings.position_and_type',
    'float',
    table.shape,
    bytesOf(table.data.map((value, i) => value + type[i % hiddenSize])),
  );
  let hidden = norm(
    'embeddings.LayerNorm',
    graph.node('Add', 'embeddings.sum', [
      wordRows(ids, precision === 'int8'),
      graph.node('Gather', 'embeddings.positions', [positionRows, positions]),
    ]),
  );
  const pieceOf = [
    query,
    ...['key', 'value'].map((part, i) => graph.node('Add', part, [query, graph.int32((i + 1) * heads)])),
  ];
  const asPieces = (name: string, input: string): string =>
    graph.node('Reshape', name, [input, graph.ints([-1, size])]);

  for (let layer = 0; layer < config.layers; layer++) {
    const at = `encoder.layer.${layer}`;
    const self = `${at}.attention.self`;
    const parts = ['query', 'key', 'value'].map((part) => `${self}.${part}`);
    const pieces = asPieces(`${self}.pieces`, dense(`${self}.qkv`, parts, hidden));
    // One gather pads and transposes.
    const [queries, keys, values] = parts.map((part, i) => graph.node('Gather', part, [pieces, pieceOf[i]]));
    const scores = graph.node('com.microsoft.FusedMatMul', `${self}.scores`, [queries, keys], {
      transB: { int: 1 },
      alpha: { float: 1 / Math.sqrt(size) },
    });
    const attention = graph.node(
      'Softmax',
      `${self}.probabilities`,
      [graph.node('Add', `${self}.masked`, [scores, mask])],
      { axis: { int: -1 } },
    );
    const mixed = asPieces(`${self}.mixed`, graph.node('MatMul', `${self}.mix`, [attention, values]));
    const attended = graph.node('Reshape', `${self}.context`, [
      graph.node('Gather', `${self}.context.pieces`, [mixed, context]),
      graph.ints([-1, hiddenSize]),
    ]);
    const residual = (name: string, output: string): string =>
      norm(`${name}.LayerNorm`, graph.node('Add', `${name}.residual`, [output, hidden]));
    const projection = `${at}.attention.output.dense`;
    hidden = residual(`${at}.attention.output`, dense(projection, [projection], attended));
    const [up, down] = ['intermediate', 'output'].map((half) => `${at}.${half}.dense`);
    hidden = residual(`${at}.output`, dense(down, [down], dense(up, [up], hidden, 'gelu')));
  }
  const rows = graph.node('Gather', 'rows', [hidden, places]);
  graph.node('Squeeze', 'pooled', [graph.node('MatMul', 'pooled.row', [shares, rows]), graph.ints([1])]);
  graph.output('pooled', 'float', ['texts', hiddenSize]);
  return graph.encode(version);
}

/** What a place counts in a pooled vector. */
export function shareOf(pooling: Pooling, place: number, length: number): number {
  if (pooling === 'cls') return place === 0 ? 1 : 0;
  return place < length ? 1 / length : 0;
}
