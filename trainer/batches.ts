import { Random } from '../base/random.js';
import type { Tokenizer } from '../encoder/tokenizer.js';
import type { Example } from './data.js';
import { pack } from './packing.js';
import type { Recipe } from './recipe.js';
import type { PackedBatch, View } from './types.js';
import { makeView } from './views.js';

/** Tells the random numbers of the order from those of the views and of dropout. */
const ORDER = 2;
const VIEWS = 3;
const DROPOUT = 4;

/** What one optimizer step is fed. */
export interface TrainingBatch {
  /** Two views of the same examples. */
  views: [PackedBatch, PackedBatch];
  /** For dropout: 32 bits. */
  seed: number;
}

/**
 * The batches of a run. The batch of a step is a function of the examples, the recipe and the step, and of
 * nothing that went before: a run that was cut off goes on as if it had not been.
 *
 * An epoch is a shuffle of all examples; what is left at its end and fills no batch is left out of it.
 */
export class Batches {
  readonly stepsPerEpoch: number;
  private readonly order: Uint32Array;
  private readonly views: View[];
  private epoch = -1;

  /** @param tokenizer cuts off at the recipe's maxTokens */
  constructor(
    private readonly examples: readonly Example[],
    private readonly tokenizer: Tokenizer,
    private readonly recipe: Pick<Recipe, 'batch' | 'seed' | 'views' | 'minCropWords'>,
  ) {
    this.stepsPerEpoch = Math.floor(examples.length / recipe.batch);
    this.order = new Uint32Array(examples.length);
    this.views = recipe.views.map((name) => makeView(name, recipe));
  }

  /** @param step from 1 */
  at(step: number): TrainingBatch {
    const { batch, seed } = this.recipe;
    const epoch = Math.floor((step - 1) / this.stepsPerEpoch);
    const start = ((step - 1) % this.stepsPerEpoch) * batch;
    if (epoch !== this.epoch) this.shuffle(epoch);
    const random = new Random(seed, VIEWS, step);
    const [first, second] = this.views;
    const sequences: [Int32Array[], Int32Array[]] = [[], []];
    for (const index of this.order.subarray(start, start + batch)) {
      const example = this.examples[index];
      const texts =
        example.kind === 'pair'
          ? [example.first, example.second]
          : [first.apply(example.first, random), second.apply(example.second, random)];
      texts.forEach((text, side) => sequences[side].push(this.tokenizer.encode(text)));
    }
    return {
      views: [pack(sequences[0]), pack(sequences[1])],
      seed: new Random(seed, DROPOUT, step).uint32(),
    };
  }

  private shuffle(epoch: number): void {
    for (let i = 0; i < this.order.length; i++) this.order[i] = i;
    new Random(this.recipe.seed, ORDER, epoch).shuffle(this.order);
    this.epoch = epoch;
  }
}
