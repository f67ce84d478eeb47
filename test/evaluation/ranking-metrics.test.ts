import { describe, it } from 'node:test';

import {
  averagePrecision,
  mean,
  ndcg,
  precision,
  recall,
  reciprocalRank,
} from '../../evaluation/ranking-metrics.js';
import { closeTo } from './support.js';

describe('average precision', () => {
  it('is the mean precision at the ranks of the relevant ones', () => {
    closeTo(averagePrecision([1, 0, 1, 0, 0, 1], 3), (1 / 1 + 2 / 3 + 3 / 6) / 3);
  });
  it('counts a relevant document that was not found as 0', () => {
    closeTo(averagePrecision([1, 0, 1], 4), (1 + 2 / 3) / 4);
  });
  it('looks at the first k only', () => {
    closeTo(averagePrecision([0, 1, 1], 2, 2), 1 / 2 / 2);
  });
  it('is 0 when nothing relevant is found', () => {
    closeTo(averagePrecision([0, 0, 0], 1), 0);
  });
});

describe('reciprocal rank', () => {
  it('is 1 / rank of the first relevant one', () => {
    closeTo(reciprocalRank([0, 0, 1, 1]), 1 / 3);
  });
  it('is 0 beyond k, and when nothing relevant is found', () => {
    closeTo(reciprocalRank([0, 0, 1], 2), 0);
    closeTo(reciprocalRank([0, 0]), 0);
  });
});

describe('precision and recall', () => {
  it('divide by k, and by the number of relevant ones', () => {
    closeTo(precision([1, 0, 1, 0, 1], 4), 2 / 4);
    closeTo(recall([1, 0, 1, 0, 1], 6, 4), 2 / 6);
  });
  it('count a ranking shorter than k as if the rest were not relevant', () => {
    closeTo(precision([1], 5), 1 / 5);
  });
  it('take every grade above 0 as relevant', () => {
    closeTo(precision([2, 0.5, 0], 3), 2 / 3);
  });
});

describe('ndcg', () => {
  it('gives the worked example of Wikipedia, "Discounted cumulative gain"', () => {
    closeTo(ndcg([3, 2, 3, 0, 1, 2], [3, 2, 3, 0, 1, 2, 3, 2], 6), 0.785, 5e-4);
  });
  it('is 1 for the ideal ranking, even when there are more relevant ones than k', () => {
    closeTo(ndcg([2, 1], [1, 2, 1, 1], 2), 1);
  });
  it('is 0 when nothing relevant is found', () => {
    closeTo(ndcg([0, 0], [1], 2), 0);
  });
});

describe('mean', () => {
  it('is the sum over the count', () => {
    closeTo(mean([1, 2, 6]), 3);
  });
});
