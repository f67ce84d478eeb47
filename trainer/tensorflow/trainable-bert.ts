import { UserError } from '../../base/errors.js';
import { Random } from '../../base/random.js';
import type { BertConfig } from '../../encoder/bert.js';
import type { Pooling } from '../../encoder/model-folder.js';
import { normalizeRows } from '../../encoder/pooling.js';
import type { Tensor as StoredTensor } from '../../encoder/safetensors.js';
import { embeddingDiagnostics } from '../../evaluation/diagnostics.js';
import { join } from '../packing.js';
import type { Recipe } from '../recipe.js';
import type { HostTensor, PackedBatch, StepReport, TrainableEncoder } from '../types.js';
import { bertBackward, bertForward, poolBackward, poolForward, toDevice } from './bert.js';
import { expand, expandBackward, expanderParameters, type ExpanderShape } from './expander.js';
import { Dropout } from './layers.js';
import { loadTensorFlow } from './load.js';
import { Ops, type Tensor } from './ops.js';
import { Gradients, Parameters } from './parameters.js';
import { vicreg } from './vicreg.js';

export interface TrainableOptions {
  config: BertConfig;
  /** Under the names of bertTensors. */
  weights: ReadonlyMap<string, StoredTensor>;
  pooling: Pooling;
  recipe: Recipe;
  /** Cores to compute with; all when left out. Fixed by the first call in a process. */
  threads?: number;
}

/** BERT with an expander under VICReg, on TensorFlow. @throws UserError `unavailable` without TensorFlow */
export async function openTrainable(options: TrainableOptions): Promise<TrainableEncoder> {
  return new TrainableBert(
    new Ops(await loadTensorFlow({ threads: options.threads }), options.recipe.precision),
    options,
  );
}

class TrainableBert implements TrainableEncoder {
  private readonly parameters: Parameters;
  private readonly config: BertConfig;
  private readonly pooling: Pooling;
  private readonly recipe: Recipe;
  private readonly expander: ExpanderShape;
  private readonly weight = (name: string): Tensor => this.parameters.value(name);

  constructor(
    private readonly ops: Ops,
    { config, weights, pooling, recipe }: TrainableOptions,
  ) {
    const { dropout } = recipe;
    this.config =
      dropout === 'model' ? config : { ...config, hiddenDropout: dropout, attentionDropout: dropout };
    this.pooling = pooling;
    this.recipe = recipe;
    this.expander = { input: config.hiddenSize, widths: recipe.expander, bias: recipe.expanderBias };
    this.parameters = new Parameters(ops);
    const expanderRate = recipe.expanderLearningRate / recipe.learningRate;
    const add = (tensors: ReadonlyMap<string, HostTensor>, rate: number): void => {
      for (const [name, tensor] of tensors) this.parameters.add(name, tensor, tensor.shape.length > 1, rate);
    };
    add(fuseQkv(weights, config.layers), 1);
    add(expanderParameters(this.expander, new Random(recipe.seed, EXPANDER)), expanderRate);
  }

  async step(
    views: [PackedBatch, PackedBatch],
    { learningRate, seed }: { learningRate: number; seed: number },
  ): Promise<StepReport> {
    const { ops, config, weight, expander, recipe } = this;
    const { tf } = ops;
    const n = views[0].offsets.length - 1;
    const gradients = new Gradients(ops);
    try {
      return ops.tidy(() => {
        // Both views in one pass: the larger a matrix product, the better it keeps the cores busy.
        const batch = toDevice(ops, join(...views), config);
        const { hidden, saved } = bertForward(ops, config, weight, batch, new Dropout(ops, seed));
        const pooled = poolForward(ops, hidden, batch, this.pooling);
        hidden.dispose();

        const [h, other] = tf.split(pooled, 2);
        const x = expand(ops, expander, weight, h);
        const y = expand(ops, expander, weight, other);
        const { terms, gradients: dz } = vicreg(ops, [x.z, y.z], recipe);
        const loss = terms.invariance + terms.variance + terms.covariance;
        if (!Number.isFinite(loss))
          throw new UserError(
            'backend',
            `the loss is ${loss}: expected a finite number; a lower learning rate (--set learningRate=...) or a clip (--set clip=1) keeps it so`,
          );

        const dh = expandBackward(ops, expander, weight, x.saved, dz[0], gradients);
        const dOther = expandBackward(ops, expander, weight, y.saved, dz[1], gradients);
        const dHidden = poolBackward(ops, tf.concat([dh, dOther]), batch, this.pooling);
        bertBackward(ops, config, weight, batch, saved, dHidden, gradients);

        const gradientNorm = gradients.norm();
        if (recipe.clip > 0 && gradientNorm > recipe.clip) gradients.scale(recipe.clip / gradientNorm);
        this.parameters.update(gradients, { learningRate, weightDecay: recipe.weightDecay });
        return { loss, terms, ...spread(h, n), gradientNorm, tokens: batch.tokens };
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

/** Tells the expander's random numbers from those of the batches. */
const EXPANDER = 1;

/** Signs of collapse in the batch's vectors [n, d], scaled to length 1. */
function spread(h: Tensor, n: number): Pick<StepReport, 'std' | 'effectiveRank'> {
  const data = h.dataSync<'float32'>().slice();
  const d = data.length / n;
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

/** The encoder's tensors as they are stored: the expander's left out, query, key and value apart. */
export function splitQkv(
  parameters: ReadonlyMap<string, HostTensor>,
  { layers }: BertConfig,
): Map<string, HostTensor> {
  const weights = new Map([...parameters].filter(([name]) => !name.startsWith('expander.')));
  for (let layer = 0; layer < layers; layer++)
    for (const kind of ['weight', 'bias']) {
      const name = `${selfAttention(layer)}.qkv.${kind}`;
      const { shape, data } = weights.get(name)!;
      weights.delete(name);
      const size = data.length / 3;
      PARTS.forEach((part, i) =>
        weights.set(`${selfAttention(layer)}.${part}.${kind}`, {
          shape: [shape[0] / 3, ...shape.slice(1)],
          data: data.slice(i * size, (i + 1) * size),
        }),
      );
    }
  return weights;
}
