/** The k highest-scored items of a stream, in O(n log k): a binary heap with the worst on top. */
export class TopK<T> {
  private readonly scores: number[] = [];
  private readonly items: T[] = [];

  /** @param k 1 and up */
  constructor(private readonly k: number) {}

  /** A score must be above this to be kept: lets a loop skip `offer` for most rows. */
  get floor(): number {
    return this.scores.length < this.k ? -Infinity : this.scores[0];
  }

  offer(score: number, item: T): void {
    if (this.scores.length < this.k) {
      this.scores.push(score);
      this.items.push(item);
      this.siftUp(this.scores.length - 1);
    } else if (score > this.scores[0]) {
      this.scores[0] = score;
      this.items[0] = item;
      this.siftDown();
    }
  }

  /** Best first; equal scores in the order of `compare`, so that a ranking does not depend on the heap. */
  sorted(compare: (a: T, b: T) => number): { item: T; score: number }[] {
    return this.items
      .map((item, i) => ({ item, score: this.scores[i] }))
      .sort((a, b) => b.score - a.score || compare(a.item, b.item));
  }

  private siftUp(i: number): void {
    for (let parent = (i - 1) >> 1; i > 0 && this.scores[i] < this.scores[parent]; parent = (i - 1) >> 1) {
      this.swap(i, parent);
      i = parent;
    }
  }

  private siftDown(): void {
    const n = this.scores.length;
    for (let i = 0; ;) {
      const left = 2 * i + 1;
      let least = i;
      if (left < n && this.scores[left] < this.scores[least]) least = left;
      if (left + 1 < n && this.scores[left + 1] < this.scores[least]) least = left + 1;
      if (least === i) return;
      this.swap(i, least);
      i = least;
    }
  }

  private swap(i: number, j: number): void {
    [this.scores[i], this.scores[j]] = [this.scores[j], this.scores[i]];
    [this.items[i], this.items[j]] = [this.items[j], this.items[i]];
  }
}
