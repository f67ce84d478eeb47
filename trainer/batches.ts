import { UserError } from '../base/errors.js';
import { Random } from '../base/random.js';
import type { Example } from './data.js';
import type { HardNegatives } from './hard-negatives.js';
import { viewsOf, type Recipe } from './recipe.js';
import type { View, Viewed } from './types.js';
import { makeView } from './views/make-view.js';
import type { ViewOptions } from './views/transformation.js';
import { wordsOf } from './views/words.js';

/** Tells the random numbers of the order from those of the views. */
const ORDER = 2;
const VIEWS = 3;
const PAIR_ORDER = 26;
const HARD = 28;

/** Examples in an order that is drawn anew each time they are used up. */
class Deck {
  private readonly order: Uint32Array;
  private round = -1;

  constructor(
    readonly examples: readonly Example[],
    /** How many are drawn at a time; what is left at the end of a round and is fewer is left out of it. */
    private readonly count: number,
    private readonly seed: number,
    private readonly stream: number,
  ) {
    this.order = new Uint32Array(examples.length);
  }

  get drawsInRound(): number {
    return Math.floor(this.examples.length / this.count);
  }

  /** @param step from 1 */
  at(step: number): Example[] {
    const round = Math.floor((step - 1) / this.drawsInRound);
    if (round !== this.round) this.shuffle(round);
    const start = ((step - 1) % this.drawsInRound) * this.count;
    return Array.from(this.order.subarray(start, start + this.count), (index) => this.examples[index]);
  }

  private shuffle(round: number): void {
    for (let i = 0; i < this.order.length; i++) this.order[i] = i;
    new Random(this.seed, this.stream, round).shuffle(this.order);
    this.round = round;
  }
}

/**
 * Which texts a run is fed, step by step. The texts of a step are a function of the examples, the recipe and the
 * step, and of nothing that went before: a run that was cut off goes on as if it had not been.
 *
 * An epoch is a shuffle of all examples; what is left at its end and fills no batch is left out of it. With a
 * pairShare, pairs and texts have each their own.
 */
export class Batches {
  readonly stepsPerEpoch: number;
  private readonly decks: Deck[];
  private hardNegatives?: HardNegatives;
  /** Those of the step asked for last: who packs a batch and who wants its vectors ask for the same. */
  private negatives: { step: number; texts: string[] } = { step: 0, texts: [] };
  private readonly views: View[];

  constructor(
    examples: readonly Example[],
    private readonly recipe: Pick<
      Recipe,
      'objective' | 'batch' | 'pairShare' | 'hardNegatives' | 'seed' | 'views'
    > &
      ViewOptions,
  ) {
    this.decks = decksOf(examples, recipe);
    this.stepsPerEpoch = this.decks[0].drawsInRound;
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

  /** From now on batches have the recipe's hardNegatives. */
  harden(hardNegatives: HardNegatives): void {
    this.hardNegatives = hardNegatives;
  }

  /** Texts that the batch's are told from as well, all different. */
  negativesAt(step: number): string[] {
    const { hardNegatives: each, seed } = this.recipe;
    if (!this.hardNegatives || each === 0) return [];
    if (this.negatives.step !== step)
      this.negatives = {
        step,
        texts: this.hardNegatives(this.examplesAt(step), each, new Random(seed, HARD, step)),
      };
    return this.negatives.texts;
  }

  private examplesAt(step: number): Example[] {
    return this.decks.flatMap((deck) => deck.at(step));
  }
}

/** @throws UserError `invalid` for fewer examples than a batch takes */
function decksOf(
  examples: readonly Example[],
  { batch, pairShare, seed }: Pick<Recipe, 'batch' | 'pairShare' | 'seed'>,
): Deck[] {
  const of = (kind: Example['kind']): Example[] => examples.filter((example) => example.kind === kind);
  const [texts, pairs] = [of('text'), of('pair')];
  const mixed = pairShare > 0 && texts.length > 0 && pairs.length > 0;
  const pairCount = Math.min(batch - 1, Math.max(1, Math.round(pairShare * batch)));
  const deck = (drawn: readonly Example[], count: number, stream: number, what: string): Deck => {
    if (drawn.length < count)
      throw new UserError(
        'invalid',
        `expected at least ${count} ${what} for a batch of ${batch}, found ${drawn.length}; a smaller --batch is possible`,
      );
    return new Deck(drawn, count, seed, stream);
  };
  if (mixed && pairShare === 1) return [deck(pairs, batch, ORDER, 'pairs')];
  if (!mixed) return [deck(examples, batch, ORDER, 'texts or pairs')];
  return [deck(texts, batch - pairCount, ORDER, 'texts'), deck(pairs, pairCount, PAIR_ORDER, 'pairs')];
}

function asItIs(text: string): Viewed {
  return { text, edits: [], words: wordsOf(text).length };
}
