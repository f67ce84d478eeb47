import { UserError } from '../../base/errors.js';
import { bertTensors, type BertConfig } from '../../encoder/bert.js';
import type { Pooling } from '../../encoder/model-folder.js';
import { normalizeRows } from '../../encoder/pooling.js';
import type { Tensor as StoredTensor } from '../../encoder/safetensors.js';
import { embeddingDiagnostics } from '../../evaluation/diagnostics.js';
import { join } from '../packing.js';
import type { Recipe } from '../recipe.js';
import type { HostTensor, PackedBatch, StepReport, TrainableEncoder, TrainingBatch } from '../types.js';
import { bertBackward, bertForward, poolForward, toDevice, type Weights } from './bert.js';
import { Dropout } from './layers.js';
import { loadTensorFlow } from './load.js';
import { distillObjective } from './objectives/distill.js';
import { mlmObjective } from './objectives/mlm.js';
import type { Objective } from './objectives/objective.js';
import { vicregObjective } from './objectives/vicreg.js';
import { Ops, type Tensor } from './ops.js';
import { Gradients, Parameters } from './parameters.js';

export interface TrainableOptions {
  config: BertConfig;
  /** Under the names of bertTensors. */
  weights: ReadonlyMap<string, StoredTensor>;
  pooling: Pooling;
  recipe: Recipe;
  /** Cores to compute with; all when left out. Fixed by the first call in a process. */
  threads?: number;
}

/** BERT with the recipe's objective on it, on TensorFlow. @throws UserError `unavailable` without TensorFlow */
export async function openTrainable(options: TrainableOptions): Promise<TrainableEncoder> {
  return new TrainableBert(
    new Ops(await loadTensorFlow({ threads: options.threads }), options.recipe.precision),
    options,
  );
}

function objectiveOf(ops: Ops, { recipe, config, pooling }: TrainableOptions): Objective {
  switch (recipe.objective) {
    case 'vicreg':
      return vicregObjective(ops, recipe, { dimensions: config.hiddenSize, pooling });
    case 'distill':
      return distillObjective(ops, recipe, pooling);
    case 'mlm':
      return mlmObjective(ops, recipe, { config, pooling });
  }
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
    this.objective = objectiveOf(ops, options);
    this.parameters = new Parameters(ops);
    const add = (tensors: ReadonlyMap<string, HostTensor>, rate: number): void => {
      for (const [name, tensor] of tensors) this.parameters.add(name, tensor, tensor.shape.length > 1, rate);
    };
    add(fuseQkv(weights, config.layers), 1);
    add(this.objective.parameters(), recipe.expanderLearningRate / recipe.learningRate);
  }

  async step(fed: TrainingBatch, { learningRate }: { learningRate: number }): Promise<StepReport> {
    const { ops, config, weight, recipe, objective } = this;
    const gradients = new Gradients(ops);
    try {
      return ops.tidy(() => {
        // All views in one pass: the larger a matrix product, the better it keeps the cores busy.
        const batch = toDevice(ops, join(...fed.views), config);
        const { hidden, saved } = bertForward(ops, config, weight, batch, new Dropout(ops, fed.seed));
        const made = objective.step(hidden, batch, fed, weight, gradients);
        const { terms, dHidden, vectors, measures } = made;
        hidden.dispose();
        const loss = Object.values(terms).reduce((sum, term) => sum + term, 0);
        if (!Number.isFinite(loss))
          throw new UserError(
            'backend',
            `the loss is ${loss}: expected a finite number; a lower learning rate (--set learningRate=...) or a clip (--set clip=1) keeps it so`,
          );
        bertBackward(ops, config, weight, batch, saved, dHidden, gradients);

        const gradientNorm = gradients.norm();
        if (recipe.clip > 0 && gradientNorm > recipe.clip) gradients.scale(recipe.clip / gradientNorm);
        this.parameters.update(gradients, { learningRate, weightDecay: recipe.weightDecay });
        const report = { loss, terms, ...spread(vectors), gradientNorm, tokens: batch.tokens };
        return measures ? { ...report, measures } : report;
      });
    } finally {
      gradients.dispose();
    }
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
