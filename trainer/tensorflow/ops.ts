import type { Tensor, TensorContainer } from '@tensorflow/tfjs-core';

import type { OpAttribute, TensorFlowBackend, TensorMetadata, TF } from './binding.js';
import type { Compiler } from './compiler.js';

export type { Tensor } from '@tensorflow/tfjs-core';

// TensorFlow's data types (tensorflow/core/framework/types.proto).
export const FLOAT = 1;
export const INT32 = 3;
const UINT8 = 4;
const BOOL = 10;
export const BFLOAT16 = 14;

/**
 * Types that tfjs has no name for, by a tensor's dataId: tfjs takes such a tensor for one of float32 or int32. It can
 * be an operand of what knows its type, and not be looked at.
 */
const hiddenTypes = new WeakMap<object, number>();

/** TensorFlow's data type of a tensor. */
export function typeOf({ dataId, dtype }: Tensor): number {
  return hiddenTypes.get(dataId) ?? (dtype === 'int32' ? INT32 : FLOAT);
}

/** A tensor of tfjs' of what TensorFlow has made, whatever its type. */
export function adopt(backend: TensorFlowBackend, made: TensorMetadata): Tensor {
  const shown = made.dtype === BFLOAT16 ? FLOAT : made.dtype === UINT8 ? INT32 : made.dtype;
  const tensor = backend.createOutputTensor({ ...made, dtype: shown });
  if (shown !== made.dtype) hiddenTypes.set(tensor.dataId, made.dtype);
  return tensor;
}

/**
 * TensorFlow's kernels that tfjs has no function for, or a slower one. Tensors belong to tfjs: tf.tidy frees
 * them as any others.
 */
export class Ops {
  protected readonly backend: TensorFlowBackend;
  private readonly type: OpAttribute;
  /** Of `narrow`. */
  private readonly narrowType: number;

  /**
   * @param precision of the operands of matMul; sums are fp32 in both
   * @param compiler makes one kernel of several: without it they run one by one
   */
  constructor(
    readonly tf: TF,
    protected readonly precision: 'fp32' | 'bf16' = 'fp32',
    private readonly compiler?: Compiler,
  ) {
    this.backend = tf.backend();
    this.type = this.dataType('T', FLOAT);
    this.narrowType = precision === 'fp32' ? FLOAT : BFLOAT16;
  }

  /**
   * What `body` makes of the inputs: in one pass over memory where there is a compiler.
   *
   * @param kernel its name, of letters and hyphens; with the numbers in `body` behind it, where they can differ
   * @param body of element-wise methods and of sums over an axis; it sees no shapes
   */
  fuse(kernel: string, inputs: Tensor[], body: (ops: Ops, inputs: Tensor[]) => Tensor[]): Tensor[] {
    if (!this.compiler) return this.tidy(() => body(this, inputs));
    return this.compiler.run(kernel, inputs, (tracer) => body(tracer, tracer.inputs));
  }

  /** Rows that a packed batch should be filled up to: with a compiler, so that there are few shapes to compile for. */
  wholeRows(rows: number): number {
    return this.fillUp(rows, 32, 16);
  }

  /** Tiles that a group of attention's should be filled up to, for the same. */
  wholeTiles(tiles: number): number {
    return this.fillUp(tiles, 16, 1);
  }

  /** To a multiple of what the next power of two has in so many parts, or of `least`. */
  private fillUp(count: number, parts: number, least: number): number {
    if (!this.compiler) return count;
    const step = Math.max(least, 2 ** Math.ceil(Math.log2(count)) / parts);
    return Math.ceil(count / step) * step;
  }

  /**
   * tf.tidy, whatever the shape of the result: the tensors in it are kept, what else was made inside is freed.
   * It looks for them in every property, so that a typed array in the result takes it seconds.
   */
  tidy<T>(make: () => T): T {
    return this.tf.tidy(make as () => TensorContainer) as T;
  }

  /** tf.dispose, whatever the shape. */
  free(...held: unknown[]): void {
    this.tf.dispose(held as TensorContainer);
  }

  /** [m, k] x [k, n] -> [m, n], either one transposed first. */
  matMul(a: Tensor, b: Tensor, transposeA = false, transposeB = false): Tensor {
    if (this.precision === 'fp32') return this.exactMatMul(a, b, transposeA, transposeB);
    return this.tidy(() => this.widen(this.product(this.narrow(a), this.narrow(b), transposeA, transposeB)));
  }

  /** The same in fp32 whatever the precision: for what is compared with 1 or 0 afterwards. */
  exactMatMul(a: Tensor, b: Tensor, transposeA = false, transposeB = false): Tensor {
    return this.run('MatMul', [a, b], ...this.productAttributes(transposeA, transposeB, FLOAT));
  }

  /** The same of what `narrow` gave, and as narrow itself. */
  product(a: Tensor, b: Tensor, transposeA = false, transposeB = false): Tensor {
    return this.run('MatMul', [a, b], ...this.productAttributes(transposeA, transposeB, this.narrowType));
  }

  /** fp32 in the precision of products; always a tensor of its own. */
  narrow(x: Tensor): Tensor {
    return this.precision === 'fp32' ? this.same(x) : this.cast(x, FLOAT, BFLOAT16);
  }

  /** The way back. */
  widen(x: Tensor): Tensor {
    return this.precision === 'fp32' ? this.same(x) : this.cast(x, BFLOAT16, FLOAT);
  }

  /** The product of each two matrices: [..., m, k] x [..., k, n] -> [..., m, n], narrow all three. */
  batchProduct(a: Tensor, b: Tensor, transposeA = false, transposeB = false): Tensor {
    const adjoints = [this.flag('adj_x', transposeA), this.flag('adj_y', transposeB)];
    return this.run('BatchMatMulV2', [a, b], this.dataType('T', this.narrowType), ...adjoints);
  }

  /** The same numbers in another shape, without a copy. */
  reshape(x: Tensor, shape: number[]): Tensor {
    return this.tidy(() =>
      this.run(
        'Reshape',
        [x, this.tf.tensor1d(shape, 'int32')],
        this.dataType('T', typeOf(x)),
        this.dataType('Tshape', INT32),
      ),
    );
  }

  /** With a row of zeros behind the last: [n, d] -> [n + 1, d]. */
  withZeroRow(x: Tensor): Tensor {
    return this.tidy(() => {
      const paddings = this.tf.tensor2d([0, 1, 0, 0], [2, 2], 'int32');
      return this.run('Pad', [x, paddings], this.dataType('T', typeOf(x)), this.dataType('Tpaddings', INT32));
    });
  }

  /** The first so many rows. */
  firstRows(x: Tensor, rows: number): Tensor {
    const { tf } = this;
    const begin = x.shape.map(() => 0);
    const size = [rows, ...x.shape.slice(1)];
    return this.tidy(() =>
      this.run(
        'Slice',
        [x, tf.tensor1d(begin, 'int32'), tf.tensor1d(size, 'int32')],
        this.dataType('T', typeOf(x)),
        this.dataType('Index', INT32),
      ),
    );
  }

  /** Element by element, broadcast; without what the tfjs functions of these names check and record. */
  add(a: Tensor, b: Tensor | number): Tensor {
    return this.pointwise('AddV2', a, b);
  }

  sub(a: Tensor, b: Tensor | number): Tensor {
    return this.pointwise('Sub', a, b);
  }

  mul(a: Tensor, b: Tensor | number): Tensor {
    return this.pointwise('Mul', a, b);
  }

  div(a: Tensor, b: Tensor | number): Tensor {
    return this.pointwise('RealDiv', a, b);
  }

  square(x: Tensor): Tensor {
    return this.run('Square', [x], this.type);
  }

  exp(x: Tensor): Tensor {
    return this.run('Exp', [x], this.type);
  }

  erf(x: Tensor): Tensor {
    return this.run('Erf', [x], this.type);
  }

  reciprocal(x: Tensor): Tensor {
    return this.run('Reciprocal', [x], this.type);
  }

  sqrt(x: Tensor): Tensor {
    return this.run('Sqrt', [x], this.type);
  }

  relu(x: Tensor): Tensor {
    return this.run('Relu', [x], this.type);
  }

  /** 1 where x is above 0, else 0. */
  positive(x: Tensor): Tensor {
    return this.tidy(() => this.cast(this.pointwise('Greater', x, 0), BOOL, FLOAT));
  }

  /** 1 / sqrt(x). */
  rsqrt(x: Tensor): Tensor {
    return this.run('Rsqrt', [x], this.type);
  }

  /** Over the last axis, which stays, with length 1. */
  sumLast(x: Tensor): Tensor {
    return this.overLast('Sum', x);
  }

  maxLast(x: Tensor): Tensor {
    return this.overLast('Max', x);
  }

  meanLast(x: Tensor): Tensor {
    return this.overLast('Mean', x);
  }

  /** x [rows, ...]: those at `indices` (of any shape): [...indices.shape, ...]. */
  gather(x: Tensor, indices: Tensor): Tensor {
    return this.tidy(() =>
      this.run(
        'GatherV2',
        [x, indices, this.tf.scalar(0, 'int32')],
        this.integer('batch_dims', 0),
        this.dataType('Tparams', typeOf(x)),
        this.dataType('Tindices', INT32),
        this.dataType('Taxis', INT32),
      ),
    );
  }

  /**
   * The other way: the rows of each part go to its indices; what no index names is left as it happens to be.
   *
   * @param indices of any shape each, all numbers from 0 to the highest somewhere in them
   * @param parts [...shape of its indices, d] each
   * @returns [highest index + 1, d]
   */
  stitch(indices: readonly Tensor[], parts: readonly Tensor[]): Tensor {
    const attributes = [this.integer('N', parts.length), this.dataType('T', typeOf(parts[0]))];
    return this.run('DynamicStitch', [...indices, ...parts], ...attributes);
  }

  /** One behind the other along the first axis. */
  concat(parts: readonly Tensor[]): Tensor {
    if (parts.length === 1) return this.tf.clone(parts[0]);
    return this.tidy(() =>
      this.run(
        'ConcatV2',
        [...parts, this.tf.scalar(0, 'int32')],
        this.integer('N', parts.length),
        this.dataType('T', typeOf(parts[0])),
        this.dataType('Tidx', INT32),
      ),
    );
  }

  /** Parts along the first axis, which goes: [n, ...] -> n times [...]. They share its memory. */
  unstack(x: Tensor): Tensor[] {
    const count = x.shape[0];
    const attributes = [this.integer('num', count), this.dataType('T', typeOf(x)), this.integer('axis', 0)];
    return this.execute('Unpack', [x], attributes, count);
  }

  /** Numbers from 0 to 255. */
  bytes(values: Uint8Array, shape: readonly number[]): Tensor {
    const id = this.backend.binding.createTensor([...shape], UINT8, values);
    return adopt(this.backend, { id, shape: [...shape], dtype: UINT8 });
  }

  /** 1 where a byte is at least `least` (one byte), else 0. */
  atLeast(bytes: Tensor, least: Tensor): Tensor {
    return this.tidy(() =>
      this.cast(this.run('GreaterEqual', [bytes, least], this.dataType('T', UINT8)), BOOL, FLOAT),
    );
  }

  /** [n, d] + [d]. */
  biasAdd(x: Tensor, bias: Tensor): Tensor {
    return this.run('BiasAdd', [x, bias], this.type, this.text('data_format', 'NHWC'));
  }

  /** The sum over all axes but the last: [..., d] -> [d]. */
  columnSums(x: Tensor): Tensor {
    return this.run('BiasAddGrad', [x], this.type, this.text('data_format', 'NHWC'));
  }

  /** Over the last axis. */
  softmax(x: Tensor): Tensor {
    return this.run('Softmax', [x], this.type);
  }

  /**
   * Of each row of logits [n, classes] and its label [n]: cross entropy of the softmax, in nats [n], and its
   * gradient, softmax minus one-hot [n, classes].
   */
  softmaxCrossEntropy(logits: Tensor, labels: Tensor): { losses: Tensor; slope: Tensor } {
    const types = [this.type, this.dataType('Tlabels', INT32)];
    const [losses, slope] = this.execute('SparseSoftmaxCrossEntropyWithLogits', [logits, labels], types, 2);
    return { losses, slope };
  }

  /** x [n, d], with rows [k, d] added to those at `indices` [k]. */
  addRows(x: Tensor, indices: Tensor, rows: Tensor): Tensor {
    return this.tidy(() =>
      this.run(
        'TensorScatterAdd',
        [x, indices.reshape([indices.size, 1]), rows],
        this.type,
        this.dataType('Tindices', INT32),
      ),
    );
  }

  /** Half the sum of squares, a scalar. */
  halfSquares(x: Tensor): Tensor {
    return this.run('L2Loss', [x], this.type);
  }

  /** Of a symmetric matrix [d, d]: its eigenvectors as columns, by rising eigenvalue. */
  symmetricEigenvectors(matrix: Tensor): Tensor {
    const attributes = [this.flag('compute_v', true), this.type];
    const [values, vectors] = this.execute('SelfAdjointEigV2', [matrix], attributes, 2);
    values.dispose();
    return vectors;
  }

  /** A variable that TensorFlow keeps and changes in place. @param name unique in this process */
  variable(name: string, initial: Tensor): Tensor {
    const handle = this.run(
      'VarHandleOp',
      [],
      this.dataType('dtype', FLOAT),
      { name: 'shape', type: this.backend.binding.TF_ATTR_SHAPE, value: initial.shape },
      this.text('container', ''),
      this.text('shared_name', name),
    );
    this.assign(handle, initial);
    return handle;
  }

  /** Its value, without a copy: to be disposed of before the variable changes, or that will have to copy. */
  read(variable: Tensor): Tensor {
    return this.run('ReadVariableOp', [variable], this.dataType('dtype', FLOAT));
  }

  assign(variable: Tensor, value: Tensor): void {
    this.change('AssignVariableOp', [variable, value], this.dataType('dtype', FLOAT));
  }

  destroy(variable: Tensor): void {
    this.change('DestroyResourceOp', [variable], this.flag('ignore_lookup_error', true));
    variable.dispose();
  }

  /** variable[indices]: [k, d]. */
  readRows(variable: Tensor, indices: Tensor): Tensor {
    return this.run(
      'ResourceGather',
      [variable, indices],
      this.dataType('dtype', FLOAT),
      this.dataType('Tindices', INT32),
    );
  }

  /** variable[indices] = rows. */
  assignRows(variable: Tensor, indices: Tensor, rows: Tensor): void {
    this.change(
      'ResourceScatterUpdate',
      [variable, indices, rows],
      this.dataType('dtype', FLOAT),
      this.dataType('Tindices', INT32),
    );
  }

  /** variable *= factor. */
  scaleVariable(variable: Tensor, factor: number): void {
    this.tidy(() => this.assign(variable, this.mul(this.read(variable), factor)));
  }

  /** variable -= rate x by, in place. */
  descend(variable: Tensor, by: Tensor, rate: number): void {
    this.tidy(() =>
      this.change(
        'ResourceApplyGradientDescent',
        [variable, this.tf.scalar(rate), by],
        this.type,
        this.flag('use_locking', false),
      ),
    );
  }

  /** m, v and variable of Adam, in one pass over memory; the bias corrections are in the last three scalars. */
  applyAdam(
    variable: Tensor,
    m: Tensor,
    v: Tensor,
    gradient: Tensor,
    scalars: { zero: Tensor; learningRate: Tensor; beta1: Tensor; beta2: Tensor; epsilon: Tensor },
  ): void {
    const { zero, learningRate, beta1, beta2, epsilon } = scalars;
    // The kernel's own correction, 1 - beta^t in fp32, is off by 1e-5 at the first step: powers of 0 switch it off.
    this.change(
      'ResourceApplyAdam',
      [variable, m, v, zero, zero, learningRate, beta1, beta2, epsilon, gradient],
      this.type,
      this.flag('use_locking', false),
      this.flag('use_nesterov', false),
    );
  }

  private productAttributes(transposeA: boolean, transposeB: boolean, type: number): OpAttribute[] {
    return [
      this.flag('transpose_a', transposeA),
      this.flag('transpose_b', transposeB),
      this.dataType('T', type),
    ];
  }

  private cast(x: Tensor, from: number, to: number): Tensor {
    const attributes = [this.dataType('SrcT', from), this.dataType('DstT', to), this.flag('Truncate', false)];
    return this.run('Cast', [x], ...attributes);
  }

  private pointwise(kernel: string, a: Tensor, b: Tensor | number): Tensor {
    if (typeof b !== 'number') return this.run(kernel, [a, b], this.type);
    const number = this.constant(b);
    const result = this.run(kernel, [a, number], this.type);
    number.dispose();
    return result;
  }

  private overLast(kernel: string, x: Tensor): Tensor {
    const axis = this.constant(-1, 'int32');
    const attributes = [this.flag('keep_dims', true), this.type, this.dataType('Tidx', INT32)];
    const result = this.run(kernel, [x, axis], ...attributes);
    axis.dispose();
    return result;
  }

  private run(kernel: string, inputs: Tensor[], ...attributes: OpAttribute[]): Tensor {
    return this.execute(kernel, inputs, attributes, 1)[0];
  }

  private change(kernel: string, inputs: Tensor[], ...attributes: OpAttribute[]): void {
    this.execute(kernel, inputs, attributes, 0);
  }

  protected execute(kernel: string, inputs: Tensor[], attributes: OpAttribute[], outputs: number): Tensor[] {
    const { backend } = this;
    const made = backend.binding.executeOp(kernel, attributes, backend.getInputTensorIds(inputs), outputs);
    return made.map((each) => adopt(backend, each));
  }

  protected constant(value: number, dtype: 'float32' | 'int32' = 'float32'): Tensor {
    return this.tf.scalar(value, dtype);
  }

  /** The same values, to be freed by itself. */
  protected same(x: Tensor): Tensor {
    return this.tf.clone(x);
  }

  private dataType(name: string, value: number): OpAttribute {
    return { name, type: this.backend.binding.TF_ATTR_TYPE, value };
  }

  private integer(name: string, value: number): OpAttribute {
    return { name, type: this.backend.binding.TF_ATTR_INT, value };
  }

  private flag(name: string, value: boolean): OpAttribute {
    return { name, type: this.backend.binding.TF_ATTR_BOOL, value };
  }

  private text(name: string, value: string): OpAttribute {
    return { name, type: this.backend.binding.TF_ATTR_STRING, value };
  }
}
