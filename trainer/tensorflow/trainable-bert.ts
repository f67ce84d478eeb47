import { UserError } from '../../base/errors.js';
import { Random } from '../../base/random.js';
import type { BertConfig } from '../../encoder/bert.js';
import type { Pooling } from '../../encoder/model-folder.js';
import { normalizeRows } from '../../encoder/pooling.js';
import type { Tensor as StoredTensor, TensorSource } from '../../encoder/safetensors.js';
import { embeddingDiagnostics } from '../../evaluation/diagnostics.js';
import { cut, join, pack } from '../packing.js';
import type { Recipe } from '../recipe.js';
import { firstOfLast } from '../schedule.js';
import type {
  HostTensor,
  NamedTensors,
  PackedBatch,
  StepReport,
  TrainableEncoder,
  TrainingBatch,
} from '../types.js';
import {
  bertBackward,
  bertForward,
  bertPooled,
  bertVectors,
  poolBackward,
  poolForward,
  toDevice,
  WORDS,
  type Weights,
} from './bert.js';
import { openCompiler } from './compiler.js';
import { fuseQkv, splitQkv } from './fused-qkv.js';
import { Dropout } from './layers.js';
import { loadTensorFlow } from './load.js';
import type { Objective, ObjectiveStep, ObjectiveWeights } from './objectives/objective.js';
import { openObjective } from './objectives/open.js';
import { Ops, type Tensor } from './ops.js';
import { Gradients, Parameters } from './parameters.js';
import { choosePrecision } from './probe-precision.js';

export interface TrainableOptions {
  config: BertConfig;
  /** Under the names of bertTensors. */
  weights: ReadonlyMap<string, StoredTensor>;
  pooling: Pooling;
  recipe: Recipe;
  /** How many there will be, for what the recipe says a share of. */
  steps?: number;
  /** Cores to compute with; all when left out. Fixed by the first call in a process. */
  threads?: number;
}

/** A batch goes through the encoder in chunks when its activations would take more memory than this. */
const MOST_ACTIVATIONS = 2 * 2 ** 30;
/** Of a chunk then. */
const CHUNK_ACTIVATIONS = 2 ** 27;

/**
 * BERT with the recipe's objective on it, on TensorFlow.
 *
 * @throws UserError `unavailable` without TensorFlow; `usage` for chunks with an objective that they are not for
 */
export async function openTrainable(options: TrainableOptions): Promise<TrainableEncoder> {
  const tf = await loadTensorFlow({ threads: options.threads });
  const precision = choosePrecision(tf, options.recipe.precision);
  return new TrainableBert(new Ops(tf, precision, openCompiler(tf, precision)), options);
}

class TrainableBert implements TrainableEncoder {
  private readonly parameters: Parameters;
  private readonly config: BertConfig;
  private readonly pooling: Pooling;
  private readonly recipe: Recipe;
  private readonly objective: Objective;
  /** Those that the optimizer moves, with the averages behind them. */
  private readonly weight: ObjectiveWeights & Weights = Object.assign(
    (name: string) => this.parameters.value(name),
    {
      rows: (name: string, indices: Tensor) => this.parameters.rows(name, indices),
      narrow: (name: string) => this.parameters.narrow(name),
      spent: (name: string) => this.parameters.spent(name),
      average: (name: string) => this.parameters.average(name),
    },
  );
  private readonly average: Weights = Object.assign((name: string) => this.parameters.average(name), {
    rows: (name: string, indices: Tensor) => this.parameters.averageRows(name, indices),
  });
  /** Those that are measured and exported. */
  private readonly settled: Weights = Object.assign((name: string) => this.parameters.settled(name), {
    rows: (name: string, indices: Tensor) => this.parameters.settledRows(name, indices),
  });

  constructor(
    private readonly ops: Ops,
    options: TrainableOptions,
  ) {
    const { config, weights, pooling, recipe, steps = 0 } = options;
    const { dropout } = recipe;
    this.config =
      dropout === 'model' ? config : { ...config, hiddenDropout: dropout, attentionDropout: dropout };
    this.pooling = pooling;
    this.recipe = recipe;
    this.objective = openObjective(ops, recipe, { config: this.config, pooling });
    if (recipe.chunk > 0 && !this.objective.onPooled)
      throw new UserError(
        'usage',
        `--set chunk: expected 0 for --objective ${recipe.objective}, found ${recipe.chunk}; it looks at hidden states, and only what looks at pooled vectors alone can be computed in chunks`,
      );
    const { averageDecay, averageLast, baseShare } = recipe;
    const averageFrom = averageLast > 0 ? firstOfLast(averageLast, steps) : 0;
    this.parameters = new Parameters(ops, { averageDecay, averageFrom, baseShare });
    const decays = ({ shape }: HostTensor): boolean => shape.length > 1;
    for (const [name, tensor] of fuseQkv(weights, config.layers)) {
      const rate = recipe.layerDecay ** layersAbove(name, config.layers);
      const byRows = name === WORDS;
      this.parameters.add(name, tensor, { decays: decays(tensor), rate, learned: true, byRows });
    }
    const rate = recipe.expanderLearningRate / recipe.learningRate;
    for (const [name, tensor] of this.objective.parameters())
      this.parameters.add(name, tensor, { decays: decays(tensor), rate });
  }

  async step(fed: TrainingBatch, { learningRate }: { learningRate: number }): Promise<StepReport> {
    const { ops, recipe } = this;
    const gradients = new Gradients(ops);
    try {
      return ops.tidy(() => {
        // All of it in one pass: the larger a matrix product, the better it keeps the cores busy.
        const texts = fed.negatives ? [...fed.views, fed.negatives] : fed.views;
        const whole = join(...texts);
        const chunks = this.chunksOf(texts);
        const made =
          chunks.length > 1 ? this.inChunks(chunks, fed, gradients) : this.atOnce(whole, fed, gradients);
        const { terms, vectors, measures, loss } = made;
        const gradientNorm = gradients.norm();
        const clip = recipe.clip > 0 && gradientNorm > recipe.clip ? recipe.clip / gradientNorm : 1;
        this.parameters.update(gradients, { learningRate, weightDecay: recipe.weightDecay, clip });
        const report = { loss, terms, ...spread(vectors), gradientNorm, tokens: whole.ids.length };
        return measures ? { ...report, measures } : report;
      });
    } finally {
      gradients.dispose();
    }
  }

  private atOnce(packed: PackedBatch, fed: TrainingBatch, gradients: Gradients): StepMade {
    const { ops, config, weight } = this;
    const batch = toDevice(ops, packed, config);
    const { hidden, saved } = bertForward(ops, config, weight, batch, new Dropout(ops, fed.seed));
    const made = withLoss(this.objective.step(hidden, batch, fed, weight, gradients));
    hidden.dispose();
    bertBackward(ops, config, weight, batch, saved, made.dHidden, gradients);
    return made;
  }

  /**
   * The same gradients with the activations of one chunk at a time (GradCache, Gao et al. 2021, arXiv 2101.06983):
   * the chunks go through the encoder, and their pooled vectors are kept; the objective sees the whole batch, batch
   * norm included, and gives the gradient for each pooled vector; then each chunk goes through again, its dropout as
   * before, and back. A third more work. What the target encoder makes of a chunk is as it is: nothing goes back.
   */
  private inChunks(chunks: readonly Chunk[], fed: TrainingBatch, gradients: Gradients): StepMade {
    const { ops, config, weight, pooling } = this;
    const { tf } = ops;
    const dropoutOf = (chunk: number): Dropout => new Dropout(ops, new Random(fed.seed, chunk).uint32());
    const pooled = chunks.map(({ packed, isTarget }, i) =>
      ops.tidy(() => {
        if (isTarget) return bertPooled(ops, config, this.average, packed, pooling);
        const batch = toDevice(ops, packed, config);
        const { hidden } = bertForward(ops, config, weight, batch, dropoutOf(i), false);
        return poolForward(ops, hidden, batch, pooling);
      }),
    );
    const made = ops.tidy(() => {
      const all = tf.concat(pooled);
      ops.free(pooled);
      // Whose pooled vector is its one hidden state.
      const single = pack(Array.from({ length: all.shape[0] }, () => Int32Array.of(0)));
      return withLoss(
        this.objective.step(all, toDevice(ops, single, config, { fill: false }), fed, weight, gradients),
      );
    });
    const sizes = chunks.map(({ packed: { offsets } }) => offsets.length - 1);
    const dPooled = tf.split(made.dHidden, sizes);
    chunks.forEach(({ packed, isTarget }, i) => {
      if (isTarget) return;
      ops.tidy(() => {
        const batch = toDevice(ops, packed, config);
        const { hidden, saved } = bertForward(ops, config, weight, batch, dropoutOf(i));
        hidden.dispose();
        const dHidden = poolBackward(ops, dPooled[i], batch, pooling);
        bertBackward(ops, config, weight, batch, saved, dHidden, gradients);
      });
    });
    return made;
  }

  /** One chunk where the whole fits: that is a quarter faster. The target encoder's view is apart. */
  private chunksOf(views: readonly PackedBatch[]): Chunk[] {
    if (this.recipe.targetEncoder === 'same') return this.cut(join(...views));
    const [learned, ...target] = views;
    return [
      ...this.cut(learned),
      ...this.cut(join(...target)).map((chunk) => ({ ...chunk, isTarget: true })),
    ];
  }

  private cut(packed: PackedBatch): Chunk[] {
    const { chunk } = this.recipe;
    const { layers, hiddenSize, intermediateSize } = this.config;
    const bytes = 4 * layers * (11 * hiddenSize + 3 * intermediateSize);
    const fits = !this.objective.onPooled || packed.ids.length * bytes <= MOST_ACTIVATIONS;
    if (chunk === 0 && fits) return [{ packed }];
    return cut(packed, chunk || Math.floor(CHUNK_ACTIVATIONS / bytes)).map((part) => ({ packed: part }));
  }

  async embed(packed: PackedBatch): Promise<Float32Array> {
    return bertVectors(this.ops, this.config, this.settled, packed, this.pooling);
  }

  async weights(): Promise<Map<string, HostTensor>> {
    const isEncoders = (name: string): boolean => /^(embeddings|encoder)\./.test(name);
    return splitQkv(this.parameters.weights(isEncoders), this.config);
  }

  async state(): Promise<Map<string, TensorSource>> {
    return this.parameters.state();
  }

  restore(state: NamedTensors): Promise<void> {
    return this.parameters.restore(state);
  }

  dispose(): void {
    this.parameters.dispose();
  }
}

/** Layers between a tensor's and the pooling: 0 for the last layer's, all of them for the embeddings'. */
function layersAbove(name: string, layers: number): number {
  const [, layer] = /^encoder\.layer\.(\d+)\./.exec(name) ?? [];
  return layer === undefined ? layers : layers - 1 - Number(layer);
}

/** What goes through the encoder at a time. */
interface Chunk {
  packed: PackedBatch;
  /** Through the target encoder. */
  isTarget?: boolean;
}

interface StepMade extends ObjectiveStep {
  loss: number;
}

/** @throws UserError `backend` when the loss is not finite */
function withLoss(made: ObjectiveStep): StepMade {
  const loss = Object.values(made.terms).reduce((sum, term) => sum + term, 0);
  if (!Number.isFinite(loss))
    throw new UserError(
      'backend',
      `the loss is ${loss}: expected a finite number; a lower learning rate (--set learningRate=...) or a clip (--set clip=1) keeps it so`,
    );
  return { ...made, loss };
}

/** Signs of collapse in vectors [n, d], scaled to length 1. */
function spread(vectors: Tensor): Pick<StepReport, 'std' | 'effectiveRank'> {
  const [n, d] = vectors.shape as [number, number];
  const data = vectors.dataSync<'float32'>().slice();
  normalizeRows(data, d);
  const { std, effectiveRank } = embeddingDiagnostics({ data, n, d });
  return { std, effectiveRank };
}
