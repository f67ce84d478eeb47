/**
 * The k best items of a stream, in O(n log k): a binary heap with the worst on top. What is best does not depend on the
 * order they come in, also where scores are equal, so that the first of a longer ranking are the shorter one.
 */
export class TopK<T> {
  private readonly scores: number[] = [];
  private readonly items: T[] = [];

  /**
   * @param k 1 and up
   * @param compare which of two with equal scores comes first; 0 for the same item alone
   */
  constructor(
    private readonly k: number,
    private readonly compare: (a: T, b: T) => number,
  ) {}

  /** A score below this is not kept: lets a loop skip `offer` for most rows. */
  get floor(): number {
    return this.scores.length < this.k ? -Infinity : this.scores[0];
  }

  offer(score: number, item: T): void {
    if (this.scores.length < this.k) {
      this.scores.push(score);
      this.items.push(item);
      this.siftUp(this.scores.length - 1);
    } else if (
      score > this.scores[0] ||
      (score === this.scores[0] && this.compare(item, this.items[0]) < 0)
    ) {
      this.scores[0] = score;
      this.items[0] = item;
      this.siftDown();
    }
  }

  /** Best first. */
  sorted(): { item: T; score: number }[] {
    return this.items
      .map((item, i) => ({ item, score: this.scores[i] }))
      .sort((a, b) => b.score - a.score || this.compare(a.item, b.item));
  }

  private isWorse(i: number, j: number): boolean {
    const difference = this.scores[i] - this.scores[j];
    return difference < 0 || (difference === 0 && this.compare(this.items[i], this.items[j]) > 0);
  }

  private siftUp(i: number): void {
    for (let parent = (i - 1) >> 1; i > 0 && this.isWorse(i, parent); parent = (i - 1) >> 1) {
      this.swap(i, parent);
      i = parent;
    }
  }

  private siftDown(): void {
    const n = this.scores.length;
    for (let i = 0; ;) {
      const left = 2 * i + 1;
      let worst = i;
      if (left < n && this.isWorse(left, worst)) worst = left;
      if (left + 1 < n && this.isWorse(left + 1, worst)) worst = left + 1;
      if (worst === i) return;
      this.swap(i, worst);
      i = worst;
    }
  }

  private swap(i: number, j: number): void {
    [this.scores[i], this.scores[j]] = [this.scores[j], this.scores[i]];
    [this.items[i], this.items[j]] = [this.items[j], this.items[i]];
  }
}
