import { UserError } from '../../base/errors.js';
import { Random } from '../../base/random.js';
import { bertTensors, type BertConfig } from '../../encoder/bert.js';
import type { Pooling } from '../../encoder/model-folder.js';
import { normalizeRows } from '../../encoder/pooling.js';
import type { Tensor as StoredTensor } from '../../encoder/safetensors.js';
import { embeddingDiagnostics } from '../../evaluation/diagnostics.js';
import { cut, join, pack } from '../packing.js';
import type { Recipe } from '../recipe.js';
import type { HostTensor, PackedBatch, StepReport, TrainableEncoder, TrainingBatch } from '../types.js';
import { bertBackward, bertForward, poolBackward, poolForward, toDevice, type Weights } from './bert.js';
import { Dropout } from './layers.js';
import { loadTensorFlow } from './load.js';
import type { Objective, ObjectiveStep } from './objectives/objective.js';
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
  return new TrainableBert(new Ops(tf, choosePrecision(tf, options.recipe.precision)), options);
}

class TrainableBert implements TrainableEncoder {
  private readonly parameters: Parameters;
  private readonly config: BertConfig;
  private readonly pooling: Pooling;
  private readonly recipe: Recipe;
  private readonly objective: Objective;
  private readonly weight: Weights = Object.assign((name: string) => this.parameters.value(name), {
    rows: (name: string, indices: Tensor) => this.parameters.rows(name, indices),
  });

  constructor(
    private readonly ops: Ops,
    options: TrainableOptions,
  ) {
    const { config, weights, pooling, recipe } = options;
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
    this.parameters = new Parameters(ops);
    const add = (tensors: ReadonlyMap<string, HostTensor>, rateOf: (name: string) => number): void => {
      for (const [name, tensor] of tensors)
        this.parameters.add(name, tensor, tensor.shape.length > 1, rateOf(name));
    };
    add(fuseQkv(weights, config.layers), (name) => recipe.layerDecay ** layersAbove(name, config.layers));
    add(this.objective.parameters(), () => recipe.expanderLearningRate / recipe.learningRate);
  }

  async step(fed: TrainingBatch, { learningRate }: { learningRate: number }): Promise<StepReport> {
    const { ops, recipe } = this;
    const gradients = new Gradients(ops);
    try {
      return ops.tidy(() => {
        // All views in one pass: the larger a matrix product, the better it keeps the cores busy.
        const whole = join(...fed.views);
        const chunks = this.chunksOf(whole);
        const made =
          chunks.length > 1 ? this.inChunks(chunks, fed, gradients) : this.atOnce(whole, fed, gradients);
        const { terms, vectors, measures, loss } = made;
        const gradientNorm = gradients.norm();
        if (recipe.clip > 0 && gradientNorm > recipe.clip) gradients.scale(recipe.clip / gradientNorm);
        this.parameters.update(gradients, { learningRate, weightDecay: recipe.weightDecay });
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
   * before, and back. A third more work.
   */
  private inChunks(chunks: readonly PackedBatch[], fed: TrainingBatch, gradients: Gradients): StepMade {
    const { ops, config, weight, pooling } = this;
    const { tf } = ops;
    const dropoutOf = (chunk: number): Dropout => new Dropout(ops, new Random(fed.seed, chunk).uint32());
    const pooled = chunks.map((chunk, i) =>
      ops.tidy(() => {
        const batch = toDevice(ops, chunk, config);
        const { hidden } = bertForward(ops, config, weight, batch, dropoutOf(i), false);
        return poolForward(ops, hidden, batch, pooling);
      }),
    );
    const made = ops.tidy(() => {
      const all = tf.concat(pooled);
      ops.free(pooled);
      // Whose pooled vector is its one hidden state.
      const single = pack(Array.from({ length: all.shape[0] }, () => Int32Array.of(0)));
      return withLoss(this.objective.step(all, toDevice(ops, single, config), fed, weight, gradients));
    });
    const sizes = chunks.map(({ offsets }) => offsets.length - 1);
    const dPooled = tf.split(made.dHidden, sizes);
    chunks.forEach((chunk, i) =>
      ops.tidy(() => {
        const batch = toDevice(ops, chunk, config);
        const { hidden, saved } = bertForward(ops, config, weight, batch, dropoutOf(i));
        hidden.dispose();
        const dHidden = poolBackward(ops, dPooled[i], batch, pooling);
        bertBackward(ops, config, weight, batch, saved, dHidden, gradients);
      }),
    );
    return made;
  }

  /** One chunk where the whole fits: that is a quarter faster. */
  private chunksOf(packed: PackedBatch): PackedBatch[] {
    const { chunk } = this.recipe;
    if (chunk > 0) return cut(packed, chunk);
    const { layers, hiddenSize, intermediateSize } = this.config;
    const bytes = 4 * layers * (11 * hiddenSize + 3 * intermediateSize);
    if (!this.objective.onPooled || packed.ids.length * bytes <= MOST_ACTIVATIONS) return [packed];
    return cut(packed, Math.floor(CHUNK_ACTIVATIONS / bytes));
  }

  async embed(packed: PackedBatch): Promise<Float32Array> {
    const { ops } = this;
    const still = { ...this.config, hiddenDropout: 0, attentionDropout: 0 };
    const pooled = ops.tidy(() => {
      const batch = toDevice(ops, packed, still);
      const { hidden } = bertForward(ops, still, this.weight, batch, new Dropout(ops, 0), false);
      return poolForward(ops, hidden, batch, this.pooling);
    });
    const vectors = pooled.dataSync<'float32'>();
    pooled.dispose();
    return vectors;
  }

  async weights(): Promise<Map<string, HostTensor>> {
    return splitQkv(this.parameters.weights(), this.config);
  }

  async state(): Promise<Map<string, HostTensor>> {
    return this.parameters.state();
  }

  restore(state: Map<string, HostTensor>): void {
    this.parameters.restore(state);
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

const PARTS = ['query', 'key', 'value'];
const selfAttention = (layer: number): string => `encoder.layer.${layer}.attention.self`;

/** Query, key and value of each layer as one dense layer: one large product instead of three. */
export function fuseQkv(weights: ReadonlyMap<string, StoredTensor>, layers: number): Map<string, HostTensor> {
  const fused = new Map<string, HostTensor>(weights);
  for (let layer = 0; layer < layers; layer++)
    for (const kind of ['weight', 'bias']) {
      const parts = PARTS.map((part) => {
        const name = `${selfAttention(layer)}.${part}.${kind}`;
        fused.delete(name);
        return weights.get(name)!;
      });
      const [{ shape, data: first }] = parts;
      const data = new Float32Array(3 * first.length);
      parts.forEach((part, i) => data.set(part.data, i * first.length));
      fused.set(`${selfAttention(layer)}.qkv.${kind}`, { shape: [3 * shape[0], ...shape.slice(1)], data });
    }
  return fused;
}

/** The encoder's tensors as they are stored: a head's left out, query, key and value apart. */
export function splitQkv(
  parameters: ReadonlyMap<string, HostTensor>,
  config: BertConfig,
): Map<string, HostTensor> {
  const weights = new Map<string, HostTensor>();
  for (const [name, shape] of bertTensors(config)) {
    const [, at, part, kind] = /^(.*\.self)\.(query|key|value)\.(weight|bias)$/.exec(name) ?? [];
    if (at === undefined) weights.set(name, parameters.get(name)!);
    else {
      const { data } = parameters.get(`${at}.qkv.${kind}`)!;
      const size = data.length / PARTS.length;
      const from = PARTS.indexOf(part) * size;
      weights.set(name, { shape, data: data.slice(from, from + size) });
    }
  }
  return weights;
}
