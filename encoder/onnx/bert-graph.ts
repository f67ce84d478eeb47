import { version } from '../../base/paths.js';
import type { BertConfig } from '../bert.js';
import { denseDimensions } from '../dense.js';
import type { EncoderSettings } from '../model-folder.js';
import { bytesOf, type Tensor } from '../safetensors.js';
import { bertParts, sideBySide } from './bert-parts.js';
import { Graph } from './graph.js';
import { quantizeColumns } from './quantize.js';

/** Those of the graphs in a model folder. */
export type GraphPrecision = 'fp32' | 'quantized';

/** What makes a text's vector of its hidden states. */
export type Head = Pick<EncoderSettings, 'pooling' | 'dense' | 'normalize'>;

/**
 * BERT as an ONNX graph of standard operators (operator set 17):
 * input_ids, attention_mask, token_type_ids, int64 [batch, sequence] -> last_hidden_state, float
 * [batch, sequence, hidden]; with a head also -> sentence_embedding, float [batch, dimensions].
 *
 * Word embeddings that were stored in 8 bits are so in `fp32` too: the rows are the same to the bit, in a quarter of
 * the memory. `quantized` has 8-bit word embeddings and weights; activations are quantized when it runs, with one scale
 * for the whole batch (DynamicQuantizeLinear), so a text's vector then moves a little with its batch-mates.
 *
 * @param weights under the names of bertTensors
 * @returns the file's bytes in chunks
 */
export function bertGraph(
  config: BertConfig,
  weights: ReadonlyMap<string, Tensor>,
  precision: GraphPrecision,
  head?: Head,
): Uint8Array[] {
  const { hiddenSize, heads } = config;
  const graph = new Graph('bert');
  const { weight, float, norm, wordRows } = bertParts(graph, config, weights);

  /** Dense layers that read the same input, laid side by side in one product: [.., in] -> [.., sum of out]. */
  const dense = (name: string, parts: string[], input: string): string => {
    const { columns, bias } = sideBySide(
      parts.map((part) => [weight(`${part}.weight`), weight(`${part}.bias`)]),
    );
    const biasName = graph.tensor(`${name}.bias`, 'float', bias.shape, bytesOf(bias.data));
    let product: string;
    if (precision === 'fp32') {
      const matrix = graph.tensor(`${name}.weight`, 'float', columns.shape, bytesOf(columns.data));
      product = graph.node('MatMul', `${name}.product`, [input, matrix]);
    } else {
      const { values, scales } = quantizeColumns(columns);
      const matrix = graph.tensor(`${name}.weight`, 'int8', columns.shape, bytesOf(values));
      const matrixScale = graph.tensor(`${name}.scale`, 'float', [scales.length], bytesOf(scales));
      const [integers, scale, zero] = graph.nodeWith(
        'DynamicQuantizeLinear',
        `${name}.input`,
        [input],
        ['values', 'scale', 'zero'].map((part) => `${name}.input.${part}`),
      );
      const sums = graph.node('MatMulInteger', `${name}.sums`, [integers, matrix, zero]);
      product = graph.node('Mul', `${name}.product`, [
        graph.node('Cast', `${name}.cast`, [sums], { to: { int: 1 } }),
        graph.node('Mul', `${name}.scales`, [scale, matrixScale]),
      ]);
    }
    return graph.node('Add', name, [product, biasName]);
  };

  const ids = graph.input('input_ids', 'int64', ['batch', 'sequence']);
  const mask = graph.input('attention_mask', 'int64', ['batch', 'sequence']);
  const types = graph.input('token_type_ids', 'int64', ['batch', 'sequence']);

  const words = wordRows(ids, precision === 'quantized');
  const length = graph.node('Gather', 'length', [graph.node('Shape', 'shape', [ids]), graph.ints([1])]);
  const positions = graph.node('Slice', 'embeddings.position_embeddings.rows', [
    float('embeddings.position_embeddings.weight'),
    graph.ints([0]),
    length,
    graph.ints([0]),
  ]);
  const typeRows = graph.node('Gather', 'embeddings.token_type_embeddings.rows', [
    float('embeddings.token_type_embeddings.weight'),
    types,
  ]);
  let hidden = norm(
    'embeddings.LayerNorm',
    graph.node('Add', 'embeddings.sum', [
      graph.node('Add', 'embeddings.words', [words, typeRows]),
      positions,
    ]),
  );

  // 0 for a token, the lowest float for padding: [batch, 1, 1, sequence], added to every row of scores.
  const present = graph.node(
    'Cast',
    'mask.float',
    [graph.node('Unsqueeze', 'mask.wide', [mask, graph.ints([1, 2])])],
    { to: { int: 1 } },
  );
  const bias = graph.node('Mul', 'mask.bias', [
    graph.node('Sub', 'mask.padding', [graph.floats(1), present]),
    graph.floats(-3.4028234663852886e38),
  ]);

  for (let layer = 0; layer < config.layers; layer++) {
    const at = `encoder.layer.${layer}`;
    const self = `${at}.attention.self`;
    const projected = dense(
      `${self}.qkv`,
      ['query', 'key', 'value'].map((part) => `${self}.${part}`),
      hidden,
    );
    const split = graph.nodeWith(
      'Split',
      `${self}.split`,
      [projected, graph.ints([hiddenSize, hiddenSize, hiddenSize])],
      ['query', 'key', 'value'].map((part) => `${self}.${part}.flat`),
      { axis: { int: -1 } },
    );
    const [query, key, value] = ['query', 'key', 'value'].map((part, i) =>
      graph.node(
        'Transpose',
        `${self}.${part}`,
        [
          graph.node('Reshape', `${self}.${part}.heads`, [
            split[i],
            graph.ints([0, 0, heads, hiddenSize / heads]),
          ]),
        ],
        { perm: { ints: part === 'key' ? [0, 2, 3, 1] : [0, 2, 1, 3] } },
      ),
    );
    const scores = graph.node('Div', `${self}.scores`, [
      graph.node('MatMul', `${self}.dots`, [query, key]),
      graph.floats(Math.sqrt(hiddenSize / heads)),
    ]);
    const attention = graph.node(
      'Softmax',
      `${self}.probabilities`,
      [graph.node('Add', `${self}.masked`, [scores, bias])],
      { axis: { int: -1 } },
    );
    const context = graph.node('Reshape', `${self}.context`, [
      graph.node(
        'Transpose',
        `${self}.context.heads`,
        [graph.node('MatMul', `${self}.mix`, [attention, value])],
        {
          perm: { ints: [0, 2, 1, 3] },
        },
      ),
      graph.ints([0, 0, hiddenSize]),
    ]);
    const residual = (name: string, output: string): string =>
      norm(`${name}.LayerNorm`, graph.node('Add', `${name}.residual`, [output, hidden]));
    hidden = residual(
      `${at}.attention.output`,
      dense(`${at}.attention.output.dense`, [`${at}.attention.output.dense`], context),
    );
    const inner = gelu(
      graph,
      `${at}.intermediate`,
      dense(`${at}.intermediate.dense`, [`${at}.intermediate.dense`], hidden),
    );
    hidden = residual(`${at}.output`, dense(`${at}.output.dense`, [`${at}.output.dense`], inner));
  }
  graph.node('Identity', 'last_hidden_state', [hidden]);
  graph.output('last_hidden_state', 'float', ['batch', 'sequence', hiddenSize]);
  if (head) {
    addHead(graph, head, hidden, mask);
    graph.output('sentence_embedding', 'float', ['batch', denseDimensions(hiddenSize, head.dense)]);
  }
  return graph.encode(version);
}

/** Pooling, Dense layers and length 1: hidden states [batch, sequence, hidden] -> sentence_embedding [batch, d]. */
function addHead(graph: Graph, { pooling, dense, normalize }: Head, hidden: string, mask: string): void {
  const one = graph.ints([1]);
  let vector: string;
  if (pooling === 'cls')
    vector = graph.node('Gather', 'pooled', [hidden, graph.ints(0)], { axis: { int: 1 } });
  else {
    // The mean over real tokens as a product: [batch, 1, sequence] x [batch, sequence, hidden].
    const present = graph.node('Cast', 'pooled.mask', [mask], { to: { int: 1 } });
    const row = graph.node('Unsqueeze', 'pooled.row', [present, one]);
    const sums = graph.node('Squeeze', 'pooled.sums', [
      graph.node('MatMul', 'pooled.product', [row, hidden]),
      one,
    ]);
    vector = graph.node('Div', 'pooled', [sums, graph.node('ReduceSum', 'pooled.count', [present, one])]);
  }
  dense.forEach(({ weight, bias, activation }, i) => {
    const name = `dense.${i}`;
    const [out] = weight.shape;
    vector = graph.node(
      'Gemm',
      name,
      [
        vector,
        graph.tensor(`${name}.weight`, 'float', weight.shape, bytesOf(weight.data)),
        graph.tensor(`${name}.bias`, 'float', [out], bytesOf(bias ?? new Float32Array(out))),
      ],
      { transB: { int: 1 } },
    );
    if (activation === 'tanh') vector = graph.node('Tanh', `${name}.tanh`, [vector]);
  });
  if (normalize) {
    const norm = graph.node('ReduceL2', 'norm', [vector], { axes: { ints: [1] } });
    const floor = graph.node('Max', 'norm.floor', [norm, graph.floats(1e-12)]);
    vector = graph.node('Div', 'normalized', [vector, floor]);
  }
  graph.node('Identity', 'sentence_embedding', [vector]);
}

/** x (1 + erf(x / sqrt 2)) / 2 (Hendrycks and Gimpel 2016). */
function gelu(graph: Graph, name: string, input: string): string {
  const erf = graph.node('Erf', `${name}.erf`, [
    graph.node('Div', `${name}.scaled`, [input, graph.floats(Math.SQRT2)]),
  ]);
  const gate = graph.node('Add', `${name}.gate`, [erf, graph.floats(1)]);
  return graph.node('Mul', `${name}.gelu`, [
    graph.node('Mul', `${name}.gated`, [input, gate]),
    graph.floats(0.5),
  ]);
}
