import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { averageRanks, pearson, sortedOrder, spearman } from '../../evaluation/correlation.js';
import { closeTo } from './support.js';

describe('pearson', () => {
  it('gives a worked example', () => {
    // dx = -1, 0, 1; dy = -10/3, 2/3, 8/3; 6 / sqrt(2 * 168/9)
    closeTo(pearson([1, 2, 3], [1, 5, 7]), 6 / Math.sqrt((2 * 168) / 9));
  });
  it('is 1 and -1 on a line, 0 when a side is constant', () => {
    closeTo(pearson([1, 2, 4], [3, 5, 9]), 1);
    closeTo(pearson([1, 2, 4], [-3, -5, -9]), -1);
    closeTo(pearson([1, 2, 4], [5, 5, 5]), 0);
  });
  it('counts a value as often as its weight says', () => {
    closeTo(
      pearson([1, 2, 3, 9], [1, 5, 7, 0], [2, 1, 3, 0]),
      pearson([1, 1, 2, 3, 3, 3], [1, 1, 5, 7, 7, 7]),
    );
  });
});

describe('spearman', () => {
  it('gives the worked example of Wikipedia (IQ and hours of TV): -29/165', () => {
    const iq = [106, 100, 86, 101, 99, 103, 97, 113, 112, 110];
    const hours = [7, 27, 2, 50, 28, 29, 20, 12, 6, 17];
    closeTo(spearman(iq, hours), -29 / 165);
  });
  it('gives equal values their average rank, as SciPy does: 0.9486832980505138', () => {
    closeTo(spearman([1, 2, 2, 3], [1, 3, 2, 4]), 0.9486832980505138);
  });
  it('sees only the order', () => {
    closeTo(spearman([0.1, 0.2, 0.3, 0.4], [1, 10, 100, 1000]), 1);
  });
});

describe('average ranks', () => {
  const ranks = (values: number[], weights?: number[]): number[] => [
    ...averageRanks(values, sortedOrder(values), weights),
  ];
  it('start at 1 and are shared by equal values', () => {
    assert.deepEqual(ranks([30, 10, 20, 10]), [4, 1.5, 3, 1.5]);
  });
  it('of a value that occurs several times are those of its copies', () => {
    // 10, 20, 20, 20, 30
    assert.deepEqual(ranks([30, 10, 20], [1, 1, 3]), [5, 1, 3]);
  });
});
