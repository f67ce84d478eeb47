import { Message } from './protobuf.js';

/** TensorProto.DataType. */
const DATA_TYPES = { float: 1, uint8: 2, int8: 3, int32: 6, int64: 7 } as const;
export type DataType = keyof typeof DATA_TYPES;

/** The domain of ONNX Runtime's own operators. */
const MICROSOFT = 'com.microsoft';

/** A number, whole numbers or a single whole number, as the operator's attribute asks for. */
export type Attribute = { float: number } | { int: number } | { ints: number[] };

/**
 * An ONNX graph in the making (onnx.proto3 of ONNX 1.12: IR 8, operator set 17). A value is known by its
 * name; each method returns the names of what it adds. Operators whose name begins with "com.microsoft." are ONNX Runtime's
 * own: a graph with them runs nowhere else.
 */
export class Graph {
  private readonly nodes: Message[] = [];
  private readonly initializers: Message[] = [];
  private readonly inputs: Message[] = [];
  private readonly outputs: Message[] = [];
  private readonly constants = new Map<string, string>();
  private usesOwn = false;

  constructor(private readonly name: string) {}

  /** @param shape a name stands for a dimension that is known only when the graph runs */
  input(name: string, type: DataType, shape: (number | string)[]): string {
    this.inputs.push(valueInfo(name, type, shape));
    return name;
  }

  output(name: string, type: DataType, shape: (number | string)[]): void {
    this.outputs.push(valueInfo(name, type, shape));
  }

  /** @param bytes little-endian, row-major; not copied */
  tensor(name: string, type: DataType, shape: readonly number[], bytes: Uint8Array): string {
    const tensor = new Message();
    for (const size of shape) tensor.int(1, size);
    this.initializers.push(tensor.int(2, DATA_TYPES[type]).string(8, name).bytes(9, bytes));
    return name;
  }

  /** A small tensor of floats: a scalar, or a list. Equal ones are stored once. */
  floats(value: number | number[]): string {
    return this.constant('float', value, (list) => new Uint8Array(Float32Array.from(list).buffer));
  }

  /** A small tensor of 64-bit integers: a scalar, or a list. Equal ones are stored once. */
  ints(value: number | number[]): string {
    return this.constant(
      'int64',
      value,
      (list) => new Uint8Array(BigInt64Array.from(list.map(BigInt)).buffer),
    );
  }

  /** A 32-bit integer. */
  int32(value: number): string {
    return this.constant('int32', value, (list) => new Uint8Array(Int32Array.from(list).buffer));
  }

  /** An unsigned 8-bit integer. */
  uint8(value: number): string {
    return this.constant('uint8', value, (list) => Uint8Array.from(list));
  }

  /** @param name of the node and, with a number behind it when there are several, of its outputs */
  node(op: string, name: string, inputs: string[], attributes?: Record<string, Attribute>): string {
    return this.nodeWith(op, name, inputs, [name], attributes)[0];
  }

  nodeWith(
    op: string,
    name: string,
    inputs: string[],
    outputs: string[],
    attributes: Record<string, Attribute> = {},
  ): string[] {
    const node = new Message();
    for (const input of inputs) node.string(1, input);
    for (const output of outputs) node.string(2, output);
    const own = op.startsWith(MICROSOFT);
    this.usesOwn ||= own;
    const type = own ? op.slice(MICROSOFT.length + 1) : op;
    node.string(3, `${name}.${type}`).string(4, type);
    for (const [key, value] of Object.entries(attributes)) node.message(5, attribute(key, value));
    if (own) node.string(7, MICROSOFT);
    this.nodes.push(node);
    return outputs;
  }

  /** The bytes of the .onnx file, in chunks. */
  encode(producerVersion: string): Uint8Array[] {
    const graph = new Message();
    for (const node of this.nodes) graph.message(1, node);
    graph.string(2, this.name);
    for (const initializer of this.initializers) graph.message(5, initializer);
    for (const input of this.inputs) graph.message(11, input);
    for (const output of this.outputs) graph.message(12, output);
    const model = new Message()
      .int(1, 8)
      .string(2, 'sentence-jepa')
      .string(3, producerVersion)
      .message(7, graph)
      .message(8, new Message().string(1, '').int(2, 17));
    if (this.usesOwn) model.message(8, new Message().string(1, MICROSOFT).int(2, 1));
    return model.chunks;
  }

  private constant(type: DataType, value: number | number[], bytes: (list: number[]) => Uint8Array): string {
    const list = [value].flat();
    const key = `${type} ${JSON.stringify(value)}`;
    let name = this.constants.get(key);
    if (name === undefined) {
      name = `constant.${this.constants.size}`;
      this.constants.set(
        key,
        this.tensor(name, type, Array.isArray(value) ? [list.length] : [], bytes(list)),
      );
    }
    return name;
  }
}

function attribute(name: string, value: Attribute): Message {
  const message = new Message().string(1, name);
  if ('float' in value) return message.float(2, value.float).int(20, 1);
  if ('int' in value) return message.int(3, value.int).int(20, 2);
  for (const int of value.ints) message.int(8, int);
  return message.int(20, 7);
}

function valueInfo(name: string, type: DataType, shape: (number | string)[]): Message {
  const dimensions = new Message();
  for (const size of shape)
    dimensions.message(
      1,
      typeof size === 'number' ? new Message().int(1, size) : new Message().string(2, size),
    );
  const tensorType = new Message().int(1, DATA_TYPES[type]).message(2, dimensions);
  return new Message().string(1, name).message(2, new Message().message(1, tensorType));
}
