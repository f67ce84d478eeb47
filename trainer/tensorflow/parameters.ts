import { UserError } from '../../base/errors.js';
import { shapeText } from '../../encoder/safetensors.js';
import type { HostTensor } from '../types.js';
import type { TF } from './binding.js';
import type { Ops, Tensor } from './ops.js';

const BETA1 = 0.9;
const BETA2 = 0.999;
const EPSILON = 1e-8;

/**
 * Weight decay is applied once it amounts to this share of a weight: a factor nearer to 1 would be rounded
 * away by a fifth or more in fp32.
 */
const LEAST_DECAY = 5e-6;

/** The different rows of a matrix that have a gradient, and it: [k], [k, d]. */
interface Rows {
  indices: Int32Array;
  rows: Tensor;
}

/**
 * Gradients by parameter, each name in one of the maps: what is added to rows or has rows added makes a whole.
 */
export class Gradients {
  readonly whole = new Map<string, Tensor>();
  /** Of embedding matrices most of which was not looked at. */
  readonly rows = new Map<string, Rows>();

  constructor(private readonly ops: Ops) {}

  /** Adds to what is there; the gradient is its own from then on. */
  add(name: string, gradient: Tensor): void {
    const { tf } = this.ops;
    const before = this.whole.get(name);
    this.whole.set(name, tf.keep(before ? this.ops.add(before, gradient) : gradient));
    // At once, and not when the caller's tidy ends: a wide expander's have hundreds of megabytes.
    if (before) this.ops.free(before, gradient);
    this.merge(name);
  }

  /** Adds to what is there. @param indices the different rows that have a gradient, each once */
  addRows(name: string, indices: Int32Array, rows: Tensor): void {
    const { tf } = this.ops;
    const before = this.rows.get(name);
    const sum = before ? this.sumOfRows(before, { indices, rows }) : { indices, rows };
    tf.keep(sum.rows);
    this.rows.set(name, sum);
    before?.rows.dispose();
    this.merge(name);
  }

  /** Square root of the sum of all squares. */
  norm(): number {
    const { tf } = this.ops;
    return this.ops.tidy(() => {
      const all = [...this.whole.values(), ...[...this.rows.values()].map(({ rows }) => rows)];
      const halves = all.map((gradient) => this.ops.halfSquares(gradient));
      return Math.sqrt(2 * tf.addN(halves).dataSync()[0]);
    });
  }

  scale(factor: number): void {
    const { tf } = this.ops;
    const scaled = (gradient: Tensor): Tensor => {
      const result = tf.keep(tf.mul(gradient, factor));
      gradient.dispose();
      return result;
    };
    for (const [name, gradient] of this.whole) this.whole.set(name, scaled(gradient));
    for (const entry of this.rows.values()) entry.rows = scaled(entry.rows);
  }

  dispose(): void {
    for (const gradient of this.whole.values()) gradient.dispose();
    for (const { rows } of this.rows.values()) rows.dispose();
    this.whole.clear();
    this.rows.clear();
  }

  private sumOfRows(...parts: Rows[]): Rows {
    const { tf } = this.ops;
    const places = new Map<number, number>();
    const of = parts.flatMap(({ indices }) =>
      Array.from(indices, (index) => {
        if (!places.has(index)) places.set(index, places.size);
        return places.get(index)!;
      }),
    );
    const all = parts.map(({ rows }) => rows);
    const rows = this.ops.tidy(() =>
      tf.unsortedSegmentSum(tf.concat(all), tf.tensor1d(of, 'int32'), places.size),
    );
    return { indices: Int32Array.from(places.keys()), rows };
  }

  /** Rows and whole of a name become one: the norm and AdamW's squares are of the sum, not of its parts. */
  private merge(name: string): void {
    const whole = this.whole.get(name);
    const part = this.rows.get(name);
    if (!whole || !part) return;
    const { tf } = this.ops;
    const sum = this.ops.tidy(() => this.ops.addRows(whole, tf.tensor1d(part.indices, 'int32'), part.rows));
    this.whole.set(name, tf.keep(sum));
    this.rows.delete(name);
    this.ops.free(whole, part.rows);
  }
}

interface Parameter {
  shape: number[];
  /** Variables of TensorFlow's. */
  value: Tensor;
  m: Tensor;
  v: Tensor;
  decays: boolean;
  /** Times the learning rate. */
  rate: number;
}

let created = 0;

/**
 * Parameters and AdamW (Kingma and Ba 2015; decoupled weight decay by Loshchilov and Hutter 2019). They are
 * changed in place: one pass over memory a parameter.
 *
 * Where the gradient is rows of an embedding, AdamW is lazy, as PyTorch's SparseAdam is and its AdamW is not: a row
 * without a gradient in a step keeps its value, m and v, which do not fade meanwhile. The bias corrections count the
 * steps of all, and weight decay is for every row. A row that comes up every time moves as PyTorch's AdamW moves it.
 */
export class Parameters {
  private readonly parameters = new Map<string, Parameter>();
  private readonly values = new Map<string, Tensor>();
  private steps = 0;
  /** Learning rate x weight decay, summed since the weights were last shrunk. */
  private pendingDecay = 0;

  constructor(private readonly ops: Ops) {}

  /**
   * @param decays whether weight decay is for it: not for biases and norms
   * @param rate its learning rate, as a multiple of the one that `update` is told
   */
  add(name: string, { shape, data }: HostTensor, decays: boolean, rate = 1): void {
    const { tf } = this.ops;
    const id = `sentence-jepa/${created++}/${name}`;
    this.ops.tidy(() => {
      const zeros = tf.zeros(shape);
      this.parameters.set(name, {
        shape,
        value: tf.keep(this.ops.variable(id, tf.tensor(data, shape, 'float32'))),
        m: tf.keep(this.ops.variable(`${id}/m`, zeros)),
        v: tf.keep(this.ops.variable(`${id}/v`, zeros)),
        decays,
        rate,
      });
    });
  }

  /** Its value, until the next update. @throws Error for another name */
  value(name: string): Tensor {
    let value = this.values.get(name);
    if (!value) {
      value = this.ops.tf.keep(this.ops.read(this.parameter(name).value));
      this.values.set(name, value);
    }
    return value;
  }

  /**
   * Rows of its value: [k, d]. Of what was ever updated by rows, TensorFlow hands out the whole only as a copy.
   *
   * @throws Error for another name
   */
  rows(name: string, indices: Tensor): Tensor {
    return this.ops.readRows(this.parameter(name).value, indices);
  }

  /** One step of AdamW, with the gradients as they are; disposes of none. */
  update(
    gradients: Gradients,
    { learningRate, weightDecay }: { learningRate: number; weightDecay: number },
  ): void {
    const { tf } = this.ops;
    this.release();
    this.steps++;
    const correction1 = 1 - BETA1 ** this.steps;
    const correction2 = Math.sqrt(1 - BETA2 ** this.steps);
    this.pendingDecay = Math.fround(this.pendingDecay + learningRate * weightDecay);
    const decay = this.pendingDecay >= LEAST_DECAY ? this.pendingDecay : 0;
    if (decay > 0) this.pendingDecay = 0;
    this.ops.tidy(() => {
      // theta -= rate m^ / (sqrt(v^) + epsilon), m^ and v^ corrected, rearranged for the uncorrected m and v.
      const shared = {
        zero: tf.scalar(0),
        beta1: tf.scalar(BETA1),
        beta2: tf.scalar(BETA2),
        epsilon: tf.scalar(EPSILON * correction2),
      };
      const shrink = ({ value, decays, rate }: Parameter): void => {
        if (decay > 0 && decays) this.ops.scaleVariable(value, 1 - decay * rate);
      };
      const factorOf = ({ rate }: Parameter): number => (rate * learningRate * correction2) / correction1;
      for (const [name, gradient] of gradients.whole) {
        const parameter = this.parameter(name);
        shrink(parameter);
        const scalars = { ...shared, learningRate: tf.scalar(factorOf(parameter)) };
        this.ops.applyAdam(parameter.value, parameter.m, parameter.v, gradient, scalars);
      }
      for (const [name, { indices, rows }] of gradients.rows) {
        const parameter = this.parameter(name);
        shrink(parameter);
        const at = tf.tensor1d(indices, 'int32');
        const m = mix(tf, this.ops.readRows(parameter.m, at), rows, BETA1);
        const v = mix(tf, this.ops.readRows(parameter.v, at), tf.square(rows), BETA2);
        const step = tf.div(tf.mul(m, factorOf(parameter)), tf.add(tf.sqrt(v), EPSILON * correction2));
        const value = tf.sub(this.ops.readRows(parameter.value, at), step);
        this.ops.assignRows(parameter.m, at, m);
        this.ops.assignRows(parameter.v, at, v);
        this.ops.assignRows(parameter.value, at, value);
      }
    });
  }

  /** Every parameter's value. */
  weights(): Map<string, HostTensor> {
    return new Map([...this.parameters].map(([name, { shape, value }]) => [name, this.host(shape, value)]));
  }

  /** What a resume needs, under names that `restore` knows. */
  state(): Map<string, HostTensor> {
    const state = new Map<string, HostTensor>();
    for (const [name, { shape, value, m, v }] of this.parameters) {
      state.set(name, this.host(shape, value));
      state.set(`adam.m.${name}`, this.host(shape, m));
      state.set(`adam.v.${name}`, this.host(shape, v));
    }
    // A float holds every count up to 2^24 exactly.
    state.set('adam.steps', { shape: [2], data: Float32Array.of(this.steps, this.pendingDecay) });
    return state;
  }

  /** @throws UserError `corrupt` when a tensor is missing or of another shape */
  restore(state: ReadonlyMap<string, HostTensor>): void {
    const { tf } = this.ops;
    const find = (name: string, shape: number[]): HostTensor => {
      const found = state.get(name);
      if (!found || shapeText(found.shape) !== shapeText(shape))
        throw new UserError(
          'corrupt',
          `checkpoint: ${name}: expected a tensor of shape ${shapeText(shape)}, found ${found ? shapeText(found.shape) : 'none'}`,
        );
      return found;
    };
    this.release();
    for (const [name, { shape, value, m, v }] of this.parameters)
      for (const [prefix, variable] of [
        ['', value],
        ['adam.m.', m],
        ['adam.v.', v],
      ] as const)
        this.ops.tidy(() => {
          this.ops.assign(variable, tf.tensor(find(prefix + name, shape).data, shape, 'float32'));
        });
    const { data } = find('adam.steps', [2]);
    [this.steps, this.pendingDecay] = data;
  }

  dispose(): void {
    this.release();
    for (const { value, m, v } of this.parameters.values())
      for (const variable of [value, m, v]) this.ops.destroy(variable);
    this.parameters.clear();
  }

  private parameter(name: string): Parameter {
    const parameter = this.parameters.get(name);
    if (!parameter) throw new Error(`no parameter ${name}`);
    return parameter;
  }

  /** A value that is held would make the update copy it. */
  private release(): void {
    for (const value of this.values.values()) value.dispose();
    this.values.clear();
  }

  private host(shape: number[], variable: Tensor): HostTensor {
    const value = this.ops.read(variable);
    const data = value.dataSync<'float32'>();
    value.dispose();
    return { shape, data };
  }
}

/** An exponential average that goes on: before + (by - before) (1 - beta), with beta rounded as applyAdam rounds it. */
function mix(tf: TF, before: Tensor, by: Tensor, beta: number): Tensor {
  return tf.add(before, tf.mul(tf.sub(by, before), 1 - Math.fround(beta)));
}
