import { UserError } from '../../base/errors.js';
import { countOf, shapeText, type TensorSource } from '../../encoder/safetensors.js';
import type { HostTensor, NamedTensors } from '../types.js';
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

/** Numbers of a state that are read at a time. */
const PIECE = 1 << 22;

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
  /** Where averages are kept. */
  average?: Tensor;
  /** Where a share of it is asked for: a tensor. */
  start?: Tensor;
  decays: boolean;
  /** Times the learning rate. */
  rate: number;
}

export interface ParameterOptions {
  /** Whether weight decay is for it: not for biases and norms. */
  decays: boolean;
  /** Its learning rate, as a multiple of the one that `update` is told; default 1. */
  rate?: number;
  /** Whether its first value was learned, so that `settled` can have a share of it; default false. */
  learned?: boolean;
}

/** What stands beside the weights that the optimizer moves. */
export interface Averaging {
  /**
   * Of an exponential average over steps (Polyak and Juditsky 1992; as a teacher, Tarvainen and Valpola 2017,
   * arXiv 1703.01780); 0 keeps none. Early on less, (1 + t) / (10 + t): the first weights are one sample among others.
   */
  averageDecay: number;
  /**
   * In place of that, all weights from this step on, each as much as any other (Izmailov et al. 2018, arXiv
   * 1803.05407); until then there is no average. 0 keeps none.
   */
  averageFrom: number;
  /** The start's share in settled weights (Wortsman et al. 2022, arXiv 2109.01903: 1 - alpha). */
  baseShare: number;
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
  /** Tensors that were handed out, until the next update, by what they are and the name. */
  private readonly held = new Map<string, Tensor>();
  private steps = 0;
  /** Learning rate x weight decay, summed since the weights were last shrunk. */
  private pendingDecay = 0;

  constructor(
    private readonly ops: Ops,
    private readonly averaging: Averaging = { averageDecay: 0, averageFrom: 0, baseShare: 0 },
  ) {}

  add(
    name: string,
    { shape, data }: HostTensor,
    { decays, rate = 1, learned = false }: ParameterOptions,
  ): void {
    const { tf } = this.ops;
    const { averageDecay, averageFrom, baseShare } = this.averaging;
    const id = `sentence-jepa/${created++}/${name}`;
    this.ops.tidy(() => {
      const zeros = tf.zeros(shape);
      const first = tf.tensor(data, shape, 'float32');
      const parameter: Parameter = {
        shape,
        value: tf.keep(this.ops.variable(id, first)),
        m: tf.keep(this.ops.variable(`${id}/m`, zeros)),
        v: tf.keep(this.ops.variable(`${id}/v`, zeros)),
        decays,
        rate,
      };
      if (averageDecay > 0 || averageFrom > 0)
        parameter.average = tf.keep(this.ops.variable(`${id}/average`, first));
      if (baseShare > 0 && learned) parameter.start = tf.keep(first);
      this.parameters.set(name, parameter);
    });
  }

  /** Its value, until the next update. @throws Error for another name */
  value(name: string): Tensor {
    return this.hold(`value ${name}`, () => this.ops.read(this.parameter(name).value));
  }

  /** The same as an operand of products. */
  narrow(name: string): Tensor {
    return this.hold(`narrow ${name}`, () => this.ops.narrow(this.value(name)));
  }

  /** Its average, until the next update; its value where averages are not kept, or not yet. @throws Error for another name */
  average(name: string): Tensor {
    const { average } = this.parameter(name);
    return average && this.averages
      ? this.hold(`average ${name}`, () => this.ops.read(average))
      : this.value(name);
  }

  /**
   * What is measured and exported, until the next update: the average, or the value, and of what was learned before
   * the start's share.
   *
   * @throws Error for another name
   */
  settled(name: string): Tensor {
    const { start } = this.parameter(name);
    const { baseShare } = this.averaging;
    const reached = this.average(name);
    if (!start) return reached;
    return this.hold(`settled ${name}`, () =>
      this.ops.tidy(() => this.ops.add(reached, this.ops.mul(this.ops.sub(start, reached), baseShare))),
    );
  }

  /**
   * Rows of its value: [k, d]. Of what was ever updated by rows, TensorFlow hands out the whole only as a copy.
   *
   * @throws Error for another name
   */
  rows(name: string, indices: Tensor): Tensor {
    return this.ops.readRows(this.parameter(name).value, indices);
  }

  /** The same of its average. */
  averageRows(name: string, indices: Tensor): Tensor {
    const { average, value } = this.parameter(name);
    return this.ops.readRows((this.averages && average) || value, indices);
  }

  /** The same of its settled value. */
  settledRows(name: string, indices: Tensor): Tensor {
    if (this.parameter(name).start) return this.ops.gather(this.settled(name), indices);
    return this.averageRows(name, indices);
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
    this.updateAverages();
  }

  /** Whether a step has come that averages begin with. */
  private get averages(): boolean {
    return this.steps >= this.averaging.averageFrom;
  }

  private updateAverages(): void {
    const { averageDecay, averageFrom } = this.averaging;
    if (!this.averages) return;
    const decay =
      averageFrom > 0
        ? 1 - 1 / (this.steps - averageFrom + 1)
        : Math.min(averageDecay, (1 + this.steps) / (10 + this.steps));
    for (const { value, average } of this.parameters.values())
      if (average)
        this.ops.tidy(() => {
          // Read in a tidy of its own: a value that is held would make the change copy it.
          const behind = this.ops.tidy(() => this.ops.sub(this.ops.read(average), this.ops.read(value)));
          this.ops.descend(average, behind, 1 - decay);
        });
  }

  /** The parameters' settled values. @param wanted which of them; all when left out */
  weights(wanted: (name: string) => boolean = () => true): Map<string, HostTensor> {
    const names = [...this.parameters.keys()].filter(wanted);
    return new Map(
      names.map((name) => {
        const { shape } = this.parameter(name);
        return [name, { shape, data: this.settled(name).dataSync<'float32'>() }];
      }),
    );
  }

  /** What a resume needs, under names that `restore` knows; each as it is when it is read. */
  state(): Map<string, TensorSource> {
    const state = new Map<string, TensorSource>();
    for (const [name, parameter] of this.parameters)
      for (const [prefix, variable] of variablesOf(parameter))
        state.set(prefix + name, {
          shape: parameter.shape,
          read: () => this.pieces(variable, parameter.shape),
        });
    // A float holds every count up to 2^24 exactly.
    state.set('adam.steps', { shape: [2], read: () => [Float32Array.of(this.steps, this.pendingDecay)] });
    return state;
  }

  /**
   * Takes what `state` gave, in any order.
   *
   * @throws UserError `corrupt` when a tensor is missing or of another shape
   */
  async restore(state: NamedTensors): Promise<void> {
    const { tf } = this.ops;
    const awaited = new Map<string, { shape: number[]; take: (data: Float32Array) => void }>();
    for (const [name, parameter] of this.parameters)
      for (const [prefix, variable] of variablesOf(parameter)) {
        const { shape } = parameter;
        const take = (data: Float32Array): void =>
          this.ops.tidy(() => this.ops.assign(variable, tf.tensor(data, shape, 'float32')));
        awaited.set(prefix + name, { shape, take });
      }
    awaited.set('adam.steps', { shape: [2], take: (data) => ([this.steps, this.pendingDecay] = data) });
    const check = (name: string, expected: number[], found: string): void => {
      if (shapeText(expected) !== found)
        throw new UserError(
          'corrupt',
          `checkpoint: ${name}: expected a tensor of shape ${shapeText(expected)}, found ${found}`,
        );
    };
    this.release();
    for await (const [name, { shape, data }] of state) {
      const it = awaited.get(name);
      if (!it) continue;
      check(name, it.shape, shapeText(shape));
      it.take(data);
      awaited.delete(name);
    }
    for (const [name, { shape }] of awaited) check(name, shape, 'none');
  }

  dispose(): void {
    this.release();
    for (const parameter of this.parameters.values()) {
      for (const [, variable] of variablesOf(parameter)) this.ops.destroy(variable);
      parameter.start?.dispose();
    }
    this.parameters.clear();
  }

  private parameter(name: string): Parameter {
    const parameter = this.parameters.get(name);
    if (!parameter) throw new Error(`no parameter ${name}`);
    return parameter;
  }

  private hold(key: string, make: () => Tensor): Tensor {
    let tensor = this.held.get(key);
    if (!tensor) {
      tensor = this.ops.tf.keep(make());
      this.held.set(key, tensor);
    }
    return tensor;
  }

  /** A value that is held would make the update copy it. */
  private release(): void {
    for (const tensor of this.held.values()) tensor.dispose();
    this.held.clear();
  }

  /** A variable's numbers, copied for JavaScript a few at a time: it frees what it is given late. */
  private *pieces(variable: Tensor, shape: readonly number[]): Generator<Float32Array> {
    const { tf } = this.ops;
    const count = countOf(shape);
    for (let from = 0; from < count; from += PIECE) {
      const piece = this.ops.tidy(() => {
        const all = tf.reshape(this.ops.read(variable), [-1]);
        return tf.slice(all, from, Math.min(PIECE, count - from));
      });
      yield piece.dataSync<'float32'>();
      piece.dispose();
    }
  }
}

/** A parameter's variables, each with what its name in a state begins with. */
function variablesOf({ value, m, v, average }: Parameter): [string, Tensor][] {
  const variables: [string, Tensor][] = [
    ['', value],
    ['adam.m.', m],
    ['adam.v.', v],
  ];
  if (average) variables.push(['average.', average]);
  return variables;
}

/** An exponential average that goes on: before + (by - before) (1 - beta), with beta rounded as applyAdam rounds it. */
function mix(tf: TF, before: Tensor, by: Tensor, beta: number): Tensor {
  return tf.add(before, tf.mul(tf.sub(by, before), 1 - Math.fround(beta)));
}
