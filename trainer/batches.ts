import { Random } from '../base/random.js';
import type { Example } from './data.js';
import { viewsOf, type Recipe } from './recipe.js';
import type { View, Viewed } from './types.js';
import { makeView } from './views/make-view.js';
import type { ViewOptions } from './views/transformation.js';
import { wordsOf } from './views/words.js';

/** Tells the random numbers of the order from those of the views. */
const ORDER = 2;
const VIEWS = 3;

/**
 * Which texts a run is fed, step by step. The texts of a step are a function of the examples, the recipe and the
 * step, and of nothing that went before: a run that was cut off goes on as if it had not been.
 *
 * An epoch is a shuffle of all examples; what is left at its end and fills no batch is left out of it.
 */
export class Batches {
  readonly stepsPerEpoch: number;
  private readonly order: Uint32Array;
  private readonly views: View[];
  private epoch = -1;

  constructor(
    private readonly examples: readonly Example[],
    private readonly recipe: Pick<Recipe, 'objective' | 'batch' | 'seed' | 'views'> & ViewOptions,
  ) {
    this.stepsPerEpoch = Math.floor(examples.length / recipe.batch);
    this.order = new Uint32Array(examples.length);
    this.views = viewsOf(recipe).map((name) => makeView(name, recipe));
  }

  /**
   * @param step from 1
   * @returns the batch's texts, view by view, with what was done to them
   */
  at(step: number): Viewed[][] {
    const random = new Random(this.recipe.seed, VIEWS, step);
    const texts: Viewed[][] = this.views.map(() => []);
    for (const example of this.examplesAt(step)) {
      const { first, second, kind } = example;
      // A pair has two views already, both as they are.
      this.views.forEach((view, i) =>
        texts[i].push(kind === 'pair' ? asItIs([first, second][i]) : view.apply(example, random)),
      );
    }
    return texts;
  }

  /** What the views of the batch were made from, view by view. */
  originalsAt(step: number): string[][] {
    const examples = this.examplesAt(step);
    return this.views.map((_, view) =>
      examples.map(({ first, second, kind }) => (kind === 'pair' ? [first, second][view] : first)),
    );
  }

  private examplesAt(step: number): Example[] {
    const { batch } = this.recipe;
    const epoch = Math.floor((step - 1) / this.stepsPerEpoch);
    const start = ((step - 1) % this.stepsPerEpoch) * batch;
    if (epoch !== this.epoch) this.shuffle(epoch);
    return Array.from(this.order.subarray(start, start + batch), (index) => this.examples[index]);
  }

  private shuffle(epoch: number): void {
    for (let i = 0; i < this.order.length; i++) this.order[i] = i;
    new Random(this.recipe.seed, ORDER, epoch).shuffle(this.order);
    this.epoch = epoch;
  }
}

function asItIs(text: string): Viewed {
  return { text, edits: [], words: wordsOf(text).length };
}
