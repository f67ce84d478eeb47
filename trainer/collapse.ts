import type { Recipe } from './recipe.js';
import type { StepReport } from './types.js';

/** Steps in a row that must show it: one odd batch is no collapse. */
const PATIENCE = 20;
/** Of the highest rank that a batch can have. */
const LEAST_RANK = 0.05;
/** Of the embeddings behind the expander, which begin at a third or more. */
const LEAST_EMBEDDING_STD = 0.2;

type Signs = Pick<StepReport, 'std' | 'effectiveRank' | 'measures'>;

/**
 * Watches for the collapse of embeddings: the pooled vectors all the same point (std), or in a few directions only
 * (effective rank); and, long before those, what the expander makes of them all the same point.
 */
export class CollapseWatch {
  /**
   * @param dimensions of a vector
   * @param steps in a row that have shown it so far
   */
  constructor(
    private readonly recipe: Pick<
      Recipe,
      'objective' | 'batch' | 'collapseStd' | 'lambda' | 'mu' | 'nu' | 'learningRate'
    >,
    private readonly dimensions: number,
    public steps = 0,
  ) {}

  /** @returns why training should stop, and what to change; nothing while all is well */
  observe({ std, effectiveRank, measures }: Signs): string | undefined {
    const { objective, batch, collapseStd, lambda, mu, nu, learningRate } = this.recipe;
    if (collapseStd === 0) return undefined;
    const highest = Math.min(batch - 1, this.dimensions);
    const embeddingStd = measures?.['embeddingStd'] ?? 1;
    const point = std < collapseStd;
    // Of a handful of vectors the rank says nothing.
    const line = highest >= 16 && effectiveRank < Math.max(2, LEAST_RANK * highest);
    const expanded = embeddingStd < LEAST_EMBEDDING_STD;
    this.steps = point || line || expanded ? this.steps + 1 : 0;
    if (this.steps < PATIENCE) return undefined;
    const found = point
      ? `the vectors of a batch have a std * sqrt(d) of ${std.toFixed(3)} (about 1 when they are spread evenly, below ${collapseStd} is collapse)`
      : line
        ? `the vectors of a batch span ${effectiveRank.toFixed(1)} dimensions of the ${highest} they could`
        : `what the expander makes of a batch has a mean std of ${embeddingStd.toFixed(3)} (the loss asks for 1, below ${LEAST_EMBEDDING_STD} is collapse)`;
    // The others have no weight against it.
    const weighted = objective === 'vicreg' || objective === 'distill';
    const cure = !weighted
      ? 'A larger batch (--batch) keeps them apart'
      : point || !line
        ? `A larger variance weight (--set mu=..., it is ${mu}; lambda is ${lambda}) keeps them apart`
        : `A larger covariance weight (--set nu=..., it is ${nu}) keeps dimensions apart`;
    return (
      `the embeddings have collapsed: for ${PATIENCE} steps ${found}. ${cure}; so does a lower learning rate ` +
      `(--set learningRate=..., it is ${learningRate}). --set collapseStd=0 trains on regardless`
    );
  }
}
