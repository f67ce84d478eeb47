/** Tell the random numbers of each head's first values from those of the others and of the batches. */
export const SEEDS = { expander: 1, mlm: 8, predictor: 20, decoder: 21, rtd: 22, edits: 23 } as const;
