import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { Message } from '../../encoder/onnx/protobuf.js';
import type { OpAttribute, TF } from './binding.js';
import { adopt, FLOAT, INT32, Ops, typeOf, type Tensor } from './ops.js';

/**
 * Several of TensorFlow's kernels as one, compiled for this processor by XLA, which comes with the library: what lies
 * between them is not written to memory. Compiling takes about a tenth of a second for each kernel and each shape of its
 * inputs, so that there should be few: see `Ops.wholeRows`.
 *
 * tfjs has no way to XLA but through a saved model, so each kernel is one, written here.
 */
export class Compiler {
  private readonly kernels = new Map<string, Kernel>();

  constructor(
    private readonly tf: TF,
    private readonly precision: 'fp32' | 'bf16',
  ) {}

  /** What `trace` makes of the inputs. @param name as of Ops.fuse: the same for the same trace */
  run(name: string, inputs: Tensor[], trace: (ops: Tracer) => Tensor[]): Tensor[] {
    const backend = this.tf.backend();
    const types = inputs.map(typeOf);
    const key = `${name} ${types.join()}`;
    let kernel = this.kernels.get(key);
    if (!kernel) {
      kernel = this.load(name.split(' ')[0], types, trace);
      this.kernels.set(key, kernel);
    }
    const ids = backend.getInputTensorIds(inputs);
    const made = backend.binding.runSavedModel(kernel.id, ids, kernel.inputs, kernel.outputs);
    const tensors = made.map((each) => adopt(backend, each));
    return kernel.places.map((place, i) =>
      kernel.places.indexOf(place) === i ? tensors[place] : this.tf.clone(tensors[place]),
    );
  }

  private load(name: string, types: number[], trace: (ops: Tracer) => Tensor[]): Kernel {
    const tracer = new Tracer(this.tf, this.precision, types);
    const asked = trace(tracer) as unknown as Traced[];
    // What is asked for twice is made once.
    const outputs = [...new Set(asked)];
    const folder = mkdtempSync(path.join(tmpdir(), 'sentence-jepa-kernel-'));
    try {
      const { chunks } = tracer.savedModel(name, outputs);
      writeFileSync(path.join(folder, 'saved_model.pb'), Buffer.concat(chunks));
      return {
        id: this.tf.backend().binding.loadSavedModel(folder, TAG),
        inputs: types.map((_, i) => `x${i}:0`).join(),
        outputs: outputs.map((_, i) => `${name}:${i}`).join(),
        places: asked.map((each) => outputs.indexOf(each)),
      };
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }
}

interface Kernel {
  id: number;
  /** Names, with commas between them. */
  inputs: string;
  outputs: string;
  /** Which output each of the results is. */
  places: number[];
}

/** A compiler, where this library has one that works. */
export function openCompiler(tf: TF, precision: 'fp32' | 'bf16'): Compiler | undefined {
  const compiler = new Compiler(tf, precision);
  const x = tf.tensor1d([3, 4]);
  try {
    const [y] = compiler.run('probe', [x], (ops) => [ops.square(ops.inputs[0])]);
    const values = y.dataSync();
    y.dispose();
    return values[0] === 9 && values[1] === 16 ? compiler : undefined;
  } catch {
    return undefined;
  } finally {
    x.dispose();
  }
}

/** A single letter: tfjs-node 4.22 frees as many tags as their names have letters, whatever lies there. */
const TAG = 'k';
const FUNCTION = 'kernel';

/** What each kernel calls its output. */
const OUTPUTS: Record<string, string> = {
  AddV2: 'z',
  BiasAdd: 'output',
  BiasAddGrad: 'output',
  Cast: 'y',
  Const: 'output',
  Erf: 'y',
  Exp: 'y',
  Greater: 'z',
  GreaterEqual: 'z',
  Max: 'output',
  Mean: 'output',
  Mul: 'z',
  RealDiv: 'z',
  Reciprocal: 'y',
  Relu: 'activations',
  Rsqrt: 'y',
  Sqrt: 'y',
  Square: 'y',
  Sub: 'z',
  Sum: 'output',
};

/** Stands for a tensor that is not there yet. */
interface Traced {
  /** As a function's nodes name it. */
  name: string;
  type: number;
  dispose(): void;
}

/** Writes down what is asked of it, in place of doing it: FunctionDef and what is around it (tensorflow/core/framework). */
class Tracer extends Ops {
  readonly inputs: Tensor[];
  private readonly nodes: Message[] = [];

  constructor(
    tf: TF,
    precision: 'fp32' | 'bf16',
    private readonly types: number[],
  ) {
    super(tf, precision);
    this.inputs = types.map((type, i) => traced(`x${i}`, type));
  }

  override tidy<T>(make: () => T): T {
    return make();
  }

  override free(): void {}

  /** In parts: the kernel of this name is not for compilers. */
  override softmax(x: Tensor): Tensor {
    const exp = this.exp(this.sub(x, this.maxLast(x)));
    return this.mul(exp, this.reciprocal(this.sumLast(exp)));
  }

  protected override execute(
    kernel: string,
    inputs: Tensor[],
    attributes: OpAttribute[],
    outputs: number,
  ): Tensor[] {
    const output = OUTPUTS[kernel];
    if (!output || outputs !== 1) throw new Error(`${kernel} can't be compiled`);
    const names = inputs.map((input) => (input as unknown as Traced).name);
    const type = attributes.find(({ name }) => name === 'DstT')?.value ?? FLOAT;
    return [
      this.node(
        kernel,
        output,
        names,
        attributes.map((each) => this.attribute(each)),
        type as number,
      ),
    ];
  }

  protected override constant(value: number, dtype: 'float32' | 'int32' = 'float32'): Tensor {
    const type = dtype === 'int32' ? INT32 : FLOAT;
    const content = dtype === 'int32' ? Int32Array.of(value) : Float32Array.of(value);
    const tensor = new Message()
      .int(1, type)
      .message(2, new Message())
      .bytes(4, new Uint8Array(content.buffer));
    const attributes = [entry('dtype', ofType(type)), entry('value', new Message().message(8, tensor))];
    return this.node('Const', OUTPUTS.Const, [], attributes, type);
  }

  protected override same(x: Tensor): Tensor {
    return x;
  }

  /** A graph that calls the function: its inputs are x0, x1, ..., and the call has the name. */
  savedModel(name: string, outputs: Traced[]): Message {
    const argument = (name: string, type: number): Message => new Message().string(1, name).int(3, type);
    const signature = new Message().string(1, FUNCTION);
    this.types.forEach((type, i) => signature.message(2, argument(`x${i}`, type)));
    outputs.forEach(({ type }, i) => signature.message(3, argument(`y${i}`, type)));
    const body = new Message().message(1, signature);
    for (const node of this.nodes) body.message(3, node);
    outputs.forEach(({ name }, i) => body.message(4, new Message().string(1, `y${i}`).string(2, name)));
    body.message(5, ofFlag('_XlaMustCompile'));

    const graph = new Message();
    const call = node(name, 'PartitionedCall');
    this.types.forEach((type, i) => {
      graph.message(1, node(`x${i}`, 'Placeholder').message(5, entry('dtype', ofType(type))));
      call.string(3, `x${i}`);
    });
    const list = (types: number[]): Message =>
      new Message().message(
        1,
        types.reduce((message, type) => message.int(6, type), new Message()),
      );
    call
      .message(5, entry('Tin', list(this.types)))
      .message(5, ofFlag('_XlaMustCompile'))
      .message(5, entry('Tout', list(outputs.map(({ type }) => type))))
      .message(5, entry('f', new Message().message(10, new Message().string(1, FUNCTION))));
    graph
      .message(1, call)
      .message(2, new Message().message(1, body))
      .message(4, new Message().int(1, GRAPH_VERSION));
    return new Message()
      .int(1, 1)
      .message(2, new Message().message(1, new Message().string(4, TAG)).message(2, graph));
  }

  private node(
    kernel: string,
    output: string,
    inputs: string[],
    attributes: Message[],
    type: number,
  ): Tensor {
    const name = `n${this.nodes.length}`;
    const made = node(name, kernel);
    for (const input of inputs) made.string(3, input);
    for (const attribute of attributes) made.message(5, attribute);
    this.nodes.push(made);
    return traced(`${name}:${output}:0`, type);
  }

  private attribute({ name, type, value }: OpAttribute): Message {
    const { TF_ATTR_TYPE, TF_ATTR_BOOL, TF_ATTR_STRING } = this.backend.binding;
    if (type === TF_ATTR_TYPE) return entry(name, ofType(value as number));
    if (type === TF_ATTR_BOOL) return ofFlag(name, value as boolean);
    if (type === TF_ATTR_STRING) return entry(name, new Message().string(2, value as string));
    throw new Error(`${name}: an attribute of this type can't be compiled`);
  }
}

/** Of GraphDef: the producer of TensorFlow 2.9, which later ones read. */
const GRAPH_VERSION = 1087;

function traced(name: string, type: number): Tensor {
  const made: Traced = { name, type, dispose: () => undefined };
  return made as unknown as Tensor;
}

function node(name: string, op: string): Message {
  return new Message().string(1, name).string(2, op);
}

/** Of a map of attributes. */
function entry(name: string, value: Message): Message {
  return new Message().string(1, name).message(2, value);
}

function ofFlag(name: string, value = true): Message {
  return entry(name, new Message().int(5, Number(value)));
}

function ofType(type: number): Message {
  return new Message().int(6, type);
}
