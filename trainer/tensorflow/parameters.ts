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

/** How many times as long as usual a gradient must be to be multiplied before it is added to m and v. */
const SPIKE = 4;

/** In a state: steps, the pending decay, and the units of m and v. */
const COUNTS = 'adam.steps';

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
  byRows: boolean;
}

export interface ParameterOptions {
  /** Whether weight decay is for it: not for biases and norms. */
  decays: boolean;
  /** Its learning rate, as a multiple of the one that `update` is told; default 1. */
  rate?: number;
  /** Whether its first value was learned, so that `settled` can have a share of it; default false. */
  learned?: boolean;
  /** Whether its gradients can be of some rows; default false. */
  byRows?: boolean;
}

export interface UpdateOptions {
  learningRate: number;
  weightDecay: number;
  /** What the gradients are to be multiplied with, where their norm is too long, 0 where it is infinite; default 1. */
  clip?: number;
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
  /** What one in m and v stands for, but for what is updated by rows: see `clipByUnits`. In fp32, as they are stored. */
  private units = { m: 1, v: 1 };

  constructor(
    private readonly ops: Ops,
    private readonly averaging: Averaging = { averageDecay: 0, averageFrom: 0, baseShare: 0 },
  ) {}

  add(
    name: string,
    { shape, data }: HostTensor,
    { decays, rate = 1, learned = false, byRows = false }: ParameterOptions,
  ): void {
    const { tf } = this.ops;
    const { averageDecay, averageFrom, baseShare } = this.averaging;
    const id = `sentence-jepa/${created++}/${name}`;
    this.ops.tidy(() => {
      // Two, as one would be copied when it first changes.
      const zeros = (): Tensor => tf.zeros(shape);
      const first = tf.tensor(data, shape, 'float32');
      const parameter: Parameter = {
        shape,
        value: tf.keep(this.ops.variable(id, first)),
        m: tf.keep(this.ops.variable(`${id}/m`, zeros())),
        v: tf.keep(this.ops.variable(`${id}/v`, zeros())),
        decays,
        rate,
        byRows,
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

  /** Frees what `narrow` holds. */
  spent(name: string): void {
    const key = `narrow ${name}`;
    this.held.get(key)?.dispose();
    this.held.delete(key);
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

  /**
   * One step of AdamW; disposes of no gradient. What is not updated by rows is to have a gradient in every step.
   */
  update(gradients: Gradients, { learningRate, weightDecay, clip = 1 }: UpdateOptions): void {
    const { tf } = this.ops;
    this.release();
    this.steps++;
    const correction1 = 1 - BETA1 ** this.steps;
    const correction2 = Math.sqrt(1 - BETA2 ** this.steps);
    this.pendingDecay = Math.fround(this.pendingDecay + learningRate * weightDecay);
    const decay = this.pendingDecay >= LEAST_DECAY ? this.pendingDecay : 0;
    if (decay > 0) this.pendingDecay = 0;
    const { beforehand, beta1, beta2 } = this.clipByUnits(clip);
    const { units } = this;
    this.ops.tidy(() => {
      // theta -= rate m^ / (sqrt(v^) + epsilon), m^ and v^ corrected, rearranged for the uncorrected m and v.
      const scalars = (beta1: number, beta2: number, unit: number) => ({
        zero: tf.scalar(0),
        beta1: tf.scalar(beta1),
        beta2: tf.scalar(beta2),
        epsilon: tf.scalar((EPSILON * correction2) / Math.sqrt(unit)),
      });
      const inUnits = scalars(beta1, beta2, units.v);
      const plain = scalars(BETA1, BETA2, 1);
      const shrink = ({ value, decays, rate }: Parameter): void => {
        if (decay > 0 && decays) this.ops.scaleVariable(value, 1 - decay * rate);
      };
      const factorOf = ({ rate }: Parameter): number => (rate * learningRate * correction2) / correction1;
      const times = (gradient: Tensor, factor: number): Tensor =>
        factor === 1 ? gradient : this.ops.mul(gradient, factor);
      for (const [name, gradient] of gradients.whole) {
        const parameter = this.parameter(name);
        const { value, m, v, byRows } = parameter;
        shrink(parameter);
        const rate = factorOf(parameter) * (byRows ? 1 : units.m / Math.sqrt(units.v));
        this.ops.tidy(() => {
          const given = times(gradient, byRows ? clip : beforehand);
          const rest = byRows ? plain : inUnits;
          this.ops.applyAdam(value, m, v, given, { ...rest, learningRate: tf.scalar(rate) });
        });
      }
      for (const [name, part] of gradients.rows) {
        const parameter = this.parameter(name);
        if (!parameter.byRows) throw new Error(`${name}: a gradient by rows was not expected`);
        shrink(parameter);
        const at = tf.tensor1d(part.indices, 'int32');
        const rows = times(part.rows, clip);
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

  /**
   * Multiplying all gradients with `clip` would be a pass over memory of its own, and a copy. Instead m and v are kept
   * in units mu and nu, which change so that what Adam's kernel makes of the gradient g as it is, with another beta b,
   * is the average that is due:
   *
   *   m = mu M,  mu' (b M + (1 - b) g) = beta1 mu M + (1 - beta1) clip g  for  mu' = beta1 mu + (1 - beta1) clip,  b = beta1 mu / mu'
   *
   * and v the same with clip^2. What is updated by rows has units of 1: the rows that are left alone would have to follow.
   *
   * @returns the betas for a gradient that is multiplied with `beforehand` alone
   */
  private clipByUnits(clip: number): { beforehand: number; beta1: number; beta2: number } {
    // Before the first step there is nothing in m and v, whatever their units.
    const { m, v } = this.steps === 1 && clip > 0 ? { m: clip, v: clip ** 2 } : this.units;
    // fp32 rounds 1 - b by up to 3e-8, which for a gradient far longer than those before it would be much of 1 - b.
    const usual = Math.sqrt(v);
    const isSpike = SPIKE * clip < usual;
    const rest = isSpike ? usual : clip;
    this.units = {
      m: Math.fround(BETA1 * m + (1 - BETA1) * rest),
      v: Math.fround(BETA2 * v + (1 - BETA2) * rest ** 2),
    };
    return {
      beforehand: isSpike ? clip / usual : 1,
      beta1: (BETA1 * m) / this.units.m,
      beta2: (BETA2 * v) / this.units.v,
    };
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
    state.set(COUNTS, {
      shape: [4],
      read: () => [Float32Array.of(this.steps, this.pendingDecay, this.units.m, this.units.v)],
    });
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
    const takeCounts = ([steps, pendingDecay, m, v]: Float32Array): void => {
      this.steps = steps;
      this.pendingDecay = pendingDecay;
      this.units = { m, v };
    };
    awaited.set(COUNTS, { shape: [4], take: takeCounts });
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
